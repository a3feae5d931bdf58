"""--cache-from: images whose history says the same as the Dockerfile stand for the steps that made them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lamina.builder.engine import Engine
from lamina.builder.made import Made
from lamina.builder.state import State
from lamina.errors import InvalidArgument, NotFound
from lamina.image.model import Image
from lamina.spec.config import RootFS


class CacheImages:
    """The images of --cache-from that are here. As in Docker's classic builder, a step counts as done where the image's history begins
    like that of the image so far and goes on with the step's own entry."""

    def __init__(self, engine: Engine, names: Sequence[str]) -> None:
        self._engine = engine
        self._images: list[Image] = []
        self.absent: list[str] = []
        for name in names:
            try:
                self._images.append(engine.images.resolve(name))
            except (NotFound, InvalidArgument):
                self.absent.append(name)

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
