"""The values of this room: what is known of a layer and of an image, and what operations on them answer."""

from __future__ import annotations

from dataclasses import dataclass

from lamina.apitypes.events import Event
from lamina.errors import Conflict, Corrupt, InvalidArgument, NotFound
from lamina.layer.errors import PathNotFound
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

__all__ = [
    "AmbiguousId",
    "HistoryEntry",
    "Image",
    "ImageInUse",
    "ImageNotFound",
    "InvalidArchive",
    "LayerFacts",
    "LayerNote",
    "PathNotFound",
    "Pruned",
    "Removed",
    "StoreDamaged",
    "TreeNode",
    "Usage",
]


class ImageNotFound(NotFound):
    """No image has that name, digest or ID."""


class AmbiguousId(InvalidArgument):
    """Several images' IDs begin so."""


class ImageInUse(Conflict):
    """A container, another name or a child image needs the image."""


class InvalidArchive(InvalidArgument):
    """The bytes are not an image archive, or one that must not be loaded."""


class StoreDamaged(Corrupt):
    """The store holds something it cannot hold."""


@dataclass(frozen=True, slots=True)
class LayerNote:
    """What is told of a layer besides its bytes. `created` is RFC 3339; `instruction` is the Dockerfile's keyword and text."""

    created: str = ""
    created_by: str = ""
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer at its place in a stack. `id` is the chain ID, `parent` that of the layer below (None at the bottom).

    `name` is what its files are called (diff ID's hex; the chain ID's where the tar implies parents it does not list).
    `tar_size` is of the uncompressed tar, `content_size` the bytes in its regular files. `sources` are compressed forms
    of the tar that came by pull or load; their blobs may be gone by now. `pushed` are forms that a registry was given, made
    while they were sent: they never had a blob here. `crc32` is the tar's, None where it is not known.
    """

    id: Digest
    diff_id: Digest
    parent: Digest | None
    name: str
    tar_size: int
    content_size: int = 0
    entries: int = 0
    created: str = ""
    created_by: str = ""
    instruction: str = ""
    sources: tuple[Descriptor, ...] = ()
    pushed: tuple[Descriptor, ...] = ()
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here. `id` is its configuration's digest, `layers` are chain IDs, base first.

    `names` carry a tag, `digests` a digest (`repository@sha256:…`, only for what was pulled or pushed).
    `parent` is the image it was built from here, if any; `intermediate` ones are steps of a build. `size` is the bytes
    in regular files of all layers. `tagged` is when a name was last given to it, seconds since 1970 (0: never).
    """

    id: Digest
    manifest: Descriptor
    config: ImageConfig
    config_bytes: bytes
    layers: tuple[Digest, ...]
    names: tuple[Reference, ...] = ()
    digests: tuple[Reference, ...] = ()
    parent: Digest | None = None
    intermediate: bool = False
    size: int = 0
    tagged: float = 0.0

    @property
    def dangling(self) -> bool:
        """Whether no name with a tag points here."""
        return not self.names


def image_event(image: Image, action: str, name: str, *, identity: str = "") -> Event:
    """What happened to an image by one of its names; with its labels, by which listeners choose. `identity` is what it is of, the ID where
    nothing is said."""
    return Event("image", action, identity or str(image.id), {**image.config.config.labels, "name": name})


@dataclass(frozen=True, slots=True)
class Variant:
    """One entry of what a name stands for: `kind` is image, attestation or unknown; `image` is the one that is here.

    `attests` is the digest of the manifest that an attestation speaks of, `content` the bytes of all its blobs as a
    registry has them.
    """

    descriptor: Descriptor
    kind: str
    image: Image | None
    attests: str = ""
    available: bool = False
    content: int = 0

    @property
    def platform(self) -> Platform:
        """As the image says it, with the variant from the index where it names none; for what is not here, as the index does."""
        listed = self.descriptor.platform or Platform("", "")
        if self.image is None:
            return listed
        own = self.image.config.platform
        return listed if not own.variant and listed.matches(own) else own


@dataclass(frozen=True, slots=True)
class Removed:
    """One line of `rmi`: `kind` is "Untagged" (`name` a familiar reference) or "Deleted" (`name` a digest)."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step, newest first in a list. `id` is "<missing>" where no image here ends at this step; `size` in bytes; `created` seconds
    since 1970."""

    id: str
    created: int
    created_by: str
    tags: tuple[str, ...]
    size: int
    comment: str
    layer: Digest | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed; `reclaimed` is bytes on disk."""

    removed: tuple[Removed, ...]
    reclaimed: int


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A step of a build that is remembered. `size` is bytes on disk that only the cache needs, `shared`: an image stands on it,
    `used` when it was made or last found, seconds since 1970."""

    image: Image
    size: int
    shared: bool
    in_use: bool
    used: float

    @property
    def description(self) -> str:
        """The instruction."""
        history = self.image.config.history
        return history[-1].created_by if history else ""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A layer in the tree of all stacks. `size` is of its tar, `own` its bytes on disk, `shared_by` how many images stand on it (of
    those that `images` lists: what only steps of builds stand on has 0).

    `images` are names (IDs where there is none) of images whose top layer this is.
    """

    layer: LayerFacts
    own: int
    shared_by: int
    images: tuple[str, ...]
    children: tuple[TreeNode, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk of one image: `shared` with others, `unique` its own."""

    image: Image
    shared: int
    unique: int
