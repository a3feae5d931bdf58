"""What an archive says it holds, checked: images with their configurations, names and layers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lamina.errors import LaminaError
from lamina.image.archive.outer import cleaned
from lamina.image.model import InvalidArchive
from lamina.spec import config, manifest, mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

_LAYERS_LIMIT = 500
_IMAGES_LIMIT = 10_000
_NESTING = 4
REF_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")

Document = Callable[[str], bytes]
"""The bytes of a small member by its name; raises InvalidArchive where there is none."""


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image of an archive. `members` are the names of its layers' tars, base first, as many as its configuration has."""

    config: config.ImageConfig
    config_bytes: bytes
    members: tuple[str, ...]
    names: tuple[Reference, ...]

    @property
    def id(self) -> Digest:
        return Digest.of(self.config_bytes)


def from_manifest(data: bytes, document: Document) -> list[ArchivedImage]:
    """The images of a docker-archive's manifest.json.

    Raises:
        InvalidArchive: malformed, or it names what is not there.
    """
    rows = _decoded(data, "manifest.json")
    if not isinstance(rows, list) or len(rows) > _IMAGES_LIMIT:
        raise InvalidArchive("manifest.json of the archive is no list of images")
    return [_image(row, document) for row in rows]


def from_layout(data: bytes, document: Document, wanted: Platform) -> list[ArchivedImage]:
    """The images of an OCI layout's index.json, for `wanted` where several platforms are offered. See `from_manifest`."""
    try:
        index = manifest.parse_index(data)
    except LaminaError as error:
        raise InvalidArchive(f"index.json of the archive is malformed: {error.message}") from None
    return [image for entry in index.manifests[:_IMAGES_LIMIT] for image in _of_descriptor(entry, document, wanted, _NESTING)]


def _image(row: object, document: Document) -> ArchivedImage:
    if not isinstance(row, dict):
        raise InvalidArchive("manifest.json of the archive is no list of images")
    name = row.get("Config")
    if not isinstance(name, str):
        raise InvalidArchive("manifest.json of the archive names no configuration")
    members = [cleaned(member) for member in _texts(row.get("Layers"), "layers")]
    names = tuple(_reference(text) for text in _texts(row.get("RepoTags"), "names"))
    return _checked(document(cleaned(name)), members, names)


def _checked(data: bytes, members: Sequence[str], names: tuple[Reference, ...]) -> ArchivedImage:
    try:
        parsed = config.parse(data)
    except LaminaError as error:
        raise InvalidArchive(error.message) from None
    if len(parsed.rootfs.diff_ids) != len(members):
        raise InvalidArchive(f"the archive has {len(members)} layers for an image of {len(parsed.rootfs.diff_ids)}")
    if len(members) > _LAYERS_LIMIT:
        raise InvalidArchive(f"an image of {len(members)} layers: at most {_LAYERS_LIMIT} can be stacked")
    return ArchivedImage(parsed, data, tuple(members), names)


def _of_descriptor(entry: Descriptor, document: Document, wanted: Platform, nesting: int) -> list[ArchivedImage]:
    """The image behind a descriptor; an index leads on to its child for the platform. What is no image is passed over."""
    known = mediatype.INDEXES | mediatype.MANIFESTS
    if entry.media_type not in known or nesting == 0 or not _serves(entry, wanted):
        return []
    data = _blob(entry, document)
    try:
        parsed = manifest.parse(data, entry.media_type)
    except LaminaError as error:
        raise InvalidArchive(error.message) from None
    names = tuple(_reference(value) for key, value in entry.annotations if key == REF_NAMES[0]) or _named(entry)
    if isinstance(parsed, Index):
        child = parsed.choose(wanted)
        found = _of_descriptor(child, document, wanted, nesting - 1) if child else []
        return [ArchivedImage(each.config, each.config_bytes, each.members, names or each.names) for each in found]
    if parsed.config.media_type not in mediatype.CONFIGS:
        return []
    return [_checked(_blob(parsed.config, document), [blob_name(layer.digest) for layer in parsed.layers], names)]


def blob_name(digest: Digest) -> str:
    """Where an OCI layout keeps a blob."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def _serves(entry: Descriptor, wanted: Platform) -> bool:
    return entry.platform is None or entry.platform.matches(wanted)


def _blob(entry: Descriptor, document: Document) -> bytes:
    data = document(blob_name(entry.digest))
    if Digest.of(data, entry.digest.algorithm) != entry.digest:
        raise InvalidArchive(f"a blob of the archive does not have its digest: {entry.digest}")
    return data


def _named(entry: Descriptor) -> tuple[Reference, ...]:
    """The reference an OCI layout gives; a bare tag names no repository and is passed over."""
    text = dict(entry.annotations).get(REF_NAMES[1], "")
    return (_reference(text),) if "/" in text or ":" in text else ()


def _reference(text: str) -> Reference:
    try:
        reference = Reference.parse(text)
    except LaminaError as error:
        raise InvalidArchive(f"the archive has a malformed name: {error.message}") from None
    if reference.digest is not None:
        raise InvalidArchive(f"the archive names an image by its digest: {text[:200]}")
    return reference.with_default_tag()


def _texts(value: object, what: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidArchive(f"manifest.json of the archive has malformed {what}")
    return value


def _decoded(data: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidArchive(f"{what} of the archive is not JSON") from None
