"""Variables, quotes and escapes in the words of a Dockerfile, as BuildKit's shell lexer reads them."""

from __future__ import annotations

from collections.abc import Mapping


class Expander:
    """Expands words. `escape` is the escape character in force, a backslash or a backtick."""

    def __init__(self, escape: str = "\\") -> None:
        self.escape = escape

    def word(self, text: str, env: Mapping[str, str]) -> str:
        """`text` as one word: variables replaced, quotes and escapes taken away.

        Raises:
            DockerfileError: a quote or brace is not closed, a modifier is unknown, or `${x:?message}` speaks.
        """
        raise NotImplementedError

    def words(self, text: str, env: Mapping[str, str]) -> list[str]:
        """`text` split at unquoted blanks after expansion (EXPOSE).  See word."""
        raise NotImplementedError
