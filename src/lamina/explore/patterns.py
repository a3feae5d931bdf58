"""What a search looks for: shell patterns and regular expressions as one expression over paths, with a literal to look for first."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lamina.errors import InvalidArgument

_PARTS = re.compile(r"\*\*/?|\*|\?|\[!?\]?[^\]/]*\]|\\.|.", re.DOTALL)
_SIZE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Pattern:
    """`expression` matches whole paths, or with `anywhere` parts of them. Every match has `literal` in it, in lower case with `fold`;
    a zero byte at its end stands for the path's end."""

    expression: re.Pattern[bytes]
    literal: bytes
    fold: bool
    anywhere: bool = False

    @classmethod
    def glob(cls, text: str, *, fold: bool = False) -> Pattern:
        """A shell pattern: without a slash for a name, with one for a path from the root on. A star stops at slashes, two do not.

        Raises:
            InvalidArgument: it is empty or endless.
        """
        if not text.strip("/") or len(text) > _SIZE_LIMIT:
            raise InvalidArgument(f"no pattern to find: {text[:100]!r}")
        wanted = text.rstrip("/")
        head = "(?:.*/)" if "/" not in wanted else "" if wanted.startswith("/") else "(?:/.*)?/"
        parts = _PARTS.findall(wanted)
        expression = _compiled(head + "".join(map(_translated, parts)), fold=fold)
        return cls(expression, _literal(parts, named="/" not in wanted, fold=fold), fold)

    @classmethod
    def regex(cls, text: str, *, fold: bool = False) -> Pattern:
        """A regular expression, anywhere in the path. Raises InvalidArgument."""
        return cls(_compiled(text, fold=fold), b"", fold, anywhere=True)


def _compiled(text: str, *, fold: bool) -> re.Pattern[bytes]:
    try:
        return re.compile(os.fsencode(text), re.DOTALL | (re.IGNORECASE if fold else 0))
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidArgument(f"invalid pattern {text[:100]!r}: {error}") from None


def _translated(part: str) -> str:
    if part.startswith("**"):
        return ".*" if part == "**" else "(?:.*/)?"
    if part == "*":
        return "[^/]*"
    if part == "?":
        return "[^/]"
    if part.startswith("[") and len(part) > 2:
        inside = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[{'^' + inside[1:] if inside.startswith('!') else inside}]"
    return re.escape(part[1:] if part.startswith("\\") and len(part) > 1 else part)


def _literal(parts: list[str], *, named: bool, fold: bool) -> bytes:
    """The longest run of plain characters; what stands at an end takes that end along."""
    plain = [part[-1] if (len(part) == 1 and part not in "*?") or (len(part) == 2 and part[0] == "\\") else "" for part in parts]
    runs, held = [], "/" if named else ""
    for character in plain:
        if character:
            held += character
        else:
            runs.append(held)
            held = ""
    runs.append(held + "\0" if held else "")
    best = os.fsencode(max(runs, key=len))
    return best.lower() if fold else best
