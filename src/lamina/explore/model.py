"""The values of this room: whose layers are looked at, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamina.container.model import Container
from lamina.container.snapshots import Snapshot
from lamina.image.model import Image
from lamina.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """What is known of one layer of a subject without looking into it. `index` counts from the base, 0.

    Of a container's writable layer `id` is the container's, `diff_id` is empty, and so are the sizes. `created` is RFC 3339.
    `instruction` is what made it, in the Dockerfile's words where they are known. `path` is where its bytes lie on the host.
    """

    index: int
    id: str
    diff_id: str
    parent: str
    created: str
    created_by: str
    instruction: str
    tar_size: int
    path: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """An image or a container, as a stack. `described` is what jobs get of each level, base first, as `facts` are.

    `layers` are the chain IDs of an image's layers, to be kept while a job reads them. `snapshot` is that of the container which is meant.
    `image` is None where it is gone (`rmi --force`): its layers stay as long as a container stands on them.
    """

    image: Image | None
    container: Container | None
    facts: tuple[LevelFacts, ...]
    described: tuple[Mapping[str, Any], ...]
    layers: tuple[Digest, ...]
    snapshot: Snapshot | None = None

    @property
    def id(self) -> str:
        """The image's ID, the container's or the snapshot's."""
        if self.snapshot:
            return self.snapshot.id
        return self.container.id if self.container else self.image_id

    @property
    def image_id(self) -> str:
        """The ID of the image, or of the one that the container or the snapshot was made of."""
        made = self.snapshot or self.container
        return made.image if made else str(self.image.id) if self.image else ""

    @property
    def name(self) -> str:
        """What it is called: the container's name, the image's first name, or its short ID."""
        if self.snapshot:
            return f"{self.container.name}@{self.snapshot.name}" if self.container else f"snapshot {self.snapshot.id[:12]}"
        if self.container:
            return self.container.name
        return self.image.names[0].familiar if self.image and self.image.names else Digest.parse(self.image_id).short

    @property
    def names(self) -> tuple[str, ...]:
        """All that it is called, an image by each of its tags; empty for an image without."""
        if self.snapshot or self.container:
            return (self.name,)
        return tuple(name.familiar for name in self.image.names) if self.image else ()

    @property
    def fixed(self) -> bool:
        """Whether it can never change, so that answers about it may be kept."""
        return self.container is None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A line of `layers`. Counts are of entries, sizes in bytes of regular files, hard links once.

    `hidden` is what later layers hide: what an image carries for nothing.
    """

    facts: LevelFacts
    added: int
    modified: int
    deleted: int
    size: int
    hidden: int
