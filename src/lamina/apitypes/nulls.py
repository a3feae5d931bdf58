"""Nulls in documents of clients, read as Go reads them: an absent field, or the zero value within a map or a list."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin

import msgspec


def settled(value: Any, kind: Any) -> Any:
    """The decoded JSON `value` without the nulls that documents of the type `kind` have no place for."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        others = [each for each in inner if each is not types.NoneType]
        return settled(value, others[0]) if len(others) == 1 and value is not None else value
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        return {
            name: settled(item, fields.get(name))
            for name, item in value.items()
            if item is not None or name not in fields or _takes_null(fields[name])
        }
    if isinstance(value, dict) and len(inner) == 2:
        return {name: _item(item, inner[1]) for name, item in value.items()}
    if isinstance(value, list) and inner:
        return [_item(item, inner[0]) for item in value]
    return value


def _item(value: Any, kind: Any) -> Any:
    return _zero(kind) if value is None and not _takes_null(kind) else settled(value, kind)


def _takes_null(kind: Any) -> bool:
    return kind is Any or kind is types.NoneType or types.NoneType in get_args(kind)


def _zero(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, str | bool | int | float):
        return kind()
    return [] if get_origin(kind) in (list, tuple, set, frozenset) else {}
