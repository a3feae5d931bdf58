"""Frames of several streams in one (Engine API, "Stream format"): a byte of kind, three zeros, four bytes of length, the payload."""

from __future__ import annotations

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


STDIN, STDOUT, STDERR = 0, 1, 2
_HEAD = 8


class Demultiplexer:
    """Takes the bytes as they come and gives pieces of (kind, payload); a payload is handed on before it is complete."""

    __slots__ = ("_head", "_kind", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._kind = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces that `data` completes or continues."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield self._kind, piece
                continue
            take = data[at : at + _HEAD - len(self._head)]
            at += len(take)
            self._head += take
            if len(self._head) == _HEAD:
                self._kind, self._left = self._head[0], int.from_bytes(self._head[4:], "big")
                self._head = b""


def split(pieces: Iterable[bytes], *, framed: bool) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of a whole stream; everything is standard output where it is not framed."""
    if not framed:
        for piece in pieces:
            yield STDOUT, piece
        return
    frames = Demultiplexer()
    for piece in pieces:
        yield from frames.feed(piece)
