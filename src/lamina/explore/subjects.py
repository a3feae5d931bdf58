"""Finding whose layers are meant, an image's or a container's, and where each lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lamina.container.containers import Containers
from lamina.container.model import Container, ContainerNotFound
from lamina.container.snapshots import Snapshot
from lamina.explore.model import LevelFacts, Subject
from lamina.image.layers import Layers
from lamina.image.model import AmbiguousId, Image, ImageNotFound, LayerFacts
from lamina.image.store import Images
from lamina.image.telling import told
from lamina.spec.digest import Digest, InvalidDigest
from lamina.spec.reference import InvalidReference


class Subjects:
    """Thread-safe."""

    def __init__(self, images: Images, layers: Layers, containers: Containers) -> None:
        self._images, self._layers, self._containers = images, layers, containers

    def find(self, text: str) -> Subject:
        """The image `text` means, or the container, or its snapshot (`CONTAINER@NAME`).

        A container's name wins over the beginning of an image's ID; else an image wins.

        Raises:
            ImageNotFound: neither is here.
            SnapshotNotFound: the container has no such snapshot.
            AmbiguousId: several images, or containers, have IDs that begin so.
        """
        if "@" in text and (snapshot := self._containers.snapshots.named(text)) is not None:
            return self.of_snapshot(snapshot)
        try:
            image = self._images.resolve(text)
        except AmbiguousId:
            container = self._container(text)
            if container is None or container.name != text:
                raise
            return self._of_container(container)
        except (ImageNotFound, InvalidDigest, InvalidReference) as error:
            # a container's name (`Web`, `a..b`) need not be one that an image may have
            container = self._container(text)
            if container is None:
                raise ImageNotFound(f"no such image or container: {text[:300]}") from error
            return self._of_container(container)
        if image.id.encoded.startswith(text) and (container := self._container(text)) is not None and container.name == text:
            return self._of_container(container)
        return self.of_image(image)

    @contextmanager
    def images_alone(self, text: str) -> Iterator[None]:
        """What is asked inside is of images alone: where `text` names none, but a container, that is said.

        Raises:
            ImageNotFound: the same, in these words.
        """
        try:
            yield
        except (ImageNotFound, InvalidReference) as error:
            if self._container(text) is None:
                raise
            raise ImageNotFound(f"{text} is a container, not an image", hint=f"lamina cp {text}:/PATH reads its files") from error

    def of_image(self, image: Image, known: dict[Digest, Mapping[str, Any]] | None = None) -> Subject:
        """An image's stack. `known` has layers that were described before, for calls over many images."""
        return self._stack(image, image.layers[-1] if image.layers else None, {} if known is None else known)

    def _stack(self, image: Image | None, top: Digest | None, known: dict[Digest, Mapping[str, Any]]) -> Subject:
        chain = self._layers.chain(top)
        words = told(image, chain) if image is not None else chain
        facts = tuple(self._facts(number, each) for number, each in enumerate(words))
        described = tuple(known[each.id] if each.id in known else known.setdefault(each.id, self.described(each)) for each in chain)
        return Subject(image, None, facts, described, tuple(each.id for each in chain))

    def described(self, facts: LayerFacts) -> Mapping[str, Any]:
        """A layer as jobs get it. One whose files are gone or may be hurt is made anew first.

        Raises:
            LayerDamaged: it could not be.
        """
        index = self._layers.index_path(facts.id)
        tree, tar = self._layers.driver.tree(facts.name), self._layers.tar_blob(facts.diff_id)
        return {"name": facts.name, "index": index, "tree": tree or "", "tar": tar or ""}

    def _container(self, text: str) -> Container | None:
        try:
            return self._containers.get(text)
        except ContainerNotFound:
            return None

    def _of_container(self, container: Container) -> Subject:
        below = self._below(container)
        found = self._on_snapshots(below, container, self._containers.snapshots.chain(container.base))
        parent = found.facts[-1].id if found.facts else ""
        created, told = _moment(container.created_ns), f"container {container.name}"
        own = LevelFacts(len(found.facts), container.id, "", parent, created, "", told, 0, container.upper, writable=True)
        described = self._written(container.id, container.writes, below)
        return replace(found, facts=(*found.facts, own), described=(*found.described, described))

    def _below(self, made: Container | Snapshot) -> Subject:
        """The stack that it was made on, whether its image is here or not."""
        try:
            image = self._images.get(Digest.parse(made.image))
        except ImageNotFound:
            image = None
        return self._stack(image, Digest.parse(made.layer) if made.layer else None, {})

    def of_snapshot(self, snapshot: Snapshot) -> Subject:
        """A snapshot's stack, whether its container is here or not. Raises SnapshotNotFound: it was removed."""
        container = self._container(snapshot.container) if snapshot.container else None
        below = self._below(snapshot)
        chain = self._containers.snapshots.chain(snapshot.id)
        if self._copied:
            facts = self._snapshot_facts(below, container, snapshot, len(below.facts))
            described = self._written(snapshot.id, snapshot.diff, below)
            return Subject(below.image, container, (*below.facts, facts), (*below.described, described), below.layers, snapshot)
        return replace(self._on_snapshots(below, container, chain), snapshot=snapshot)

    def _on_snapshots(self, below: Subject, container: Container | None, chain: Sequence[Snapshot]) -> Subject:
        """The image's stack with snapshots on it; none where each directory holds all that it stands on."""
        facts, described = list(below.facts), list(below.described)
        for snapshot in chain if not self._copied else ():
            facts.append(self._snapshot_facts(below, container, snapshot, len(facts)))
            described.append({"name": snapshot.id, "upper": snapshot.diff})
        return Subject(below.image, container, tuple(facts), tuple(described), below.layers)

    def _snapshot_facts(self, below: Subject, container: Container | None, snapshot: Snapshot, index: int) -> LevelFacts:
        parent = snapshot.parent or (str(below.layers[-1]) if below.layers else "")
        own = container is not None and snapshot.container == container.id
        other = "snapshot of another container" if snapshot.name else "snapshot whose name was removed"
        told = f"snapshot {snapshot.name} of {container.name}" if container and own else other
        return LevelFacts(index, snapshot.id, "", parent, _moment(snapshot.created_ns), "", told, 0, snapshot.diff)

    def _written(self, name: str, upper: str, below: Subject) -> Mapping[str, Any]:
        """A directory that was written to, as jobs get it."""
        if not self._copied:
            return {"name": name, "upper": upper}
        return {"name": name, "upper": upper, "changes": self._layers.changes(below.layers[-1] if below.layers else None, upper)}

    @property
    def _copied(self) -> bool:
        """Whether a container's directory holds all that the layers below it show."""
        return self._layers.driver.name == "native"

    def _facts(self, number: int, facts: LayerFacts) -> LevelFacts:
        return LevelFacts(
            number,
            str(facts.id),
            str(facts.diff_id),
            str(facts.parent or ""),
            facts.created,
            facts.created_by,
            " ".join((facts.instruction or facts.created_by).split()),
            facts.tar_size,
            self._layers.driver.tree(facts.name) or self._layers.tar_blob(facts.diff_id) or "",
        )


def _moment(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat().replace("+00:00", "Z")
