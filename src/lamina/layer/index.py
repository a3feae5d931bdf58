"""The index of one layer: its metadata image, asked by path. Nothing is mounted and nothing kept in memory."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from lamina.layer.erofs import layout
from lamina.layer.erofs.reader import Inode, Reader, Superblock
from lamina.layer.erofs.writer import OPAQUE, ORIGIN
from lamina.layer.tar.member import Extent

_WORDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A path in a layer.

    `path` is clean, without a leading slash; the root is "". `mode` has the file type bits. `size`
    and `offset` are bytes; `offset` is where a file's content starts in the layer's uncompressed
    tar. A sparse file has `extents` instead: what is stored where in the tar, holes left out; they
    are None where the stored bytes cannot be read from the tar alone (`copied`). `inode` numbers
    the file within the layer: hard links share it.
    """

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    inode: int
    links: int = 1
    link: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    offset: int = 0
    extents: tuple[Extent, ...] | None = None
    opaque: bool = False
    copied: bool = False

    @property
    def type(self) -> str:
        """`file`, `directory`, `symlink`, `char`, `block`, `fifo`, `socket`, or `whiteout`."""
        return "whiteout" if self.whiteout else _WORDS[stat.S_IFMT(self.mode)]

    @property
    def whiteout(self) -> bool:
        """Whether it hides the path in lower layers, and nothing else."""
        return stat.S_IFMT(self.mode) == stat.S_IFCHR and self.rdev == (0, 0)

    @property
    def directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_IFMT(self.mode) == stat.S_IFDIR


class LayerIndex:
    """An open index. Not thread-safe; close it, or use it in a `with`.

    Every method raises LayerDamaged where the image is broken.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._directories: dict[bytes, Inode | None] = {}

    @classmethod
    def open(cls, path: str, name: str = "") -> LayerIndex:
        """Open a metadata image. `name` is what errors call the layer; else it is the file's name.

        Raises:
            LayerDamaged: its superblock or its size is wrong.
        """
        return cls(Reader(path, name))

    def __enter__(self) -> LayerIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._reader.close()

    @property
    def diff_id(self) -> str:
        """The diff ID of the layer's tar, in hex."""
        return self._reader.superblock.diff_id

    @property
    def tar_size(self) -> int:
        """The size of the layer's uncompressed tar in bytes."""
        return self._reader.superblock.tar_size

    @property
    def reader(self) -> Reader:
        """The image itself, for walks over everything."""
        return self._reader

    @property
    def superblock(self) -> Superblock:
        """The head of the image."""
        return self._reader.superblock

    def lookup(self, path: bytes) -> Entry | None:
        """What the layer has at a clean path ("" is the root); symbolic links on the way are not followed."""
        inode = self._find(path)
        return None if inode is None else self.entry(path, inode)

    def children(self, path: bytes) -> list[Entry]:
        """The entries of a directory, whiteouts included, by name; none where there is no directory."""
        inode = self._find(path)
        if inode is None or inode.type != stat.S_IFDIR:
            return []
        prefix = path + b"/" if path else b""
        reader = self._reader
        return [self.entry(prefix + name, reader.inode(nid)) for name, nid in reader.names(inode)]

    def names(self, path: bytes) -> list[bytes]:
        """The names in a directory, whiteouts included, sorted; faster than `children`."""
        inode = self._find(path)
        return [] if inode is None or inode.type != stat.S_IFDIR else [name for name, _ in self._reader.names(inode)]

    def walk(self) -> Iterator[Entry]:
        """Every entry below the root, parents first, names in byte order in each directory."""
        reader = self._reader
        reader.load()
        stack = [(b"", reader.superblock.root)]
        seen: set[int] = set()
        while stack:
            path, nid = stack.pop()
            inode = reader.inode(nid)
            if path:
                yield self.entry(path, inode)
            if inode.type == stat.S_IFDIR and nid not in seen:
                seen.add(nid)  # only a damaged image has a directory twice
                prefix = path + b"/" if path else b""
                stack += [(prefix + name, child) for name, child in reversed(reader.names(inode))]

    def stored(self, path: bytes) -> list[tuple[int, Extent]]:
        """Where the content of a sparse file is stored: runs without holes, each in the tar (1) or in the image itself (0)."""
        inode = self._find(path)
        if inode is None or inode.form != layout.CHUNKED:
            return []
        step, chunks = self._reader.chunks(inode)
        runs = []
        for number, (device, block) in enumerate(chunks):
            if block != layout.HOLE:
                start = number * step
                runs.append((device, Extent(start, min(step, inode.size - start), block * layout.BLOCK)))
        return runs

    def _find(self, path: bytes) -> Inode | None:
        """What is at a path. Directories on the way are kept; from the top down, since a path may have more parts than Python has frames."""
        known = self._directories
        if path in known:
            return known[path]
        unknown = [path]
        while unknown[-1] and (above := unknown[-1].rpartition(b"/")[0]) not in known:
            unknown.append(above)
        inode: Inode | None = None
        for step in reversed(unknown):
            inode = self._below(known[step.rpartition(b"/")[0]], step) if step else self._reader.inode(self._reader.superblock.root)
            if inode is None or inode.type == stat.S_IFDIR or step != path:
                known[step] = inode
        return inode

    def _below(self, parent: Inode | None, path: bytes) -> Inode | None:
        nid = None if parent is None or parent.type != stat.S_IFDIR else self._reader.find(parent, path.rpartition(b"/")[2])
        return None if nid is None else self._reader.inode(nid)

    def entry(self, path: bytes, inode: Inode) -> Entry:
        """The entry of an inode of this image that stands at `path`."""
        reader, kind = self._reader, inode.type
        xattrs = reader.xattrs(inode) if inode.xattr_size else ()
        link, rdev, offset, size = b"", (0, 0), 0, inode.size
        extents, copied = None, False
        if kind == stat.S_IFLNK:
            link = reader.data(inode)
        elif kind == stat.S_IFREG:
            if inode.form == layout.CHUNKED:
                extents, copied = self._extents(inode)
            else:
                offset = (inode.value - layout.MAPPED) * layout.BLOCK
        elif kind == stat.S_IFDIR:
            size = 0
        else:
            rdev = layout.decode_device(inode.value)
        own = tuple(pair for pair in xattrs if pair not in (OPAQUE, ORIGIN)) if xattrs else ()
        return Entry(
            path,
            inode.mode,
            inode.uid,
            inode.gid,
            size,
            inode.mtime_ns,
            inode.nid,
            inode.links,
            link,
            rdev,
            own,
            offset,
            extents,
            OPAQUE in xattrs,
            copied,
        )

    def _extents(self, inode: Inode) -> tuple[tuple[Extent, ...] | None, bool]:
        """A sparse file's runs in the tar; chunks that follow each other in both are one run."""
        step, chunks = self._reader.chunks(inode)
        found: list[Extent] = []
        for number, (device, block) in enumerate(chunks):
            if block == layout.HOLE:
                continue
            if device != 1:
                return None, True
            start, at = number * step, block * layout.BLOCK
            length = min(step, inode.size - start)
            last = found[-1] if found else None
            if last is not None and last.start + last.length == start and last.offset + last.length == at:
                found[-1] = last._replace(length=last.length + length)
            else:
                found.append(Extent(start, length, at))
        return tuple(found), False
