"""Reading the API's documents: Go's field names, null meaning absent, a wrong type said by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.errors import InvalidArgument

Document = Mapping[str, Any]


class InvalidDocument(InvalidArgument):
    """A field of the request has the wrong type."""


def text(document: Document, key: str) -> str:
    """A string field, "" where it is absent."""
    value = document.get(key)
    if value is None:  # the usual answers first: a start asks for some hundred fields
        return ""
    return value if isinstance(value, str) else str(_typed(document, key, str, ""))


def flag(document: Document, key: str) -> bool:
    """A boolean field, False where it is absent."""
    return bool(_typed(document, key, bool, False))


def number(document: Document, key: str, default: int = 0) -> int:
    """An integer field, `default` where it is absent."""
    return int(_typed(document, key, int, default))


def texts(document: Document, key: str) -> list[str]:
    """A list of strings; one string alone is a list of one, as old clients send commands."""
    value = document.get(key)
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    items: list[Any] = _typed(document, key, list, [])
    if not all(isinstance(item, str) for item in items):
        raise InvalidDocument(f"invalid request: {key} must be a list of strings")
    return list(items)


def mapping(document: Document, key: str) -> dict[str, Any]:
    """An object field, {} where it is absent."""
    return dict(_typed(document, key, dict, {}))


def objects(document: Document, key: str) -> list[dict[str, Any]]:
    """A list of objects."""
    items: list[Any] = _typed(document, key, list, [])
    if not all(isinstance(item, dict) for item in items):
        raise InvalidDocument(f"invalid request: {key} must be a list of objects")
    return list(items)


def refuse_nul(document: Document, *besides: str) -> None:
    """Refuse a NUL in any field, since the kernel ends every word at one. `besides` are fields that it never gets.

    Raises:
        InvalidDocument: a field holds one.
    """
    for key, value in document.items():
        if key not in besides and _holds_nul(value):
            raise InvalidDocument(f"invalid request: {key} must not hold a NUL")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(map(_holds_nul, value))


def _typed(document: Document, key: str, kind: type, default: Any) -> Any:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidDocument(f"invalid request: {key} must be {_NAMES[kind]}")
    return value


_NAMES = {str: "a string", bool: "true or false", int: "an integer", list: "a list", dict: "an object"}
