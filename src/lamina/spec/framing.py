"""Where a request's body ends (RFC 9112 6): pure machines over buffers, no I/O."""

from __future__ import annotations

from typing import Protocol

from lamina.errors import InvalidArgument

_LINE_LIMIT = 4096
_TRAILERS_LIMIT = 1 << 16
_SIZE_DIGITS = 15


class BadFraming(InvalidArgument):
    """The body breaks HTTP's framing; nothing after it can be trusted."""


class Framing(Protocol):
    """Finds the body's bytes in what arrives."""

    @property
    def done(self) -> bool:
        """Whether the body has ended."""

    def feed(self, buffer: bytearray, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """Look at `buffer[start:end]`.

        Returns the (start, end) pairs that are body, in order, and where the machine stopped looking:
        `end`, or less where the body ended before it.

        Raises:
            BadFraming: the bytes are no such body.
        """

    def state(self) -> list[str | int]:
        """Where it is, as JSON values; see `restored`."""


class Sized:
    """A body of `length` bytes (Content-Length; 0 where there is none)."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def done(self) -> bool:
        """See Framing.done."""
        return self._left == 0

    def feed(self, buffer: bytearray, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """See Framing.feed."""
        stop = min(end, start + self._left)
        self._left -= stop - start
        return ([(start, stop)] if stop > start else []), stop

    def state(self) -> list[str | int]:
        """See Framing.state."""
        return ["sized", self._left]


class Chunked:
    """A body in chunks (RFC 9112 7.1). Extensions and trailers are skipped."""

    __slots__ = ("_left", "_line", "_state", "_trailers")

    def __init__(self, left: int = 0, trailers: int = 0, line: bytes = b"", state: str = "size") -> None:
        self._left, self._trailers = left, trailers
        self._line = line
        self._state = state

    @property
    def done(self) -> bool:
        """See Framing.done."""
        return self._state == "done"

    def feed(self, buffer: bytearray, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """See Framing.feed."""
        found: list[tuple[int, int]] = []
        at = start
        while at < end and self._state != "done":
            if self._state == "data":
                stop = min(end, at + self._left)
                found.append((at, stop))
                self._left -= stop - at
                at = stop
                if not self._left:
                    self._state = "data end"
            else:
                at = self._take_line(buffer, at, end)
        return found, at

    def state(self) -> list[str | int]:
        """See Framing.state."""
        return ["chunked", self._left, self._trailers, self._line.decode("latin-1"), self._state]

    def _take_line(self, buffer: bytearray, at: int, end: int) -> int:
        newline = buffer.find(b"\n", at, end)
        stop = end if newline < 0 else newline + 1
        if len(self._line) + stop - at > _LINE_LIMIT:
            raise BadFraming("a chunk's head is too long")
        self._line += buffer[at:stop]
        if newline >= 0:
            line, self._line = self._line.rstrip(b"\r\n"), b""
            self._state = self._after(line)
        return stop

    def _after(self, line: bytes) -> str:
        if self._state == "data end":
            if line:
                raise BadFraming("a chunk is longer than its head says")
            return "size"
        if self._state == "trailer":
            self._trailers += len(line)
            if self._trailers > _TRAILERS_LIMIT:
                raise BadFraming("what follows a body's last chunk is too long")
            return "trailer" if line else "done"
        self._left = _chunk_size(line)
        return "data" if self._left else "trailer"


def restored(state: list[str | int]) -> Framing:
    """The machine whose `state` that is, perhaps of another process."""
    kind, left, *rest = state
    if kind == "sized":
        return Sized(int(left))
    trailers, line, name = rest
    return Chunked(int(left), int(trailers), str(line).encode("latin-1"), str(name))


def _chunk_size(line: bytes) -> int:
    """The size a chunk's head names: hexadecimal digits alone, then perhaps an extension."""
    digits = line.partition(b";")[0].strip(b" \t")
    if not digits or len(digits) > _SIZE_DIGITS or digits.strip(b"0123456789abcdefABCDEF"):
        raise BadFraming("a chunk's head names no size")
    return int(digits, 16)
