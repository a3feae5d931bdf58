"""Keys of documents of clients, read as Go reads them: in any case; of two that differ in case alone the later one counts."""

from __future__ import annotations

import types
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec


def spelled(value: Any, kind: Any) -> Any:
    """The decoded JSON `value` with the fields of documents of the type `kind` spelled as the API's specification has them."""
    kind = _bare(kind)
    if isinstance(value, dict):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            known = _fields(kind)
            named = ((known.get(name.casefold(), (name, Any)), item) for name, item in value.items())
            return {name: spelled(item, inner) for (name, inner), item in named}
        inner = get_args(kind)
        return {name: spelled(item, inner[1]) for name, item in value.items()} if len(inner) == 2 else value
    if isinstance(value, list) and get_origin(kind) in (list, tuple):
        return [spelled(item, get_args(kind)[0]) for item in value]
    return value


def _bare(kind: Any) -> Any:
    """A type without what may stand around it: null, or bounds."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        others = [each for each in get_args(kind) if each is not types.NoneType]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    return {field.encode_name.casefold(): (field.encode_name, field.type) for field in msgspec.structs.fields(kind)}
