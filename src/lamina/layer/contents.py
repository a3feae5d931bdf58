"""A layer's tar taken apart while its bytes come: contents of regular files go one way, all the rest into a skeleton.

Contents get numbers in the tar's order. Where in the layer a content belongs is known only at the end, when no later member
can replace its file any more; `Files` keeps them under their numbers until then.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from lamina.layer.attributes import dress
from lamina.layer.skeleton import Run, SkeletonWriter
from lamina.layer.tar.member import Member
from lamina.layer.tree import Node, walk
from lamina.linux.pieces import PIECE
from lamina.linux.uncached import UncachedWriter

_CHUNK = 1 << 20
_TOGETHER = 6  # bits
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Store(Protocol):
    """Takes contents one after another."""

    def begin(self, number: int, node: Node) -> None:
        """The next content is that of `node`."""

    def write(self, data: memoryview) -> None:
        """More of it; not kept longer than this call."""

    def end(self) -> None:
        """That was all of it."""

    def read(self, number: int, start: int, length: int) -> bytes:
        """Bytes of the file that a content is of."""

    def left(self, number: int) -> tuple[int, Iterable[bytes]]:
        """How many bytes a content has and what they are: one that belongs to no file in the end."""


class Contents:
    """Takes each chunk of a tar after the members that it completes. `skeleton` is finished by `finish`."""

    def __init__(self, store: Store, skeleton: SkeletonWriter) -> None:
        self._store, self._skeleton = store, skeleton
        self._coming: deque[tuple[int, int, Node]] = deque()
        self._mapped: list[tuple[int, Node]] = []
        self._last: Node | None = None
        self._count = 0
        self._at = self._left = 0

    def expect(self, member: Member, node: Node) -> None:
        """`node` is what the tree made of the member, whose content is still to be taken."""
        extents = member.extents
        size = member.size if extents is None else sum(extent.length for extent in extents)
        if size:
            self._count += 1
            node.content = self._count
            self._coming.append((member.offset, size, node))
            self._last = node
            if extents is not None:
                self._mapped.append((member.offset, node))

    def take(self, chunk: bytes) -> None:
        """The next bytes of the tar."""
        view, base, end = memoryview(chunk), self._at, len(chunk)
        store, coming, skeleton = self._store, self._coming, self._skeleton
        at = 0
        while at < end:
            if self._left:
                stop = min(at + self._left, end)
                store.write(view[at:stop])
                self._left -= stop - at
                at = stop
                if not self._left:
                    store.end()
                continue
            start = coming[0][0] - base if coming else end
            if at < start:
                skeleton.literal(view[at : min(start, end)])
                at = min(start, end)
            if at == start < end:
                _, self._left, node = coming.popleft()
                skeleton.content(self._left)
                store.begin(node.content, node)
        self._at += end

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the tar that belong to a sparse file or to the last one: what a metadata image may want of it (`erofs.writer.write`).

        For when all was taken and nothing was moved.
        """
        last = [] if self._last is None else [(self._last.offset, self._last)]
        nodes = [node for start, node in (*self._mapped, *last) if start <= offset]
        node = max(nodes, key=lambda node: node.extents[0].offset if node.extents else node.offset)
        for start, size, at in node.extents if node.extents is not None else ((0, node.size, node.offset),):
            if at <= offset < at + size:
                return self._store.read(node.content, start + offset - at, length)
        raise AssertionError(f"nothing was taken at byte {offset} of a tar")

    def finish(self, root: Node) -> None:
        """The tar has ended, and `root` is what it amounts to."""
        places: list[tuple[bytes, Node] | None] = [None] * (self._count + 1)
        for path, node in walk(root):
            if node.content and places[node.content] is None:
                places[node.content] = path, node
        self._skeleton.table()
        for number in range(1, self._count + 1):
            place = places[number]
            if place is None:
                self._skeleton.lost(*self._store.left(number))
            else:
                self._skeleton.file(place[0], runs(place[1]))
        self._skeleton.finish()


def runs(node: Node) -> Sequence[Run]:
    """What is stored of a sparse file, empty for any other."""
    return [(extent.start, extent.length) for extent in node.extents] if node.extents is not None else ()


def place(number: int) -> bytes:
    """Where `Files` has a content: few lie together, since file systems look through a block of names for each that comes and goes."""
    return b"%d/%d" % (number >> _TOGETHER, number)


class Files:
    """See `Store`: a file each, by number (`place`), complete with attributes, in a directory that nobody else can reach. `close` it.

    `uncached`: files of a megabyte and more leave the page cache.
    """

    def __init__(self, directory: str, *, uncached: bool = False) -> None:
        self.directory = os.open(directory, _DIRECTORY)
        self._uncached = uncached
        self._large: UncachedWriter | None = None
        self._fd = -1
        self._node: Node | None = None
        self._runs: list[Run] = []
        self._sparse: dict[int, Sequence[Run]] = {}
        self._made = -1

    def begin(self, number: int, node: Node) -> None:
        """See `Store.begin`."""
        if (directory := number >> _TOGETHER) != self._made:
            os.mkdir(b"%d" % directory, 0o700, dir_fd=self.directory)
            self._made = directory
        self._fd, self._node = os.open(place(number), _CREATE, 0o600, dir_fd=self.directory), node
        if node.extents is not None:
            os.ftruncate(self._fd, node.size)
            self._sparse[number] = runs(node)
            self._runs = list(reversed(self._sparse[number]))
        elif self._uncached and node.size >= _CHUNK:
            self._large = UncachedWriter(self._fd)

    def write(self, data: memoryview) -> None:
        """See `Store.write`."""
        if self._large is not None:
            self._large.write(data)
            return
        while data:
            piece = data[:PIECE]
            data = data[os.write(self._fd, piece) if not self._runs else self._write_run(piece) :]

    def end(self) -> None:
        """See `Store.end`."""
        assert self._node is not None
        if self._large is not None:
            self._large.finish()
            self._large = None
        dress(self._fd, self._node)
        os.close(self._fd)
        self._fd = -1

    def read(self, number: int, start: int, length: int) -> bytes:
        """See `Store.read`."""
        fd = os.open(place(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            return os.pread(fd, length, start)
        finally:
            os.close(fd)

    def left(self, number: int) -> tuple[int, Iterable[bytes]]:
        """See `Store.left`."""
        fd = os.open(place(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)
        stored = self._sparse.get(number) or ((0, os.fstat(fd).st_size),)
        return sum(length for _, length in stored), _read(fd, stored)

    def close(self) -> None:
        """Close what is open. Idempotent."""
        for fd in (self._fd, self.directory):
            if fd >= 0:
                os.close(fd)
        self._fd = self.directory = -1

    def _write_run(self, data: memoryview) -> int:
        start, length = self._runs[-1]
        written = os.pwrite(self._fd, data[:length], start)
        if written < length:
            self._runs[-1] = start + written, length - written
        else:
            self._runs.pop()
        return written


def _read(fd: int, stored: Iterable[Run]) -> Iterator[bytes]:
    try:
        for start, left in stored:
            while left and (data := os.pread(fd, min(left, _CHUNK), start)):
                yield data
                start, left = start + len(data), left - len(data)
    finally:
        os.close(fd)
