"""One layer of a stack as a walk needs it: a layer's metadata image, or the directory a container writes to.

Made for loops over every entry: names, kinds and keys are plain tuples, and a key means something to its level alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from lamina.layer.content import Place
from lamina.layer.erofs import layout
from lamina.layer.index import Entry, LayerIndex
from lamina.layer.upper import OPAQUE, Found, attributes, walk_upper
from lamina.linux.openat2 import open_in_root, open_regular_in_root

WHITEOUT, FILE, DIRECTORY, CHARACTER, BLOCK, FIFO, SOCKET, SYMLINK = range(8)
"""Kinds of entries; all but the first are the file types of directories on disk."""

WORDS = ("whiteout", "file", "directory", "char", "block", "fifo", "socket", "symlink")
_KINDS: Mapping[int, int] = layout.FILE_TYPES

_PIECE = 1 << 20
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
Key = Any
"""What a level knows an entry by: the number of an inode, or a path."""

Listed = tuple[bytes, Key, int]
"""Name, key and kind of one entry."""

Status = tuple[int, int, int, int, int, int]
"""Mode with type bits, owner, group, size in bytes, modification time in nanoseconds since 1970, links."""

Sparse = tuple[Sequence[tuple[int, int]], Iterator[bytes]]
"""The runs of a sparse file that are stored, (start, bytes) in order, and their bytes one after another."""


class Level(Protocol):
    """One layer, open. Not thread-safe. Raises LayerDamaged where what is stored is broken."""

    name: str
    """What identifies its content: levels of equal names are equal."""

    root: Key

    def entries(self, key: Key) -> Sequence[Listed]:
        """What is in a directory, sorted by name, whiteouts included."""

    def opaque(self, key: Key) -> bool:
        """Whether a directory hides what lower layers have in it."""

    def status(self, key: Key) -> Status:
        """See `Status`; the size of a directory is 0."""

    def size(self, key: Key) -> tuple[int, int]:
        """Size and links alone."""

    def link(self, key: Key) -> bytes:
        """The target of a symbolic link."""

    def more(self, key: Key) -> tuple[tuple[int, int], tuple[tuple[bytes, bytes], ...]]:
        """Device number and extended attributes, overlayfs' own left out."""

    def content(self, key: Key, path: bytes, limit: int) -> bytes:
        """The first `limit` bytes of a regular file; `path` is where it stands in this level."""

    def pieces(self, key: Key, path: bytes) -> Iterator[bytes]:
        """All of a regular file, in pieces. See `content`."""

    def sparse(self, key: Key, path: bytes) -> Sparse | None:
        """What is stored of a regular file with holes; None of one that is stored whole. See `content`."""

    def where(self, key: Key) -> tuple[str, int] | None:
        """What tells two files' contents to be the same without reading: the layer's name and where in its tar they begin."""


class LayerLevel:
    """See `Level`: a layer, from its metadata image. Keys are numbers of inodes."""

    def __init__(self, name: str, place: Place, index: LayerIndex) -> None:
        self.name, self._place, self._index = name, place, index
        self._reader = index.reader
        self._reader.load()
        self.root: int = self._reader.superblock.root

    def entries(self, key: int) -> Sequence[Listed]:
        """See `Level.entries`."""
        found = self._reader.listing(key)
        for at, (name, nid, kind) in enumerate(found):
            if kind == CHARACTER and self._reader.inode(nid).value == 0:
                found[at] = (name, nid, WHITEOUT)
        return found

    def opaque(self, key: int) -> bool:
        """See `Level.opaque`."""
        inode = self._reader.inode(key)
        return bool(inode.xattr_size) and self._index.entry(b"", inode).opaque

    def status(self, key: int) -> Status:
        """See `Level.status`."""
        found = self._reader.status(key)
        return (*found[:3], 0, *found[4:]) if stat.S_ISDIR(found[0]) else found

    def size(self, key: int) -> tuple[int, int]:
        """See `Level.size`."""
        return self._reader.size(key)

    def link(self, key: int) -> bytes:
        """See `Level.link`."""
        return self._reader.data(self._reader.inode(key))

    def more(self, key: int) -> tuple[tuple[int, int], tuple[tuple[bytes, bytes], ...]]:
        """See `Level.more`."""
        entry = self._entry(key)
        return entry.rdev, entry.xattrs

    def content(self, key: int, path: bytes, limit: int) -> bytes:
        """See `Level.content`."""
        return self._place.part(self._entry(key, path), limit)

    def pieces(self, key: int, path: bytes) -> Iterator[bytes]:
        """See `Level.pieces`."""
        return self._place.read(self._entry(key, path))

    def sparse(self, key: int, path: bytes) -> Sparse | None:
        """See `Level.sparse`."""
        entry = self._entry(key, path)
        return None if entry.extents is None else ([extent[:2] for extent in entry.extents], self._place.stored(entry))

    def where(self, key: int) -> tuple[str, int] | None:
        """See `Level.where`."""
        return self.name, key

    def _entry(self, key: int, path: bytes = b"") -> Entry:
        return self._index.entry(path, self._reader.inode(key))


class UpperLevel:
    """See `Level`: the directory a container writes to, as it was when this was made. Keys are paths in it.

    What goes away meanwhile counts as never there. No link in it is followed.
    """

    def __init__(self, name: str, directory: str, changes: Sequence[tuple[str, str]] | None = None) -> None:
        """`changes` are paths and kinds as `Snapshotter.changes` gives them, where the directory holds more than was written."""
        self.name, self.root = name, b""
        self._directory = directory
        self._names: dict[bytes, list[Listed]] = {b"": []}
        self._statuses: dict[bytes, os.stat_result] = {b"": os.stat(directory)}
        self._xattrs: dict[bytes, dict[bytes, bytes]] = {b"": {}}
        self._links: dict[bytes, bytes] = {}
        for found in walk_upper(directory) if changes is None else ():
            self._take(found)
        if changes is not None:
            self._take_changes(changes)

    def _take_changes(self, changes: Sequence[tuple[str, str]]) -> None:
        top = os.open(self._directory, _DIRECTORY)
        try:
            for path, change in changes:
                head, _, name = os.fsencode(path).lstrip(b"/").rpartition(b"/")
                if change == "D":
                    self._names.setdefault(head, []).append((name, head + b"/" + name, WHITEOUT))
                    continue
                with suppress(FileNotFoundError, NotADirectoryError):
                    here = open_in_root(top, head or b".", _DIRECTORY)
                    try:
                        status = os.stat(name, dir_fd=here, follow_symlinks=False)
                        self._take(Found(head + b"/" + name if head else name, here, name, status))
                    finally:
                        os.close(here)
        finally:
            os.close(top)

    def _take(self, found: Found) -> None:
        head = found.path.rpartition(b"/")[0]
        if found.whiteout:
            self._names[head].append((found.name, found.path, WHITEOUT))
            return
        kind = _KINDS[stat.S_IFMT(found.status.st_mode)]
        self._statuses[found.path] = found.status
        self._xattrs[found.path] = attributes(found)
        if kind == SYMLINK:
            self._links[found.path] = os.fsencode(os.readlink(found.name, dir_fd=found.directory))
        elif kind == DIRECTORY:
            self._names[found.path] = []
        self._names[head].append((found.name, found.path, kind))

    def entries(self, key: bytes) -> Sequence[Listed]:
        """See `Level.entries`."""
        return self._names[key]

    def opaque(self, key: bytes) -> bool:
        """See `Level.opaque`."""
        return self._xattrs[key].get(OPAQUE) == b"y"

    def status(self, key: bytes) -> Status:
        """See `Level.status`."""
        found = self._statuses[key]
        size = found.st_size if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else 0
        return found.st_mode, found.st_uid, found.st_gid, size, found.st_mtime_ns, found.st_nlink

    def size(self, key: bytes) -> tuple[int, int]:
        """See `Level.size`."""
        return self._statuses[key].st_size, self._statuses[key].st_nlink

    def link(self, key: bytes) -> bytes:
        """See `Level.link`."""
        return self._links[key]

    def more(self, key: bytes) -> tuple[tuple[int, int], tuple[tuple[bytes, bytes], ...]]:
        """See `Level.more`."""
        found = self._statuses[key]
        device = (
            (os.major(found.st_rdev), os.minor(found.st_rdev)) if stat.S_IFMT(found.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0)
        )
        return device, tuple(sorted(pair for pair in self._xattrs[key].items() if not pair[0].startswith(b"trusted.overlay.")))

    def content(self, key: bytes, path: bytes, limit: int) -> bytes:
        """See `Level.content`."""
        return self._part(key, 0, limit)

    def _part(self, key: bytes, offset: int, limit: int) -> bytes:
        top = os.open(self._directory, _DIRECTORY)
        try:
            fd = open_regular_in_root(top, key, follow=False)
        except OSError:
            return b""
        finally:
            os.close(top)
        try:
            return os.pread(fd, max(0, min(limit, os.fstat(fd).st_size - offset)), offset)
        finally:
            os.close(fd)

    def pieces(self, key: bytes, path: bytes) -> Iterator[bytes]:
        """See `Level.pieces`."""
        size, at = self.size(key)[0], 0
        while at < size and (piece := self._part(key, at, min(_PIECE, size - at))):
            yield piece
            at += len(piece)

    def sparse(self, key: bytes, path: bytes) -> Sparse | None:
        """See `Level.sparse`."""
        return None

    def where(self, key: bytes) -> tuple[str, int] | None:
        """See `Level.where`."""
        return None


def open_levels(described: Sequence[Mapping[str, Any]], closing: ExitStack) -> list[Level]:
    """The levels that a job's parameters describe, base first: `name`, and `index` with `tar` or `tree`, or `upper` and `changes`."""
    return [_level(each, closing) for each in described]


def _level(described: Mapping[str, Any], closing: ExitStack) -> Level:
    name = described["name"]
    if upper := described.get("upper"):
        return UpperLevel(name, upper, described.get("changes"))
    index = closing.enter_context(LayerIndex.open(described["index"], name))
    return LayerLevel(name, closing.enter_context(Place(described.get("tree") or None, described.get("tar") or None)), index)
