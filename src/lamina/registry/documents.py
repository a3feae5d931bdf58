"""What a registry reads in manifests: what they need, what they refer to. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from lamina.errors import InvalidArgument
from lamina.registry.errors import ManifestInvalid
from lamina.spec import mediatype
from lamina.spec.digest import Digest

_FOREIGN = frozenset({mediatype.DOCKER_FOREIGN_LAYER})


@dataclass(frozen=True, slots=True)
class Needs:
    """`blobs` and `manifests` must be in the repository already; `subject` (a manifest it is about) need not."""

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()
    subject: Digest | None = None
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = ()


def read_needs(data: bytes, media_type: str) -> Needs:
    """What the manifest or index `data` needs.

    Raises:
        ManifestInvalid: it is neither, or its own mediaType is another.
    """
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("schemaVersion") != 2:
            raise ManifestInvalid("manifest invalid: schemaVersion is not 2")
        if document.get("mediaType", media_type) != media_type:
            raise ManifestInvalid("manifest invalid: its mediaType differs from the Content-Type")
        if media_type in mediatype.INDEXES:
            return _index(document)
        if media_type in mediatype.MANIFESTS:
            return _manifest(document)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidArgument) as error:
        if isinstance(error, ManifestInvalid):
            raise
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        raise ManifestInvalid(f"manifest invalid: {lacks}{str(error)[:200]}") from None
    raise ManifestInvalid(f"manifest invalid: unsupported media type {media_type[:100]!r}")


def _index(document: dict[str, object]) -> Needs:
    rows = document.get("manifests") or []
    if not isinstance(rows, list) or "layers" in document:
        raise ManifestInvalid("manifest invalid: an index lists manifests")
    children = tuple(Digest.parse(row["digest"]) for row in rows)
    return Needs((), children, _subject(document), str(document.get("artifactType") or ""), _annotations(document))


def _manifest(document: dict[str, object]) -> Needs:
    config, layers = document["config"], document.get("layers") or []
    if not isinstance(config, dict) or not isinstance(layers, list) or "manifests" in document:
        raise ManifestInvalid("manifest invalid: a manifest has a config and layers")
    kept = [layer for layer in layers if not (layer.get("urls") and layer.get("mediaType") in _FOREIGN)]
    blobs = (Digest.parse(config["digest"]), *(Digest.parse(layer["digest"]) for layer in kept))
    artifact_type = str(document.get("artifactType") or config.get("mediaType") or "")
    return Needs(blobs, (), _subject(document), artifact_type, _annotations(document))


def _subject(document: dict[str, object]) -> Digest | None:
    subject = document.get("subject")
    return Digest.parse(subject["digest"]) if isinstance(subject, dict) else None


def _annotations(document: dict[str, object]) -> tuple[tuple[str, str], ...]:
    found = document.get("annotations") or {}
    if not isinstance(found, dict):
        raise ManifestInvalid("manifest invalid: annotations are not an object")
    return tuple((str(key), str(value)) for key, value in found.items())
