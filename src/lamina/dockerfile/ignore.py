"""Patterns of .dockerignore, as moby's patternmatcher reads them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lamina.errors import InvalidArgument

_SPECIAL = re.compile(r"[*?\[\]\\]")


class InvalidPattern(InvalidArgument):
    """A pattern of .dockerignore is malformed."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    regex: re.Pattern[str]
    exception: bool


@dataclass(frozen=True, slots=True)
class Ignore:
    """The patterns of one .dockerignore; the last that matches decides."""

    patterns: tuple[_Pattern, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Ignore:
        """Read a file: one pattern per line, `#` comments, `!` exceptions, `**` for any depth.

        Raises:
            InvalidPattern: a pattern is malformed.
        """
        lines = text.removeprefix("\ufeff").split("\n")
        return cls(tuple(_compile(line.strip()) for line in lines if line.strip() and not line.startswith("#")))

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Ignore:
        """Patterns one by one, as COPY --exclude gives them.  See parse."""
        return cls(tuple(_compile(pattern.strip()) for pattern in patterns if pattern.strip()))

    def excludes(self, path: str) -> bool:
        """Whether `path` (relative, slashes, no leading one) is left out of the context.

        A pattern that matches a directory matches all below it; but, as in moby, an exception counts for a directory only where it changes
        something: `!d` lets back nothing of what `d/*.md` left out.
        """
        excluded, above = False, [False] * len(self.patterns)
        for prefix in _prefixes(path):
            excluded = False
            for index, pattern in enumerate(self.patterns):
                if above[index] or (pattern.exception == excluded and pattern.regex.match(prefix)):
                    above[index], excluded = True, not pattern.exception
        return excluded

    def may_descend(self, path: str) -> bool:
        """Whether something below the excluded directory `path` could be let back in by an exception."""
        return any(pattern.exception and _reaches_below(pattern.text, path) for pattern in self.patterns)


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: length + 1]) for length in range(len(parts))]


def _reaches_below(pattern: str, path: str) -> bool:
    wild = min((pattern.find(character) for character in "*?[\\" if character in pattern), default=len(pattern))
    fixed = pattern[:wild]
    return fixed.startswith(path + "/") or (wild < len(pattern) and (path + "/").startswith(fixed))


def _compile(line: str) -> _Pattern:
    exception = line.startswith("!")
    text = line[1:].strip() if exception else line
    if not text:
        raise InvalidPattern(f"illegal exclusion pattern: {line!r}")
    cleaned = posixpath.normpath(text).lstrip("/")
    try:
        # An empty pattern is what is left of "/" or ".": it matches nothing, so a context is never all gone by it.
        return _Pattern(cleaned, re.compile(path_regex(cleaned) if cleaned not in ("", ".") else r"(?!)", re.DOTALL), exception)
    except re.error:
        raise InvalidPattern(f"syntax error in pattern: {line[:200]!r}") from None


def path_regex(pattern: str) -> str:
    """A pattern as a regular expression over a whole path (relative, cleaned)."""
    if pattern.startswith("**") and not pattern.startswith("/", 2) and not _SPECIAL.search(pattern, 2):
        return f".*{re.escape(pattern[2:])}\\Z"  # moby compares the ends: `**.o` is `**/*.o`
    pieces: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if pattern.startswith("**", at):
            while pattern.startswith("**", at):  # `**/**/` is `**/`: told apart they would cost time for nothing
                at += 3 if pattern.startswith("/", at + 2) else 2
            pieces.append(".*" if at >= len(pattern) else "(?:.*/)?")
        elif character == "*":
            pieces.append("[^/]*")
            at += 1
        elif character == "?":
            pieces.append("[^/]")
            at += 1
        elif character == "[":
            piece, at = _class(pattern, at)
            pieces.append(piece)
        else:
            if character == "\\":
                at += 1
                if at == len(pattern):
                    raise InvalidPattern(f"syntax error in pattern: {pattern[:200]!r}")
            pieces.append(re.escape(pattern[at]))
            at += 1
    return "".join(pieces) + r"\Z"


def _class(pattern: str, at: int) -> tuple[str, int]:
    """`[a-z]`, `[^…]` as Go's filepath.Match reads them, and where it ends."""
    end = at + 1
    negated = pattern.startswith("^", end)
    end += negated
    pieces: list[str] = []
    while not pattern.startswith("]", end) or not pieces:
        escaped = pattern.startswith("\\", end)
        end += escaped
        if end >= len(pattern):
            raise InvalidPattern(f"syntax error in pattern: {pattern[:200]!r}")
        character = pattern[end]
        pieces.append("-" if character == "-" and pieces and not escaped else re.escape(character))
        end += 1
    return f"[{'^' if negated else ''}{''.join(pieces)}]", end + 1
