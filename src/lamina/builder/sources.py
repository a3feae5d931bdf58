"""--cache-from: images whose history says the same as the Dockerfile stand for the steps that made them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lamina.builder.engine import Engine
from lamina.builder.made import Made
from lamina.builder.state import State
from lamina.errors import InvalidArgument, NotFound
from lamina.image.model import Image, LayerFacts
from lamina.spec.config import RootFS
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform


class CacheImages:
    """The images of --cache-from that are here. As in Docker's classic builder, a step counts as done where the image's history begins
    like that of the image so far and goes on with the step's own entry. With `only`, what was built here counts no more than what these
    images were built from."""

    def __init__(self, engine: Engine, names: Sequence[str], platform: Platform | None = None, *, only: bool = False) -> None:
        self._engine, self.only = engine, only
        self._images: list[Image] = []
        self.absent: list[str] = []
        for name in names:
            try:
                self._images.append(engine.images.resolve(name, platform))
            except (NotFound, InvalidArgument):
                self.absent.append(name)
        self._below = self._ancestors() if only else frozenset()
        self._layers = frozenset(layer for image in self._images for layer in image.layers)

    def counts(self, image: Image) -> bool:
        """Whether what was built here counts as done."""
        return not self.only or image.id in self._below

    def counts_layer(self, layer: LayerFacts | None) -> bool:
        """Whether the layer of a command that ran here before stands for it."""
        return not self.only or (layer is not None and layer.id in self._layers)

    def _ancestors(self) -> frozenset[Digest]:
        """The images, and those that they were built from here."""
        found: set[Digest] = set()
        for image in self._images:
            at: Image | None = image
            while at is not None and at.id not in found:
                found.add(at.id)
                try:
                    at = self._engine.images.resolve(str(at.parent)) if at.parent else None
                except NotFound:
                    at = None
        return frozenset(found)

    def image(self, state: State, made: Made) -> Image | None:
        """What one of the images has for a step, None where none has it."""
        if not made.portable:
            return None
        done = len(state.config.history)
        for image in self._images:
            history = image.config.history
            begun = history[:done] == state.config.history and len(history) > done
            if begun and history[done].created_by == made.created_by and _stands_on(image, state):
                return image if len(history) == done + 1 else self._restored(image, state, made)
        return None

    def _restored(self, image: Image, state: State, made: Made) -> Image:
        """The image between: its layers and history are `image`'s, its configuration the step's."""
        entry = image.config.history[len(state.config.history)]
        count = len(state.layers) + (not entry.empty_layer)
        layers = [self._engine.layers.get(layer) for layer in image.layers[:count]]
        config = msgspec.structs.replace(
            state.config,
            config=made.container,
            created=entry.created,
            author=made.author or state.config.author,
            rootfs=RootFS(diff_ids=tuple(str(facts.diff_id) for facts in layers)),
            history=(*state.config.history, entry),
        )
        return self._engine.images.create(config, layers, parent=state.image.id if state.image else None, intermediate=True)


def _stands_on(image: Image, state: State) -> bool:
    return image.layers[: len(state.layers)] == tuple(facts.id for facts in state.layers)
