"""How notebooks show values: tables, with everything that comes from an image escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lamina.spec.strict import readable


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are text, not HTML."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(readable(str(cell)))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def preformatted(text: str) -> str:
    """Text as it stands."""
    return f"<pre>{escape(readable(text))}</pre>"
