"""Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding), as much as BuildKit's messages use. Pure.

A message is a dataclass; each field names its number: `digest: str = text(1)`. Unknown fields are skipped, absent ones
have their zero, and zeros are not written, as proto3 has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
Message = TypeVar("Message")


class Malformed(ValueError):
    """The bytes are no such message."""


class _Field(NamedTuple):
    """`kind` is "int", "bool", "text", "bytes" or a message's class; of a map's values where `map` is set."""

    name: str
    number: int
    kind: Any
    many: bool
    map: bool


def _declared(number: int, kind: Any, zero: Any, *, many: bool = False, map: bool = False) -> Any:
    metadata = {"number": number, "kind": kind, "many": many, "map": map}
    if map:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=zero, metadata=metadata)


def integer(number: int) -> Any:
    """An int32, int64, uint32 or enum."""
    return _declared(number, "int", 0)


def flag(number: int) -> Any:
    """A bool."""
    return _declared(number, "bool", False)


def text(number: int) -> Any:
    """A string; bytes that are not UTF-8 come as surrogates and go as they came."""
    return _declared(number, "text", "")


def data(number: int) -> Any:
    """Bytes."""
    return _declared(number, "bytes", b"")


def one(number: int, kind: Any) -> Any:
    """A message, None where it is absent."""
    return _declared(number, kind, None)


def several(number: int, kind: Any = "text") -> Any:
    """A repeated field, a tuple."""
    return _declared(number, kind, (), many=True)


def mapping(number: int, kind: Any = "text") -> Any:
    """A map from strings."""
    return _declared(number, kind, None, map=True)


@cache
def _fields(cls: Hashable) -> tuple[_Field, ...]:
    return tuple(
        _Field(field.name, field.metadata["number"], field.metadata["kind"], field.metadata["many"], field.metadata["map"])
        for field in dataclasses.fields(cast(Any, cls))
    )


def encode(message: Any) -> bytes:
    """The bytes of a message."""
    out = bytearray()
    for field in _fields(cast(Hashable, type(message))):
        value = getattr(message, field.name)
        if field.map:
            for key, each in value.items():
                _put(out, field.number, "bytes", bytes(_entry(key, each, field.kind)))
        elif field.many:
            for each in value:
                _put(out, field.number, field.kind, each)
        elif value is not None and (value or not isinstance(value, (int, str, bytes))):
            _put(out, field.number, field.kind, value)
    return bytes(out)


def _entry(key: str, value: Any, kind: Any) -> bytearray:
    out = bytearray()
    _put(out, 1, "text", key)
    _put(out, 2, kind, value)
    return out


def _put(out: bytearray, number: int, kind: Any, value: Any) -> None:
    if kind in ("int", "bool"):
        out += varint(number << 3 | _VARINT) + varint(int(value) & 0xFFFFFFFFFFFFFFFF)
        return
    if kind == "text":
        value = value.encode("utf-8", "surrogateescape")
    elif kind != "bytes":
        value = encode(value)
    out += varint(number << 3 | _BYTES) + varint(len(value))
    out += value


def varint(value: int) -> bytes:
    """A number in base 128, low digits first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(cls: type[Message], raw: bytes | memoryview) -> Message:
    """The message that the bytes are.

    Raises:
        Malformed: they are not such a message.
    """
    known = {field.number: field for field in _fields(cast(Hashable, cls))}
    found: dict[str, Any] = {}
    for number, kind, value in items(memoryview(raw)):
        field = known.get(number)
        if field is None:
            continue
        if (kind == _VARINT) != (field.kind in ("int", "bool") and not field.map):
            raise Malformed(f"field {number} of {cls.__name__} is of another type")
        if field.map:
            key, each = _parsed_entry(value, field.kind)
            found.setdefault(field.name, {})[key] = each
        elif field.many:
            found.setdefault(field.name, []).append(_parsed(value, field.kind))
        else:
            found[field.name] = _parsed(value, field.kind)
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})


def _parsed(value: Any, kind: Any) -> Any:
    if kind == "int":
        return value - (1 << 64) if value >= 1 << 63 else value
    if kind == "bool":
        return bool(value)
    if kind == "text":
        return bytes(value).decode("utf-8", "surrogateescape")
    return bytes(value) if kind == "bytes" else decode(kind, value)


def _parsed_entry(raw: Any, kind: Any) -> tuple[str, Any]:
    parts: Mapping[int, Any] = {number: value for number, _, value in items(memoryview(raw))}
    zeros = {"int": 0, "bool": False, "text": "", "bytes": b""}
    value = _parsed(parts[2], kind) if 2 in parts else zeros[kind] if isinstance(kind, str) else kind()
    return bytes(parts.get(1, b"")).decode("utf-8", "surrogateescape"), value


def items(raw: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field; a value is a number or bytes.

    Raises:
        Malformed: it ends too early, or groups are used.
    """
    place, end = 0, len(raw)
    while place < end:
        tag, place = _read_varint(raw, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _read_varint(raw, place)
            yield tag >> 3, kind, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(raw, place)
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            raise Malformed(f"wire type {kind}")
        if place + size > end:
            raise Malformed("a field ends too early")
        yield tag >> 3, kind, raw[place : place + size]
        place += size


def _read_varint(raw: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(raw) or shift > 63:
            raise Malformed("a number ends too early")
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
        shift += 7
