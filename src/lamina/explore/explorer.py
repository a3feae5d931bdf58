"""What can be asked about layers people see: `engine.explorer`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from lamina.container.containers import Containers
from lamina.container.snapshots import Snapshot
from lamina.explore.answers import Answer, Answers, forget_other_boots
from lamina.explore.model import LayerRow, Subject
from lamina.explore.mounts import Mounts
from lamina.explore.squashing import Squasher
from lamina.explore.subjects import Subjects
from lamina.image.layers import Layers
from lamina.image.model import Image, ImageNotFound
from lamina.image.paths import clean
from lamina.image.store import Images
from lamina.linux.channel import decode
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.worker import Workers


class Explorer:
    """Questions about images' and containers' layers. Thread-safe: the loops run in workers, these methods wait.

    Below `root`, `cache/` keeps answers that cannot change and lists of paths, `mounts/` what is mounted on the host.
    """

    def __init__(self, images: Images, layers: Layers, containers: Containers, workers: Workers, root: str, *, boot: str = "") -> None:
        """`boot` is this boot of the machine: what another one wrote is not kept."""
        directory = f"{root}/cache"
        forget_other_boots(directory, boot)
        self._images, self._layers = images, layers
        self._subjects = Subjects(images, layers, containers)
        self._answers = Answers(f"{directory}/answers", workers)
        self._squasher = Squasher(images, layers, workers)
        self.mounts = Mounts(f"{root}/mounts", images, layers, images.leases, workers)
        self._paths = f"{directory}/paths"
        os.makedirs(self._paths, mode=0o700, exist_ok=True)
        known = set(layers.driver.names())
        for name in os.listdir(self._paths):
            if name not in known:
                os.unlink(f"{self._paths}/{name}")

    def subject(self, text: str) -> Subject:
        """The image or container that `text` names. See `Subjects.find`."""
        return self._subjects.find(text)

    def images_alone(self, text: str) -> AbstractContextManager[None]:
        """See `Subjects.images_alone`."""
        return self._subjects.images_alone(text)

    def snapshot(self, snapshot: Snapshot) -> Subject:
        """A snapshot, whose container may be gone."""
        return self._subjects.of_snapshot(snapshot)

    def layers(self, subject: Subject) -> Sequence[LayerRow]:
        """Its layers, base first; a container's writable layer is the last."""
        counted = msgspec.json.decode(self._ask("survey", [subject], {}).read())
        return [
            LayerRow(facts, each["added"], each["modified"], each["deleted"], each["size"], each["hidden"])
            for facts, each in zip(subject.facts, counted, strict=True)
        ]

    def which(self, subject: Subject, path: str) -> Mapping[str, Any]:
        """Which layer gave a path of a container or a snapshot; see `which.job`."""
        found: Mapping[str, Any] = decode(self._ask("which", [subject], {"path": os.fsdecode(clean(path))}).read())
        return found

    def blame(self, subject: Subject, path: str = "/", *, form: str = "json", depth: int = 0, whole: bool = False) -> Answer:
        """Every entry from `path` on with the layer that last touched it; see `blame.job` for the forms.

        Raises:
            PathNotFound: nothing is there.
        """
        more = {"layers": _named(subject), "path": path, "form": form, "depth": depth, "whole": whole}
        return self._ask("blame", [subject], more)

    def diff(
        self, a: Subject, b: Subject, path: str = "/", *, form: str = "json", whole: bool = False, contents: bool = True, new: bool = False
    ) -> Answer:
        """What differs from `a` to `b`, at `path` and below: files, contents, packages and configuration; see `difference.job`.

        Raises:
            PathNotFound: neither has `path`.
        """
        names = [{"id": each.id, "name": each.name, "names": list(each.names)} for each in (a, b)]
        more = {"names": names, "config": _config(a, b), "path": path, "form": form, "whole": whole, "contents": contents, "new": new}
        return self._ask("difference", [a, b], more)

    def find(self, pattern: str, *, regex: bool = False, fold: bool = False, form: str = "json", whole: bool = False) -> Answer:
        """Which images show a path that matches `pattern`, and which layer gives it; see `find.job`.

        Raises:
            InvalidArgument: it is not a pattern.
        """
        known: dict[Digest, Mapping[str, Any]] = {}
        listed = self._images.list()
        with self._images.leases.hold(*{layer for image in listed for layer in image.layers}):
            here = [image for image in listed if self._is_here(image)]
            subjects = [self._subjects.of_image(image, known) for image in here]
            images = [{"id": str(image.id), "names": [name.familiar for name in image.names]} for image in here]
            more = {"pattern": pattern, "regex": regex, "fold": fold, "images": images, "paths": self._paths, "form": form, "whole": whole}
            return self._asked("find", subjects, {"nodes": _forest(subjects), **more})

    def _is_here(self, image: Image) -> bool:
        """Whether nobody has removed it since it was listed."""
        try:
            self._images.expect(image.id)
        except ImageNotFound:
            return False
        return True

    def squash(self, subject: Subject, base: Subject | None = None, names: Sequence[Reference] = ()) -> Image:
        """See `Squasher.squash`."""
        return self._squasher.squash(subject, base, names)

    def _ask(self, module: str, subjects: Sequence[Subject], more: dict[str, object]) -> Answer:
        """Ask a job of this room, which gets the subjects' levels; they stay while it reads."""
        levels = [list(subject.described) for subject in subjects]
        params = {"levels": levels[0], **more} if len(levels) == 1 else {"a": levels[0], "b": levels[1], **more}
        return self._asked(module, subjects, params)

    def _asked(self, module: str, subjects: Sequence[Subject], params: dict[str, object]) -> Answer:
        with self._images.leases.hold(*(layer for subject in subjects for layer in subject.layers)):
            return self._answers.ask(f"lamina.explore.{module}:job", params, keep=all(subject.fixed for subject in subjects))


def _config(a: Subject, b: Subject) -> dict[str, dict[str, object]]:
    """The fields of two images' configurations that differ, with both values; none where one of them is gone."""
    if a.image is None or b.image is None:
        return {}
    old, new = (msgspec.to_builtins(image.config.config) for image in (a.image, b.image))
    fields = sorted(old.keys() | new.keys())
    return {field: {"a": old.get(field), "b": new.get(field)} for field in fields if old.get(field) != new.get(field)}


def _forest(subjects: Sequence[Subject]) -> list[dict[str, object]]:
    """The layers of all images, each once at its place, parents first; see `find.job`."""
    nodes: list[dict[str, object]] = []
    places: dict[str, int] = {}
    ends: dict[int, list[int]] = {}
    for image, subject in enumerate(subjects):
        parent = -1
        for facts, level in zip(subject.facts, subject.described, strict=True):
            if facts.id not in places:
                places[facts.id] = len(nodes)
                ends[len(nodes)] = []
                nodes.append(
                    {"level": level, "id": facts.id, "instruction": facts.instruction, "parent": parent, "images": ends[len(nodes)]}
                )
            parent = places[facts.id]
        if parent >= 0:
            ends[parent].append(image)
    return nodes


def _named(subject: Subject) -> list[dict[str, object]]:
    """The layers of a subject as answers name them."""
    return [{"index": each.index, "id": each.id, "instruction": each.instruction} for each in subject.facts]
