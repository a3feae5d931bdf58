"""The JSON documents of this room: a layer's facts, an image's record, a name's descriptor. Each has one spelling.

Each ends with a checksum of the rest, so that of two copies that differ the one that was hurt is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from lamina.errors import LaminaError
from lamina.image.model import LayerFacts, StoreDamaged
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import descriptor_json, parse_descriptor

VERSION = 1
_SUM = "sum"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an image besides its configuration. `tagged` is seconds since 1970, `size` bytes."""

    id: Digest
    manifest: Descriptor
    parent: Digest | None = None
    intermediate: bool = False
    size: int = 0
    tagged: float = 0.0


def encode_facts(facts: LayerFacts) -> bytes:
    """One layer's facts; `parent` is left out at the bottom of a stack."""
    document: dict[str, Any] = {"version": VERSION, "id": str(facts.id), "diff_id": str(facts.diff_id)}
    if facts.parent is not None:
        document["parent"] = str(facts.parent)
    document |= {
        "name": facts.name,
        "created": facts.created,
        "created_by": facts.created_by,
        "instruction": facts.instruction,
        "size": facts.content_size,
        "tar_size": facts.tar_size,
        "entries": facts.entries,
        "sources": [descriptor_json(source) for source in facts.sources],
    }
    if facts.crc32 is not None:
        document["crc32"] = facts.crc32
    if facts.pushed:
        document["pushed"] = [descriptor_json(form) for form in facts.pushed]
    return _pretty(document)


def decode_facts(data: bytes | str) -> LayerFacts:
    """Raises StoreDamaged."""
    with_parts = _object(data)
    try:
        return LayerFacts(
            id=Digest.parse(with_parts["id"]),
            diff_id=Digest.parse(with_parts["diff_id"]),
            parent=_optional_digest(with_parts.get("parent")),
            name=_text(with_parts["name"]),
            tar_size=_number(with_parts["tar_size"]),
            content_size=_number(with_parts["size"]),
            entries=_number(with_parts["entries"]),
            created=_text(with_parts["created"]),
            created_by=_text(with_parts["created_by"]),
            instruction=_text(with_parts["instruction"]),
            sources=tuple(parse_descriptor(source) for source in with_parts["sources"]),
            pushed=tuple(parse_descriptor(form) for form in with_parts.get("pushed", ())),
            crc32=_number(with_parts["crc32"]) if "crc32" in with_parts else None,
        )
    except (KeyError, TypeError, ValueError, LaminaError):
        raise StoreDamaged("a layer's facts cannot be read") from None


def encode_record(record: Record) -> bytes:
    """One image's record."""
    document: dict[str, Any] = {"version": VERSION, "id": str(record.id), "manifest": descriptor_json(record.manifest)}
    if record.parent is not None:
        document["parent"] = str(record.parent)
    return _pretty({**document, "intermediate": record.intermediate, "size": record.size, "tagged": record.tagged})


def decode_record(data: bytes | str) -> Record:
    """Raises StoreDamaged."""
    parts = _object(data)
    try:
        return Record(
            id=Digest.parse(parts["id"]),
            manifest=parse_descriptor(parts["manifest"]),
            parent=_optional_digest(parts.get("parent")),
            intermediate=parts["intermediate"] is True,
            size=_number(parts["size"]),
            tagged=float(parts["tagged"]),
        )
    except (KeyError, TypeError, ValueError, LaminaError):
        raise StoreDamaged("an image's record cannot be read") from None


def encode_name(name: str, image: Digest, descriptor: Descriptor) -> bytes:
    """What a name stands for, as its row holds it beside the image's ID."""
    document = descriptor_json(descriptor)
    return msgspec.json.encode({**document, _SUM: name_sum(name, str(image), descriptor)})


def decode_name(name: str, image: str, data: str) -> Descriptor:
    """Raises StoreDamaged: it cannot be read, or belongs to another name or image."""
    descriptor = decode_descriptor(data)
    found = _object(data).get(_SUM)
    if found is not None and found != name_sum(name, image, descriptor):
        raise StoreDamaged("a name's row is not what was written")
    return descriptor


def name_sum(name: str, image: str, descriptor: Descriptor) -> str:
    """A checksum over a name and what it stands for."""
    return _sum([name, image, descriptor_json(descriptor)])


def decode_descriptor(data: bytes | str) -> Descriptor:
    """Raises StoreDamaged."""
    try:
        return parse_descriptor(_object(data))
    except LaminaError:
        raise StoreDamaged("a name's descriptor cannot be read") from None


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode({**document, _SUM: _sum(document)}), indent=2) + b"\n"


def _sum(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:32]


def _object(data: bytes | str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise StoreDamaged("a document of the store is not JSON") from None
    if not isinstance(document, dict) or document.get("version", VERSION) != VERSION:
        raise StoreDamaged("a document of the store is of an unknown kind")
    if "version" in document and document.get(_SUM) not in (None, _sum({key: document[key] for key in document if key != _SUM})):
        raise StoreDamaged("a document of the store is not what was written")
    return document


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value


def _optional_digest(value: object) -> Digest | None:
    return None if value is None else Digest.parse(_text(value))
