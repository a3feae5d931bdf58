"""Image manifests and indexes: image-spec manifest.md and image-index.md, and Docker's schema 2 (manifest, manifest list).

A document keeps the bytes it was read from in `raw`: its digest is of those, and they are what is stored and pushed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lamina.errors import Corrupt, LaminaError
from lamina.spec import mediatype, strict
from lamina.spec.config import LIMIT
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform

_SIZE_LIMIT = 1 << 62


class InvalidManifest(Corrupt):
    """The bytes are neither a manifest nor an index that is understood here."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform. `layers` are base first, their digests are of the compressed bytes."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    raw: bytes
    annotations: tuple[tuple[str, str], ...] = ()
    artifact_type: str = ""

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.raw), len(self.raw))

    @property
    def of_image(self) -> bool:
        """Whether it is an image's: BuildKit gives its attestations the media type of an image's configuration, too."""
        return self.config.media_type in mediatype.CONFIGS and all(row.media_type != mediatype.IN_TOTO for row in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    raw: bytes
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.raw), len(self.raw))

    def choose(self, wanted: Platform) -> Descriptor | None:
        """The first child that serves `wanted`, an exact variant before any other; a child without a platform serves if it is alone."""
        fitting = [child for child in self.manifests if child.platform and child.platform.matches(wanted)]
        exact = [child for child in fitting if child.platform and child.platform.variant == wanted.variant]
        alone = [child for child in self.manifests if len(self.manifests) == 1 and child.platform is None]
        return next(iter([*exact, *fitting, *alone]), None)


def parse(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index. `media_type` is what the sender called it, "" if unknown.

    Raises:
        InvalidManifest: malformed, larger than 8 MiB, of a kind not known here, or ambiguous (CVE-2021-41190):
            its own mediaType and `media_type` differ, it has the parts of a manifest and of an index at once, or a key twice.
    """
    if len(raw) > LIMIT:
        raise InvalidManifest(f"manifest of {len(raw)} bytes is larger than the {LIMIT} that are read")
    try:
        document = _object(strict.decode(raw), "a manifest")
        kind = _kind(document, media_type.partition(";")[0].strip())
        return _index(document, kind, raw) if kind in mediatype.INDEXES else _manifest(document, kind, raw)
    except InvalidManifest:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"invalid manifest: {str(error)[:200]}") from None
    except LaminaError as error:
        raise InvalidManifest(f"invalid manifest: {error.message}") from None


def parse_manifest(raw: bytes, media_type: str = "") -> Manifest:
    """See `parse`; an index is refused too."""
    document = parse(raw, media_type)
    if not isinstance(document, Manifest):
        raise InvalidManifest("a manifest was expected, this is an index")
    return document


def parse_index(raw: bytes, media_type: str = "") -> Index:
    """See `parse`; a manifest is refused too."""
    document = parse(raw, media_type)
    if not isinstance(document, Index):
        raise InvalidManifest("an index was expected, this is a manifest")
    return document


def new_manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    *,
    media_type: str = mediatype.OCI_MANIFEST,
    annotations: Sequence[tuple[str, str]] = (),
) -> Manifest:
    """A manifest with its bytes; the same parts give the same bytes."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_json(config),
        "layers": [descriptor_json(layer) for layer in layers],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations))
    return Manifest(media_type, config, tuple(layers), msgspec.json.encode(document), tuple(sorted(annotations)))


def new_index(
    manifests: Sequence[Descriptor], *, media_type: str = mediatype.OCI_INDEX, annotations: Sequence[tuple[str, str]] = ()
) -> Index:
    """An index with its bytes; the same parts give the same bytes."""
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [descriptor_json(child) for child in manifests]}
    if annotations:
        document["annotations"] = dict(sorted(annotations))
    return Index(media_type, tuple(manifests), msgspec.json.encode(document), tuple(sorted(annotations)))


def descriptor_json(descriptor: Descriptor) -> dict[str, Any]:
    """The descriptor as it stands in a document; absent parts are left out."""
    document: dict[str, Any] = {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
    if descriptor.urls:
        document["urls"] = list(descriptor.urls)
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    if descriptor.platform:
        document["platform"] = _platform_json(descriptor.platform)
    return document


def parse_descriptor(value: object) -> Descriptor:
    """A descriptor from decoded JSON.

    Raises:
        InvalidManifest: a part is missing or has the wrong type.
        InvalidDigest: its digest is not one.
    """
    raw = _object(value, "a descriptor")
    size = raw.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _SIZE_LIMIT:
        raise InvalidManifest(f"invalid size in a descriptor: {str(size)[:50]}")
    platform = raw.get("platform")
    return Descriptor(
        media_type=_text(raw, "mediaType"),
        digest=Digest.parse(_text(raw, "digest")),
        size=size,
        platform=None if platform is None else _platform(_object(platform, "a platform")),
        annotations=_annotations(raw),
        urls=tuple(_strings(raw.get("urls"))),
    )


def _kind(document: dict[str, Any], said: str) -> str:
    own = _text(document, "mediaType")
    version = document.get("schemaVersion", 2)
    if version == 1:
        raise InvalidManifest("manifests of schema 1 are not supported", hint="push the image again with a current client")
    # Go's programs write 0 where theirs left it out, and containerd reads it.
    if isinstance(version, bool) or version not in (0, 2):
        raise InvalidManifest(f"unsupported manifest schema version: {str(version)[:20]}")
    if document.get("manifests") is not None and (document.get("layers") is not None or document.get("config") is not None):
        raise InvalidManifest("ambiguous manifest: it has the parts of an index and of an image")
    known = mediatype.INDEXES | mediatype.MANIFESTS
    if own and said in known and own != said:
        raise InvalidManifest(f"the manifest says it is {own[:100]}, but was sent as {said[:100]}")
    kind = (
        own or (said if said in known else "") or (mediatype.OCI_INDEX if document.get("manifests") is not None else mediatype.OCI_MANIFEST)
    )
    if kind not in known:
        raise InvalidManifest(f"unsupported manifest type: {kind[:100]}")
    return kind


def _manifest(document: dict[str, Any], kind: str, raw: bytes) -> Manifest:
    layers = tuple(parse_descriptor(layer) for layer in _array(document.get("layers"), "layers"))
    config = parse_descriptor(document.get("config"))
    return Manifest(kind, config, layers, raw, _annotations(document), _text(document, "artifactType"))


def _index(document: dict[str, Any], kind: str, raw: bytes) -> Index:
    if document.get("manifests") is None:
        raise InvalidManifest("the index has no manifests")
    return Index(kind, tuple(parse_descriptor(child) for child in _array(document["manifests"], "manifests")), raw, _annotations(document))


def _platform(raw: dict[str, Any]) -> Platform:
    return Platform(_text(raw, "os"), _text(raw, "architecture"), _text(raw, "variant"))


def _platform_json(platform: Platform) -> dict[str, str]:
    document = {"architecture": platform.architecture, "os": platform.os}
    return {**document, "variant": platform.variant} if platform.variant else document


def _annotations(raw: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    value = raw.get("annotations")
    items = {} if value is None else _object(value, "annotations")
    if not all(isinstance(text, str) for text in items.values()):
        raise InvalidManifest("an annotation is not text")
    return tuple(sorted(items.items()))


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidManifest(f"{what} must be an object")
    # Other readers take keys that differ in case alone for the same: to them the document would say something else.
    if what != "annotations" and (twice := strict.same_but_for_case(value)):
        raise InvalidManifest(f"ambiguous manifest: {what} has the key {twice[:50]!r} in two spellings")
    return value


def _array(value: object, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidManifest(f"{what} must be an array")
    return value


def _strings(value: object) -> list[str]:
    texts = _array(value, "urls")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidManifest("urls must be texts")
    return [str(text) for text in texts]


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidManifest(f"{key} must be a text")
    return value
