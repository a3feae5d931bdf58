"""Where COPY and ADD read from: a directory, a tar, or a stack of layers, all looked at in the same way.

Paths are bytes, relative, without `.`, `..` or a leading slash; the root is b"". Nothing here follows a symbolic
link: `resolve` does, by asking step by step, so that a link can never lead out. Meant for workers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from lamina.errors import InvalidArgument
from lamina.layer.tar.parser import Parser
from lamina.layer.tree import Limits, Node, Tree, kept_xattrs

CHUNK = 1 << 18
_LINKS_LIMIT = 40


class TooManyLinks(InvalidArgument):
    """Symbolic links lead round in a circle."""


class Item(NamedTuple):
    """A file, directory, link or device. `mode` has the type bits; `same` is equal for hard links of one file, else None.

    An `implied` directory is one that an archive does not list.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    same: object = None
    source: object = None
    implied: bool = False

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Files(Protocol):
    """A tree of files that does not change while it is read."""

    def lookup(self, path: bytes) -> Item | None:
        """What is at `path`; None if nothing is, or a part before the last is not a directory."""

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory `path`, in byte order."""

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """The content of the regular file at `path`, which `lookup` gave as `item`."""


def resolve(files: Files, path: bytes) -> bytes:
    """`path` with all symbolic links followed inside of `files`, `..` taken as in a chroot; what is missing stays as named.

    Raises:
        TooManyLinks: they lead in a circle.
    """
    done: list[bytes] = []
    left = [part for part in path.split(b"/") if part not in (b"", b".")][::-1]
    followed = 0
    while left:
        part = left.pop()
        if part == b"..":
            done = done[:-1]
            continue
        item = files.lookup(b"/".join((*done, part)))
        if item is None or not item.is_link:
            done.append(part)
            continue
        followed += 1
        if followed > _LINKS_LIMIT:
            raise TooManyLinks(f"too many symbolic links on the way to {os.fsdecode(path)}")
        if item.link.startswith(b"/"):
            done = []
        left += [step for step in item.link.split(b"/") if step not in (b"", b".")][::-1]
    return b"/".join(done)


class EmptyFiles:
    """No files at all: scratch."""

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        return None if path else Item(stat.S_IFDIR | 0o755)

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        return []

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        yield from ()


class InlineFiles:
    """Files whose content is written in the Dockerfile itself; `time` is their mtime in nanoseconds."""

    def __init__(self, documents: Mapping[bytes, bytes], time: int) -> None:
        self._documents, self._time = documents, time

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        if not path:
            return Item(stat.S_IFDIR | 0o755)
        content = self._documents.get(path)
        return None if content is None else Item(stat.S_IFREG | 0o644, size=len(content), mtime_ns=self._time)

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        return [] if path else sorted(self._documents)

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        yield self._documents[path]


class FetchedFile:
    """One file of the host, under another name, as ADD puts what it fetched: root's alone. `time` is its mtime in nanoseconds."""

    def __init__(self, name: bytes, path: str, time: int) -> None:
        self._name, self._path, self._time = name, path, time

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        if not path:
            return Item(stat.S_IFDIR | 0o755)
        return Item(stat.S_IFREG | 0o600, size=os.path.getsize(self._path), mtime_ns=self._time) if path == self._name else None

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        return [] if path else [self._name]

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        with open(self._path, "rb") as file:
            yield from read_range(file.fileno(), 0, item.size)


class TarFiles:
    """The files of an uncompressed tar in a seekable file; the caller keeps `fd` open."""

    def __init__(self, fd: int, root: Node) -> None:
        self._fd, self.root = fd, root

    @classmethod
    def scan(cls, fd: int, limits: Limits | None = None) -> TarFiles:
        """Read the headers of the whole tar.

        Raises:
            InvalidArchive: it breaks its format, or names what is outside of it.
        """
        parser, tree, offset = Parser(), Tree(limits), 0
        while chunk := os.pread(fd, 1 << 20, offset):
            offset += len(chunk)
            for member in parser.feed(chunk):
                tree.add(member)
        parser.finish()
        return cls(fd, tree.root)

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        node = self._node(path)
        if node is None:
            return None
        same = id(node) if node.children is None else None
        return Item(node.mode, node.uid, node.gid, node.size, node.mtime_ns, node.link, node.rdev, node.xattrs, same, node, node.implied)

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        node = self._node(path)
        return sorted(node.children) if node is not None and node.children is not None else []

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        node = item.source
        assert isinstance(node, Node)
        extents = None if node.extents is None else [(extent.start, extent.length, extent.offset) for extent in node.extents]
        return read_extents(self._fd, node.offset, node.size, extents)

    def _node(self, path: bytes) -> Node | None:
        node: Node | None = self.root
        for part in path.split(b"/") if path else ():
            if node is None or node.children is None:
                return None
            node = node.children.get(part)
        return node


class DirectoryFiles:
    """The files below a directory of the host; the caller keeps `fd` open. Nothing outside of it is ever opened."""

    def __init__(self, fd: int) -> None:
        self._root = fd

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        if not path:
            return _item(os.fstat(self._root), b"")
        holder, name = self._open_parent(path)
        if holder is None:
            return None
        try:
            facts = os.stat(name, dir_fd=holder, follow_symlinks=False)
            link = os.readlink(name, dir_fd=holder) if stat.S_ISLNK(facts.st_mode) else b""
            return _item(facts, link, _xattrs(holder, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(holder)

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        fd = self._open_directory(path.split(b"/") if path else [])
        if fd is None:
            return []
        try:
            return sorted(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read. Exactly `item.size` bytes, zeros where the file got shorter."""
        holder, name = self._open_parent(path)
        if holder is None:
            yield from zeros(item.size)
            return
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=holder)
        finally:
            os.close(holder)
        try:
            yield from read_range(fd, 0, item.size)
        finally:
            os.close(fd)

    def _open_parent(self, path: bytes) -> tuple[int | None, bytes]:
        *parts, name = path.split(b"/")
        return self._open_directory(parts), name

    def _open_directory(self, parts: list[bytes]) -> int | None:
        """A descriptor of the directory, opened step by step without following links; None if it is not there."""
        here = os.dup(self._root)
        for part in parts:
            try:
                following = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            except (FileNotFoundError, NotADirectoryError, OSError):
                return None
            finally:
                os.close(here)
            here = following
        return here


def _item(facts: os.stat_result, link: bytes, xattrs: tuple[tuple[bytes, bytes], ...] = ()) -> Item:
    same = (facts.st_dev, facts.st_ino) if facts.st_nlink > 1 and stat.S_ISREG(facts.st_mode) else None
    rdev = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
    return Item(facts.st_mode, facts.st_uid, facts.st_gid, facts.st_size, facts.st_mtime_ns, link, rdev, xattrs, same)


def _xattrs(holder: int, name: bytes) -> tuple[tuple[bytes, bytes], ...]:
    path = b"/proc/self/fd/%d/%s" % (holder, name)
    try:
        found = [(os.fsencode(key), os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False)]
    except OSError:
        return ()
    # What a context gives is its capabilities and ACLs, not labels of the host's security module.
    return kept_xattrs([pair for pair in found if pair[0] != b"security.selinux"], name)


def read_extents(fd: int, offset: int, size: int, extents: Sequence[tuple[int, int, int]] | None) -> Iterator[bytes]:
    """A file of a tar, all `size` bytes of it; of a sparse one `extents` say what lies where: (start, length, offset in the tar)."""
    if extents is None:
        yield from read_range(fd, offset, size)
        return
    position = 0
    for start, length, at in extents:
        yield from zeros(start - position)
        yield from read_range(fd, at, length)
        position = start + length
    yield from zeros(size - position)


def read_range(fd: int, offset: int, length: int) -> Iterator[bytes]:
    """Exactly `length` bytes from `offset`, zeros where the file ends before."""
    while length > 0:
        chunk = os.pread(fd, min(CHUNK, length), offset)
        if not chunk:
            yield from zeros(length)
            return
        yield chunk
        offset += len(chunk)
        length -= len(chunk)


def zeros(length: int) -> Iterator[bytes]:
    """`length` zero bytes, in pieces."""
    while length > 0:
        yield bytes(min(CHUNK, length))
        length -= CHUNK
