"""zstd in frames of a megabyte, and a table of where they lie: several threads compress or inflate it at once.

This is the zstd seekable format 0.1.0 (zstd/contrib/seekable_format); whoever does not know it reads an ordinary zstd stream.

    frame ...           each of `CHUNK` bytes, the last one of as many or fewer, with its checksum
    0x184D2A5E  size    the table, in a skippable frame (RFC 8878, 3.1.2)
    sizes ...           of each frame: compressed, plain
    count  flags  0x8F92EAB1

Numbers are little endian, of four bytes; the flags, all unset, are one byte.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from lamina.layer.compression import inflater, zstd_deflater
from lamina.layer.errors import InvalidArchive
from lamina.layer.stream import CHUNK
from lamina.linux.uncached import Chunk, read_uncached

Sizes = tuple[int, int]
"""Of a frame, in bytes: compressed, plain."""

_HEAD, _SIZES, _FOOT = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")
_SKIPPABLE, _SEEKABLE = 0x184D2A5E, 0x8F92EAB1
_THREADS = 2

T = TypeVar("T")


class FramesDeflater:
    """See `Deflater`: `threads` compress beside the caller. The same bytes give the same frames, however they are cut or how many do it."""

    def __init__(self, level: int = 1, threads: int = _THREADS) -> None:
        self._level = level
        self._frames: _Ordered[tuple[bytes, int]] = _Ordered(threads)
        self._held: list[bytes | memoryview] = []
        self._size = 0
        self._sizes: list[Sizes] = []

    def compress(self, data: Chunk | memoryview) -> bytes:
        """See `Deflater.compress`."""
        rest = memoryview(data)
        while self._size + len(rest) >= CHUNK:
            cut = CHUNK - self._size
            self._begin(b"".join([*self._held, rest[:cut]]))
            rest, self._held, self._size = rest[cut:], [], 0
        if rest:
            self._held.append(bytes(rest))
            self._size += len(rest)
        return self._taken(self._frames.ready())

    def flush(self) -> bytes:
        """See `Deflater.flush`."""
        if self._held:
            self._begin(b"".join(self._held))
        frames = self._taken(self._frames.rest())
        table = b"".join(_SIZES.pack(*sizes) for sizes in self._sizes) + _FOOT.pack(len(self._sizes), 0, _SEEKABLE)
        return frames + _HEAD.pack(_SKIPPABLE, len(table)) + table

    def _begin(self, piece: bytes) -> None:
        self._frames.begin(partial(_deflated, piece, self._level))

    def _taken(self, frames: Iterable[tuple[bytes, int]]) -> bytes:
        taken = list(frames)
        self._sizes += [(len(frame), plain) for frame, plain in taken]
        return b"".join(frame for frame, _ in taken)


def table_of(fd: int) -> Sequence[Sizes] | None:
    """The frames of the file, first to last, where it is one that `FramesDeflater` wrote, cut each megabyte; None: it is not."""
    end = os.fstat(fd).st_size
    foot = os.pread(fd, _FOOT.size, max(end - _FOOT.size, 0))
    if len(foot) < _FOOT.size:
        return None
    count, flags, magic = _FOOT.unpack(foot)
    size = count * _SIZES.size + _FOOT.size
    start = end - size - _HEAD.size
    if magic != _SEEKABLE or flags or start < 0 or os.pread(fd, _HEAD.size, start) != _HEAD.pack(_SKIPPABLE, size):
        return None
    table = tuple(_SIZES.iter_unpack(os.pread(fd, count * _SIZES.size, start + _HEAD.size)))
    even = all(plain == CHUNK for _, plain in table[:-1]) and all(0 < plain <= CHUNK for _, plain in table[-1:])
    return table if even and len(table) == count and sum(compressed for compressed, _ in table) == start else None


def inflated(fd: int, table: Sequence[Sizes], threads: int = _THREADS) -> Iterator[bytes]:
    """The plain bytes of the file's frames, one after another: pieces of a megabyte, the last one shorter. Borrows the descriptor.

    Raises:
        InvalidArchive: a frame is not what the table says, or is damaged; those before it were given.
    """
    frames: _Ordered[bytes] = _Ordered(threads)
    start = 0
    try:
        for compressed, plain in table:
            frames.begin(partial(_inflated, fd, start, compressed, plain))
            start += compressed
            yield from frames.ready()
        yield from frames.rest()
    finally:
        frames.close()


class _Ordered(Generic[T]):
    """Work for threads, whose results are taken in the order in which it was begun."""

    def __init__(self, threads: int) -> None:
        self._threads, self._most = ThreadPoolExecutor(threads, "frame"), 3 * threads
        self._begun: deque[Future[T]] = deque()

    def begin(self, work: Callable[[], T]) -> None:
        self._begun.append(self._threads.submit(work))

    def ready(self) -> Iterator[T]:
        """What is done; waits only while too much is under way."""
        while self._begun and (self._begun[0].done() or len(self._begun) >= self._most):
            yield self._begun.popleft().result()

    def rest(self) -> Iterator[T]:
        """All that is left."""
        while self._begun:
            yield self._begun.popleft().result()
        self.close()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def _deflated(piece: bytes, level: int) -> tuple[bytes, int]:
    deflater = zstd_deflater(level)
    return deflater.compress(piece) + deflater.flush(), len(piece)


def _inflated(fd: int, start: int, compressed: int, plain: int) -> bytes:
    one, pieces, size = inflater("zstd"), [], 0
    while compressed:
        data = read_uncached(fd, compressed, start)
        if not data:
            break
        start, compressed = start + len(data), compressed - len(data)
        for piece in one.feed(bytes(data)):
            size += len(piece)
            if size > plain:
                raise InvalidArchive("a zstd frame holds more than its table says")
            pieces.append(piece)
    one.finish()
    if size != plain:
        raise InvalidArchive("a zstd frame holds less than its table says")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
