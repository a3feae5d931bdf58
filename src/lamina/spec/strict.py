"""JSON of documents that others read too: what two readers could read differently is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_LONG_NUMBER = re.compile(rb"\d{19}")


class AmbiguousDocument(ValueError):
    """An object has a key twice: one reader takes the first, another the last."""


def decode(data: bytes) -> Any:
    """Read JSON whose objects have no key twice.

    Raises:
        AmbiguousDocument: a key comes twice.
        ValueError, RecursionError: it is not JSON, or nested too deep.
    """
    return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)


class NumberOutOfRange(ValueError):
    """A whole number that does not fit into 64 bits: readers written in Go refuse the whole document."""


def check_numbers(data: bytes, values: Callable[[], Any]) -> None:
    """Look for such numbers in what was read from `data`; `values` gives that as plain values, where it may hold one.

    Raises:
        NumberOutOfRange: there is one.
    """
    if _LONG_NUMBER.search(data):
        _check_range(values())


def _check_range(value: Any) -> None:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise NumberOutOfRange(f"number out of range: {str(value)[:100]}")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_range(item)


def same_but_for_case(keys: dict[str, Any]) -> str:
    """A key that differs from another in case alone, which Go's readers take for the same; "" where there is none."""
    seen: set[str] = set()
    for key in keys:
        if key.casefold() in seen:
            return key
        seen.add(key.casefold())
    return ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise AmbiguousDocument(f"the key {twice[:100]!r} comes twice in an object")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def readable(value: Any) -> Any:
    """Plain data whose texts are all UTF-8: what is not becomes U+FFFD, as Go's encoder does it."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {readable(key): readable(item) for key, item in value.items()}
    return [readable(item) for item in value] if isinstance(value, (list, tuple)) else value
