"""How wide the terminal is, and colours on it: a layer has the same one wherever it is shown."""

from __future__ import annotations

import posix

from lamina.cli.table import width

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Mapping

_LAYERS = ("36", "33", "35", "32", "34", "31", "96", "93", "95", "92", "94", "91")


_WIDTH = 100


class Screen:
    """Standard output as a reader sees it. Puts colours around text; not where it is not a terminal, or NO_COLOR is set (no-color.org).

    `width` is in columns; 100 where nobody can say.
    """

    __slots__ = ("colours", "terminal", "width")

    def __init__(self, environment: Mapping[str, str], fd: int = 1) -> None:
        self.terminal = posix.isatty(fd)
        self.colours = self.terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        self.width = (posix.get_terminal_size(fd).columns if self.terminal else 0) or _WIDTH

    def layer(self, index: int, text: str) -> str:
        """Text about the layer of that index."""
        return self._in(_LAYERS[index % len(_LAYERS)], text)

    def dim(self, text: str) -> str:
        """Text that is there for order."""
        return self._in("2", text)

    def bold(self, text: str) -> str:
        """Headings."""
        return self._in("1", text)

    def added(self, text: str) -> str:
        """What is new."""
        return self._in("32", text)

    def changed(self, text: str) -> str:
        """What is another than before."""
        return self._in("33", text)

    def gone(self, text: str) -> str:
        """What is no more."""
        return self._in("31", text)

    def place(self, text: str) -> str:
        """Where something begins."""
        return self._in("36", text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text else text


def columns(rows: list[list[str]], right: frozenset[int] = frozenset()) -> list[list[str]]:
    """The cells of a table padded to equal widths, those of the columns `right` on their left side; the last cell stays as it is."""
    widths = [max(map(width, cells)) for cells in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [[cell if at == last else _padded(cell, widths[at], right=at in right) for at, cell in enumerate(row)] for row in rows]


def _padded(cell: str, to: int, *, right: bool) -> str:
    blanks = " " * (to - width(cell))
    return blanks + cell if right else cell + blanks
