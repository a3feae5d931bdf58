"""Patterns of .dockerignore, as moby's patternmatcher reads them."""

from __future__ import annotations


class Ignore:
    """The patterns of one .dockerignore; the last that matches decides."""

    @classmethod
    def parse(cls, text: str) -> Ignore:
        """Read a file: one pattern a line, `#` comments, `!` exceptions, `**` for any depth.

        Raises:
            InvalidArgument: a pattern is malformed.
        """
        raise NotImplementedError

    def excludes(self, path: str) -> bool:
        """Whether `path` (relative, slashes, no leading one) is left out of the context."""
        raise NotImplementedError

    def may_descend(self, path: str) -> bool:
        """Whether something below the excluded directory `path` could be let back in by an exception."""
        raise NotImplementedError
