"""A tar without the contents of its files, which lie in a tree: together they are the tar again, byte for byte.

    MAGIC   8 bytes: how many the frame has   frame   table

    frame   zstd: for each content, in the tar's order, how many bytes come before it since the last one, how many it has
            itself, then the bytes before it; at the end what follows the last content, as before one of 0 bytes
    table   zstd: for each content the path of its file in the tree and, of a sparse one, the runs that are stored; where
            the tree has no such file, since a later member took its place: the bytes themselves

Numbers are little endian. Both zstd frames have checksums; whoever puts the tar together compares its digest.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import NamedTuple

from lamina.layer.compression import inflater, zstd_deflater
from lamina.layer.errors import InvalidArchive, LayerDamaged, shown
from lamina.linux.uncached import Chunk, read_into, read_uncached_into

MAGIC = b"lamina skeleton 1\n"
Run = tuple[int, int]
"""Where bytes lie in a file, and how many."""

_LENGTH = struct.Struct("<Q")
_HEAD = len(MAGIC) + _LENGTH.size
_RECORD = struct.Struct("<QQ")
_PLACE = struct.Struct("<IQ")
_LOST = 0xFFFFFFFF
_CHUNK = 1 << 20
_BATCH = 1 << 17
_AHEAD, _FIRST = 64, 1 << 17
_MISSING = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO))
_NO_FILE = frozenset((errno.EISDIR, errno.ESPIPE))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SkeletonWriter:
    """Writes a skeleton to the empty file `fd`: `literal` and `content` in the tar's order, then `table`, then each content's place."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._out = _Deflated(fd, _HEAD)
        self._before: list[bytes] = []
        self._size = 0

    def literal(self, data: bytes | memoryview) -> None:
        """The tar goes on with these bytes."""
        # A copy: a slice would keep all of what it is of.
        self._before.append(bytes(data))
        self._size += len(data)
        if self._size >= _CHUNK:
            self.content(0)

    def content(self, size: int) -> None:
        """The tar goes on with the next content, of `size` bytes; 0: there is none here."""
        self._out.put(_RECORD.pack(self._size, size), *self._before)
        self._before, self._size = [], 0

    def table(self) -> None:
        """The tar has ended. `file` or `lost` follows, once for each content, in order."""
        self.content(0)
        end = self._out.finish()
        os.pwrite(self._fd, MAGIC + _LENGTH.pack(end - _HEAD), 0)
        self._out = _Deflated(self._fd, end)

    def file(self, path: bytes, runs: Sequence[Run] = ()) -> None:
        """The next content is that of the file at `path`, of which, if it is sparse, `runs` are stored."""
        self._out.put(_PLACE.pack(len(path), len(runs)), path, *(_RECORD.pack(*run) for run in runs))

    def lost(self, size: int, chunks: Iterable[bytes]) -> None:
        """The next content, of `size` bytes, is in no file of the tree."""
        self._out.put(_PLACE.pack(_LOST, size))
        for chunk in chunks:
            self._out.put(chunk)

    def finish(self) -> None:
        """All places have been told."""
        self._out.finish()


class _Deflated:
    """One zstd frame of the file, from `at` on."""

    def __init__(self, fd: int, at: int) -> None:
        self._fd, self._at = fd, at
        self._deflater = zstd_deflater(1)
        self._held: list[bytes] = []
        self._size = 0

    def put(self, *pieces: bytes) -> None:
        self._held += pieces
        self._size += sum(map(len, pieces))
        if self._size >= _BATCH:
            self._write(self._deflater.compress(b"".join(self._held)))
            self._held, self._size = [], 0

    def finish(self) -> int:
        """Where it ends."""
        self._write(self._deflater.compress(b"".join(self._held)) + self._deflater.flush())
        return self._at

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._at)
            self._at, view = self._at + written, view[written:]


def rebuilt(skeleton: str, tree: str, name: str = "") -> Iterator[Chunk]:
    """The tar that the file `skeleton` and the directory `tree` are together, in pieces of a megabyte, the last one shorter.

    Its digest is for the caller to compare.

    Raises:
        LayerDamaged: something is missing or too short; names the layer `name`.
        OSError: it could not be seen, which says nothing about the layer.
    """
    return _Rebuilding(skeleton, tree, name or os.path.basename(skeleton)).pieces()


class _Rebuilding:
    def __init__(self, skeleton: str, tree: str, name: str) -> None:
        self._skeleton, self._tree, self._name = skeleton, tree, name

    def pieces(self) -> Iterator[Chunk]:
        with ExitStack() as opened:
            try:
                fd, top = os.open(self._skeleton, os.O_RDONLY | os.O_CLOEXEC), os.open(self._tree, _DIRECTORY)
            except OSError as error:
                raise self._damaged(f"{error.filename} is missing") from None
            opened.callback(os.close, fd)
            opened.callback(os.close, top)
            try:
                yield from self._cut(self._parts(fd, top))
            except (InvalidArchive, struct.error):
                raise self._damaged("its skeleton is not what was written") from None

    def _cut(self, parts: Iterable[bytes | _Stored]) -> Iterator[Chunk]:
        """Their bytes, read to where they belong: to put a megabyte together from small pieces would take as long again."""
        piece, at = bytearray(_CHUNK), 0
        view = memoryview(piece)
        for part in parts:
            done, size = 0, len(part) if isinstance(part, bytes) else part.size
            while done < size:
                room = view[at : at + size - done]
                count = len(room)
                if isinstance(part, bytes):
                    room[:] = part[done : done + count]
                elif not (count := _filled(room, part, done)):
                    raise self._damaged(f"{shown(part.place.path)} in its tree is not what was written")
                done += count
                at += count
                if at == _CHUNK:
                    yield piece
                    piece, at = bytearray(_CHUNK), 0
                    view = memoryview(piece)
        if at:
            yield bytes(view[:at])

    def _parts(self, fd: int, top: int) -> Iterator[bytes | _Stored]:
        head = os.pread(fd, _HEAD, 0)
        if len(head) < _HEAD or not head.startswith(MAGIC):
            raise struct.error
        middle = _HEAD + _LENGTH.unpack(head[len(MAGIC) :])[0]
        frame, table = _Inflated(fd, _HEAD, middle), _Inflated(fd, middle, 1 << 63)
        with closing(_Ahead(table, top)) as places:
            while frame.more():
                before, size = _RECORD.unpack(frame.take(_RECORD.size))
                yield from frame.stream(before)
                if size:
                    place = places.next()
                    yield from table.stream(size) if place is None else self._stored(place, size)

    def _stored(self, place: _Place, size: int) -> Iterator[_Stored]:
        if place.fd < 0:
            raise self._damaged(f"{shown(place.path)} is missing from its tree")
        # Large ones were written past the page cache, too.
        read = read_uncached_into if size >= _CHUNK else read_into
        try:
            for start, length in place.runs or ((0, size),):
                yield _Stored(place, start, length, read)
        finally:
            os.close(place.fd)

    def _damaged(self, what: str) -> LayerDamaged:
        return LayerDamaged(f"layer {self._name} is damaged: {what}")


class _Place(NamedTuple):
    """A file of the tree, open unless it is missing (-1), and where its content lies in it; no runs: from its start."""

    path: bytes
    fd: int
    runs: Sequence[Run]


class _Stored(NamedTuple):
    """Bytes of a file of the tree."""

    place: _Place
    start: int
    size: int
    read: Callable[[int, memoryview, int], int]


def _filled(room: memoryview, part: _Stored, done: int) -> int:
    """How many bytes of the part came into the room; none where no file is at its place any more."""
    try:
        return part.read(part.place.fd, room, part.start + done)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return 0


class _Ahead:
    """The places that a table tells, in order. Files are opened before their turn and their first bytes asked for, so that a disk gives
    many small files at a time, not one after another."""

    def __init__(self, table: _Inflated, top: int) -> None:
        self._table, self._top = table, top
        self._places: deque[_Place] = deque()
        self._bytes_next = False

    def next(self) -> _Place | None:
        """The next content's place; None: the table goes on with its bytes."""
        while len(self._places) < _AHEAD and not self._bytes_next and self._table.more():
            self._look()
        if self._places:
            return self._places.popleft()
        if not self._bytes_next:
            raise struct.error
        self._bytes_next = False
        return None

    def close(self) -> None:
        """Close what was opened and not taken."""
        for place in self._places:
            if place.fd >= 0:
                os.close(place.fd)
        self._places.clear()

    def _look(self) -> None:
        length, count = _PLACE.unpack(self._table.take(_PLACE.size))
        if length == _LOST:
            self._bytes_next = True
            return
        path = self._table.take(length)
        runs = [_RECORD.unpack(self._table.take(_RECORD.size)) for _ in range(count)] if count else ()
        try:
            fd = os.open(path, _READ, dir_fd=self._top)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            self._places.append(_Place(path, -1, runs))
            return
        self._places.append(_Place(path, fd, runs))
        try:
            os.posix_fadvise(fd, 0, _FIRST, os.POSIX_FADV_WILLNEED)
        except OSError:
            pass


class _Inflated:
    """The plain bytes of the zstd frame between two offsets of a file."""

    def __init__(self, fd: int, start: int, stop: int) -> None:
        self._fd, self._at, self._stop = fd, start, stop
        self._inflater = inflater("zstd")
        self._ready: deque[bytes] = deque()
        self._held = b""
        self._position = 0

    def more(self) -> bool:
        """Whether there are more bytes."""
        return self._position < len(self._held) or self._fill()

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, a few."""
        end = self._position + size
        if end <= len(self._held):
            found, self._position = self._held[self._position : end], end
            return found
        return b"".join(self.stream(size))

    def stream(self, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes, in pieces."""
        while size:
            if not self.more():
                raise struct.error
            piece = self._held[self._position : self._position + size]
            self._position, size = self._position + len(piece), size - len(piece)
            yield piece

    def _fill(self) -> bool:
        while not self._ready:
            data = os.pread(self._fd, min(_BATCH, self._stop - self._at), self._at)
            if not data:
                self._inflater.finish()
                return False
            self._at += len(data)
            self._ready += self._inflater.feed(data)
        self._held, self._position = self._ready.popleft(), 0
        return True
