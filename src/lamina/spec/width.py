"""How many columns of a terminal text takes: East Asian wide signs two, combining ones none (Unicode, Standard Annex 11)."""

from __future__ import annotations

from unicodedata import category, east_asian_width


def columns(text: str) -> int:
    """The width of printable text."""
    return len(text) if text.isascii() else sum(map(_sign, text))


def _sign(sign: str) -> int:
    return 0 if category(sign) in ("Mn", "Me", "Cf") else 1 + (east_asian_width(sign) in "WF")


def padded(text: str, width: int) -> str:
    """`text` with blanks behind it, `width` columns wide; longer text stays as it is."""
    return text + " " * (width - columns(text))


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns, its end left out as Docker's CLI does it."""
    return text if columns(text) <= width else _beginning(text, width - 1) + "…"


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns, its middle left out: instructions differ at their ends as often as at their beginnings."""
    if columns(text) <= width:
        return text
    tail = max(0, width - 1) * 2 // 5
    return f"{_beginning(text, width - 1 - tail)}…{_beginning(text[::-1], tail)[::-1]}"


def _beginning(text: str, width: int) -> str:
    """As many of the first signs as `width` columns have room for."""
    if text.isascii():
        return text[: max(0, width)]
    end = 0
    while end < len(text) and (width := width - _sign(text[end])) >= 0:
        end += 1
    return text[:end]
