"""Worker side: a tar read forwards, its members in order and each one's content on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from lamina.layer.compression import detect, inflater
from lamina.layer.errors import TruncatedArchive, shown
from lamina.layer.tar.member import Member
from lamina.layer.tar.parser import Parser
from lamina.linux.pipe import write_gathered

_TELLING = 512
"""How many bytes say how the rest is compressed."""
_LONG = 1 << 20
"""Contents of which as many bytes are still to come go from where they arrive to their file."""


class Archive:
    """Iterate over it once. A member's `content` is to be had until the next member is asked for."""

    def __init__(self, source: Iterator[bytes], copy: Callable[[int, int], int] | None = None) -> None:
        """`source` are the tar's bytes in pieces; it may be plain, or compressed as `detect` tells. `copy`, if there is one, writes what the source would give
        next to a descriptor, at most so many bytes, and says how many there were."""
        self._pieces = self._inflated(source)
        self._copy = copy
        self._parser = Parser()
        self._members: deque[Member] = deque()
        # The piece at hand, and where in the tar it begins.
        self._piece, self._begin = memoryview(b""), 0

    def __iter__(self) -> Iterator[Member]:
        """Raises InvalidArchive: the tar breaks its format or ends in the middle."""
        while True:
            while self._members:
                yield self._members.popleft()
            if not self._advance():
                self._parser.finish()
                return

    def content(self, member: Member, offset: int, length: int) -> Iterable[memoryview]:
        """The tar's bytes from `offset` on, which belong to this member; further on than those asked for before.

        Raises:
            InvalidArchive: they end early.
        """
        start = offset - self._begin
        if start + length <= len(self._piece):  # as of most files
            return (self._piece[start : start + length],)
        return self._arriving(member, offset, length)

    def write(self, fd: int, member: Member, offset: int, length: int) -> None:
        """Write those bytes to `fd`, where it stands. Raises as `content`."""
        here = self._begin + len(self._piece) - offset
        if self._copy is not None and 0 <= here <= length - _LONG and offset >= self._begin:
            self._write(fd, self.content(member, offset, here))
            copied = self._copy(fd, length - here)
            self._parser.pass_over(copied)
            self._begin, self._piece = offset + here + copied, memoryview(b"")
            offset, length = self._begin, length - here - copied
        self._write(fd, self.content(member, offset, length))

    def _arriving(self, member: Member, offset: int, length: int) -> Iterator[memoryview]:
        while length:
            while self._begin + len(self._piece) <= offset:
                if not self._advance():
                    raise TruncatedArchive(f"archive is truncated: {shown(member.path)} lacks {length} bytes")
            start = offset - self._begin
            piece = self._piece[start : start + length]
            yield piece
            offset, length = offset + len(piece), length - len(piece)

    @staticmethod
    def _write(fd: int, pieces: Iterable[memoryview]) -> None:
        for piece in pieces:
            write_gathered(fd, [piece])

    def _advance(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._begin += len(self._piece)
        self._piece = memoryview(piece)
        self._members += self._parser.feed(piece)
        return True

    def _inflated(self, source: Iterator[bytes]) -> Iterator[bytes]:
        """The plain tar to the source's end, what follows the archive too: whoever writes them is not cut off."""
        head = b""
        for piece in source:
            head += piece
            if len(head) >= _TELLING:
                break
        if compression := detect(head):
            self._copy = None
        stream = inflater(compression)
        yield from stream.feed(head)
        for piece in source:
            yield from stream.feed(piece)
        stream.finish()
