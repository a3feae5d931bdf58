"""Making an image whose upper layers are one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from lamina.errors import Conflict, InvalidArgument
from lamina.explore.model import Subject
from lamina.image.layers import Layers
from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.image.store import Images
from lamina.snapshot.protocol import TarSource
from lamina.spec.config import History, ImageConfig, RootFS
from lamina.spec.reference import Reference
from lamina.worker import Workers


class Squasher:
    """Thread-safe."""

    def __init__(self, images: Images, layers: Layers, workers: Workers) -> None:
        self._images, self._layers, self._workers = images, layers, workers

    def squash(self, subject: Subject, base: Subject | None, names: Sequence[Reference]) -> Image:
        """An image that shows what the subject shows, of the base's layers and one more (without a base: of one).

        The same image gives the same ID again. The configuration is kept, the history too, with its layers' steps empty.

        Raises:
            InvalidArgument: the base is not a base of it, or a container is meant.
            Conflict: there is nothing to squash.
        """
        image = subject.image
        if image is None or any(each and (each.container or each.snapshot) for each in (subject, base)):
            raise InvalidArgument("a container cannot be squashed", hint="commit it first")
        kept = base.layers if base else ()
        if subject.layers[: len(kept)] != tuple(kept):
            raise InvalidArgument(f"{subject.name} is not built on {base.name if base else ''}")
        count = len(subject.layers) - len(kept)
        if count < 2:
            raise Conflict(f"nothing to squash in {subject.name}: it has {count} layer{'s' * (count != 1)} above its base")
        with self._images.leases.hold(image.id, *subject.layers):
            chain = self._layers.chain(kept[-1]) if kept else ()
            facts = self._made(subject, base, LayerNote(image.config.created, "", _remark(subject, count)))
            config = squashed(image.config, len(kept), facts, _remark(subject, count))
            return self._images.create(config, [*chain, facts], names=names)

    def _made(self, subject: Subject, base: Subject | None, note: LayerNote) -> LayerFacts:
        """The one layer."""
        below = list(base.described) if base else []
        with self._layers.staging() as scratch:
            path = os.path.join(scratch, "squashed.tar")
            with open(path, "xb") as file:
                self._workers.run("lamina.explore.squash:job", {"a": below, "b": list(subject.described)}, [file.fileno()])
            with open(path, "rb") as file:
                staged = self._layers.stage(TarSource(file.fileno()), scratch)
            os.unlink(path)
            return self._layers.register(staged, base.layers[-1] if base and base.layers else None, note)


def squashed(config: ImageConfig, kept: int, facts: LayerFacts, remark: str) -> ImageConfig:
    """The configuration with its layers above the lowest `kept` replaced by one."""
    steps: list[History] = []
    layers = 0
    for step in config.history:
        layers += not step.empty_layer
        steps.append(step if step.empty_layer or layers <= kept else msgspec.structs.replace(step, empty_layer=True))
    steps.append(History(created=config.created, comment=remark))
    rootfs = RootFS(diff_ids=(*config.rootfs.diff_ids[:kept], str(facts.diff_id)))
    return msgspec.structs.replace(config, rootfs=rootfs, history=tuple(steps))


def _remark(subject: Subject, count: int) -> str:
    return f"squashed {count} layers of {subject.image_id}"
