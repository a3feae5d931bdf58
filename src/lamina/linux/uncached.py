"""Files that are written or read once: their bytes leave the page cache when they are on the disk, or were taken (RWF_DONTCACHE, preadv2(2)).

The disk is not waited for. Since Linux 6.14, where the file system can (ext4 and xfs do); elsewhere such a file is like any other.
What it gains is memory: nothing else is pushed out for these bytes, and the kernel need not find a fresh page for each of them,
which costs more than to copy them where a virtual machine must first get it from its host.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from lamina.linux.pieces import first

_DONTCACHE = 0x80  # linux/fs.h
_PIECE = 1 << 20
_PAGES = 1 << 16  # bytes: whole pages on every machine
_NOT_HERE = (errno.EOPNOTSUPP, errno.EINVAL)

Chunk = bytes | bytearray
"""Bytes that nobody changes, in what the reader found best."""


def read_into(fd: int, room: memoryview, start: int) -> int:
    """Fill `room` from byte `start` of the file on; how many bytes it took, none at the file's end."""
    return os.preadv(fd, (room,), start)


def read_uncached_into(fd: int, room: memoryview, start: int) -> int:
    """As `read_into`. What was in the page cache before stays there, what was not does not."""
    try:
        return os.preadv(fd, (room,), start, _DONTCACHE)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return read_into(fd, room, start)


def read_uncached(fd: int, size: int, start: int) -> Chunk:
    """At most `size` bytes of the file from byte `start` on, none at its end; of the page cache as `read_uncached_into`."""
    data = bytearray(size)
    with memoryview(data) as room:
        count = read_uncached_into(fd, room, start)
    del data[count:]
    return data


def read_once(fd: int) -> Iterator[Chunk]:
    """The file from its start to its end, a megabyte at a time."""
    start = 0
    while data := read_uncached(fd, _PIECE, start):
        yield data
        start += len(data)


class UncachedWriter:
    """Writes to the empty file `fd` from its start on; `finish` writes the last of it. Borrows the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd, self._flags = fd, _DONTCACHE
        self._held: list[bytes] = []
        self._size = self._at = 0

    def write(self, data: Chunk | memoryview) -> None:
        """The next bytes. Whole pages are written, many at once: one that is half full would be on its way to the disk when its
        rest comes."""
        if self._size + len(data) < _PIECE:
            self._held.append(bytes(data))
            self._size += len(data)
            return
        view = memoryview(data)
        stop = len(data) - (self._size + len(data)) % _PAGES
        self._out([*self._held, view[:stop]])
        self._held, self._size = [bytes(view[stop:])], len(data) - stop

    def finish(self) -> None:
        """All has been given. Files of less than a megabyte are written as usual."""
        if not self._at:
            self._flags = 0
        self._out([b"".join(self._held)])
        self._held, self._size = [], 0

    def _out(self, pieces: Sequence[bytes | memoryview]) -> None:
        left = [memoryview(piece) for piece in pieces if piece]
        while left:
            try:
                written = os.pwritev(self._fd, first(left), self._at, self._flags)
            except OSError as error:
                if not self._flags or error.errno not in _NOT_HERE:
                    raise
                self._flags = 0
                continue
            self._at += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]
