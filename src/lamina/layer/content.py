"""Files' contents out of one layer: from the extracted tree, or from the tar by offset."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import closing
from types import TracebackType
from typing import BinaryIO

from lamina.errors import Corrupt
from lamina.layer.index import Entry

_CHUNK = 1 << 20
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Place:
    """Where a layer's bytes lie: `tree`, a directory, or `tar`, the uncompressed archive. Close it, or use it in a `with`.

    What is read through it opens files of its own, except `part`, for loops over many files.
    """

    def __init__(self, tree: str | None, tar: str | None) -> None:
        self._tree, self._tar = tree, tar
        self._fd = -1

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close what `part` opened. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of a regular file, holes as zeros. Opened at once, closed when read to its end or dropped.

        Raises:
            Corrupt: what is stored ends early, or is not here.
        """
        if self._tree is not None:
            return _whole(open_in_tree(self._tree, entry.path), entry.size)
        if self._tar is None:
            raise Corrupt("the bytes of a layer are neither in a tar nor in a tree")
        if entry.copied:
            return through_tarfile(open(self._tar, "rb"), entry)
        fd = os.open(self._tar, os.O_RDONLY | os.O_CLOEXEC)
        return _whole(fd, entry.size, entry.offset) if entry.extents is None else _sparse(fd, entry)

    def stored(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of a sparse file's extents, one after another. Opened with the first, closed as by `read`, and raises as that does."""
        if self._tree is None and self._tar is None:
            raise Corrupt("the bytes of a layer are neither in a tar nor in a tree")
        fd = open_in_tree(self._tree, entry.path) if self._tree is not None else os.open(self._tar or "", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for extent in entry.extents or ():
                yield from _range(fd, extent.offset if self._tree is None else extent.start, extent.length)
        finally:
            os.close(fd)

    def open(self, entry: Entry) -> tuple[int, int] | None:
        """A descriptor that has the whole file from an offset on, and that offset; the caller closes it. None: it lies in pieces.

        Raises:
            Corrupt: see `read`.
        """
        if self._tree is not None:
            return open_in_tree(self._tree, entry.path), 0
        if self._tar is None or entry.copied or entry.extents is not None:
            return None
        return os.open(self._tar, os.O_RDONLY | os.O_CLOEXEC), entry.offset

    def part(self, entry: Entry, limit: int) -> bytes:
        """The first `limit` bytes of a regular file, all of it where it is shorter. See `read`."""
        size = min(entry.size, limit)
        if self._tree is None and self._tar is not None and entry.extents is None and not entry.copied:
            if self._fd < 0:
                self._fd = os.open(self._tar, os.O_RDONLY | os.O_CLOEXEC)
            return read_at(self._fd, entry.offset, size)
        held = bytearray()
        with closing(self.read(entry)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                held += piece
                if len(held) >= size:
                    break
        return bytes(held[:size])


def open_in_tree(tree: str, path: bytes) -> int:
    """Open a path below `tree`; no component of an index's path is a link, and none is followed."""
    fd = os.open(tree, _PATH)
    try:
        *directories, name = path.split(b"/")
        for directory in directories:
            below = os.open(directory, _PATH | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        raise Corrupt(f"a layer's tree lacks {os.fsdecode(path)[:300]}") from None
    finally:
        os.close(fd)


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Exactly `size` bytes from `offset`. Raises Corrupt where the file ends before."""
    data = os.pread(fd, size, offset)
    if len(data) == size:
        return data
    return b"".join([data, *_range(fd, offset + len(data), size - len(data))])


def through_tarfile(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The slow way, for the few sparse files whose stored bytes lie unaligned in the tar, and for compressed tars; closes `file`."""
    with closing(file), tarfile.open(fileobj=file, mode="r|") as tar:
        for member in tar:
            if os.fsencode(member.name).strip(b"./") == entry.path.strip(b"./"):
                stream = tar.extractfile(member)
                while stream is not None and (data := stream.read(_CHUNK)):
                    yield data
                return
    raise Corrupt("a layer's tar does not hold what its index lists")


def _whole(fd: int, size: int, offset: int = 0) -> Iterator[bytes]:
    try:
        yield from _range(fd, offset, size)
    finally:
        os.close(fd)


def _sparse(fd: int, entry: Entry) -> Iterator[bytes]:
    try:
        position = 0
        for extent in entry.extents or ():
            yield from _zeros(extent.start - position)
            yield from _range(fd, extent.offset, extent.length)
            position = extent.start + extent.length
        yield from _zeros(entry.size - position)
    finally:
        os.close(fd)


def _range(fd: int, offset: int, size: int) -> Iterator[bytes]:
    while size > 0:
        data = os.pread(fd, min(size, _CHUNK), offset)
        if not data:
            raise Corrupt("a layer's bytes end early")
        yield data
        offset, size = offset + len(data), size - len(data)


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield bytes(min(size, _CHUNK))
        size -= _CHUNK
