"""Writing the metadata image of a tree."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from lamina.layer.erofs import layout
from lamina.layer.erofs.chunks import ChunkMap, plan_chunks, plan_unfinished
from lamina.layer.errors import ArchiveTooLarge, InvalidArchive, shown
from lamina.layer.tree import Node, Tree, Xattrs, walk

_DIR, _REG, _LNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_BLOCK, _NID = layout.BLOCK, layout.NID
OPAQUE = (b"trusted.overlay.opaque", b"y")
# With it overlayfs looks for whiteouts in a directory that only one layer has, and hides them.
ORIGIN = (b"trusted.overlay.origin", b"")

ReadTar = Callable[[int, int], bytes]
"""Gives `length` bytes of the tar from `offset`."""


@dataclass(frozen=True, slots=True)
class Image:
    """A finished metadata image. `implied` says where the inodes of implied directories are, for `patch`."""

    data: bytes
    implied: tuple[tuple[int, bytes], ...]
    content_size: int


@dataclass(slots=True)
class _Placed:
    """Where one inode goes. `groups` are a directory's names, a list for each of its blocks."""

    node: Node
    xattrs: bytes
    links: int = 1
    number: int = 0
    groups: list[list[bytes]] = field(default_factory=list)
    used: int = 0
    block: int = 0
    inline: bool = False
    chunks: ChunkMap | None = None


def write(tree: Tree, diff_id: str, tar_size: int, read_tar: ReadTar) -> Image:
    """The image of a finished tree whose members' offsets are into a tar of `tar_size` bytes.

    `diff_id` is in hex, 64 characters. `read_tar` is asked only for sparse files whose runs are not
    on block boundaries, and for the end of a file that the tar ends with in the middle of a block.

    Raises:
        ArchiveTooLarge: the maps of sparse files, or all metadata, would be too large.
    """
    return _Writer(tree.root, [Device(diff_id, tar_size)], read_tar).image()


def write_merged(root: Node, devices: Sequence[Device]) -> Image:
    """The image of a tree whose files lie in several devices, as if these were one after the other.

    Offsets in it are into all of them together, each device taking whole blocks; see `starts`. No content is copied.

    Raises:
        ArchiveTooLarge: the devices hold more blocks than can be numbered, or all metadata would be too large.
    """
    return _Writer(root, devices, None).image()


@dataclass(frozen=True, slots=True)
class Device:
    """What holds files' contents beside the image: `tag` is 64 characters, a tar's its diff ID in hex; `size` is in bytes."""

    tag: str
    size: int


def starts(devices: Sequence[Device]) -> list[int]:
    """Where each device starts in all of them together, in blocks; the last number is where they end.

    Raises:
        ArchiveTooLarge: they hold more blocks than can be numbered.
    """
    found = list(accumulate((-(-device.size // _BLOCK) for device in devices), initial=0))
    if layout.MAPPED + found[-1] >= layout.HOLE:
        raise ArchiveTooLarge(f"layers of {found[-1] * _BLOCK} bytes are more than can be mapped")
    return found


class _Writer:
    """`read_tar` is None where nothing needs to be copied."""

    def __init__(self, root: Node, devices: Sequence[Device], read_tar: ReadTar | None) -> None:
        self._root, self._devices, self._read_tar = root, devices, read_tar
        # The kernel is told of whole blocks only: a loop device ends with the last one.
        self._whole = devices[0].size // _BLOCK * _BLOCK if read_tar else layout.HOLE * _BLOCK
        self._placed: list[_Placed] = []
        self._by_node: dict[int, _Placed] = {}
        # A single device is numbered, several are told apart by their blocks' numbers.
        self._device, self._mapped = (1, 0) if len(devices) == 1 else (0, layout.MAPPED)
        self._end = layout.inodes_at(len(devices))
        self._blocks = 0
        self._chunked = 0
        self._copied = 0
        self._content = 0

    def image(self) -> Image:
        self._layout()
        base = -(-self._end // _BLOCK)
        total = base + self._blocks
        if total >= layout.MAPPED:
            raise ArchiveTooLarge(f"metadata of a layer would take {total * _BLOCK} bytes")
        # Whole pages: the last block may otherwise lie behind the end of a device with larger sectors.
        data = bytearray(-(-total * _BLOCK // 4096) * 4096)
        for placed in self._placed:
            self._write(data, placed, base)
        implied = tuple((node.nid * _NID, path) for path, node in walk(self._root) if node.implied)
        seal(data, self._devices, len(self._placed), self._root.nid, chunked=self._chunked > 0)
        return Image(bytes(data), implied, self._content)

    def _layout(self) -> None:
        """Give every inode its place: the root first, then the children of each directory side by side."""
        self._place(self._root)
        queue = [self._root]
        known = self._by_node
        while queue:
            node = queue.pop()
            own = known[id(node)]
            for group in own.groups:
                for name in group:
                    if name == b"." or name == b"..":
                        continue
                    assert node.children is not None
                    child = node.children[name]
                    if (seen := known.get(id(child))) is not None:
                        seen.links += 1
                        continue
                    self._place(child)
                    if child.children is not None:
                        own.links += 1
                        queue.append(child)

    def _place(self, node: Node) -> None:
        xattrs = _xattr_body(node) if node.xattrs or node.opaque or node.hidden else b""
        placed = _Placed(node, xattrs)
        kind = node.mode & 0o170000
        head = 64 + len(xattrs)
        at = -(-self._end // _NID) * _NID
        end = at + head
        if kind == _REG:
            self._content += node.size
            if node.extents is not None or node.offset + node.size > self._whole:
                placed.chunks = self._chunks(node)
            if placed.chunks is not None:
                end = -(-end // 8) * 8 + 8 * placed.chunks.count
                self._count_chunks(placed.chunks)
                placed.block = self._blocks
                self._blocks += placed.chunks.copied_blocks
        elif kind == _DIR:
            placed.links = 2
            placed.groups, placed.used = _group([b".", b"..", *node.children]) if node.children else ([[b".", b".."]], 27)
            at, end = self._place_tail(placed, at, head, placed.used, len(placed.groups) - 1)
        elif kind == _LNK:
            at, end = self._place_tail(placed, at, head, node.size % _BLOCK, node.size // _BLOCK)
        node.nid = at // _NID
        self._end = end
        self._placed.append(placed)
        placed.number = len(self._placed)
        self._by_node[id(node)] = placed

    def _chunks(self, node: Node) -> ChunkMap | None:
        if node.extents is not None:
            return plan_chunks(node.extents, node.size, self._whole)
        return plan_unfinished(node.offset, node.size) if node.size else None

    def _place_tail(self, placed: _Placed, at: int, head: int, tail: int, full: int) -> tuple[int, int]:
        """Place data of `full` blocks and `tail` bytes: the tail behind the inode, where it is short enough."""
        placed.block = self._blocks
        placed.inline = 0 < tail <= layout.INLINE_LIMIT
        if not placed.inline:
            self._blocks += full + (tail > 0)
            return at, at + head
        self._blocks += full
        while (at + head) % _BLOCK + tail > _BLOCK:
            at += _NID
        return at, at + head + tail

    def _count_chunks(self, chunks: ChunkMap) -> None:
        self._chunked += chunks.count + 1
        self._copied += chunks.copied_blocks
        if self._chunked > 1 << 23 or self._copied > 1 << 19:
            raise ArchiveTooLarge("sparse files of the archive are too large to be mapped")

    def _write(self, data: bytearray, placed: _Placed, base: int) -> None:
        node = placed.node
        kind = node.mode & 0o170000
        form, value, size = layout.PLAIN, 0, node.size
        at = node.nid * _NID
        behind = at + 64 + len(placed.xattrs)
        if kind == _REG:
            if placed.chunks is None:
                value = layout.MAPPED + (node.offset >> 9)
            else:
                form, value = layout.CHUNKED, layout.CHUNK_INDEXES | placed.chunks.bits - layout.BLOCK_BITS
                self._write_chunks(data, placed, behind, base + placed.block)
        elif kind in (_DIR, _LNK):
            form, value = layout.INLINE if placed.inline else layout.PLAIN, base + placed.block
            blocks = self._dirents(placed) if kind == _DIR else [node.link[i : i + _BLOCK] for i in range(0, len(node.link), _BLOCK)]
            size = (len(blocks) - 1) * _BLOCK + len(blocks[-1])
            if placed.inline:
                tail = blocks.pop()
                data[behind : behind + len(tail)] = tail
            for number, block in enumerate(blocks, base + placed.block):
                data[number * _BLOCK : number * _BLOCK + len(block)] = block
        else:
            value, size = layout.encode_device(*node.rdev), 0
        seconds, nanoseconds = divmod(node.mtime_ns, 1000000000)
        count = 1 + (len(placed.xattrs) - layout.XATTR_HEADER) // 4 if placed.xattrs else 0
        layout.INODE.pack_into(
            data, at, form, count, node.mode, 0, size, value, placed.number, node.uid, node.gid, seconds, nanoseconds, placed.links
        )
        if placed.xattrs:
            data[at + 64 : behind] = placed.xattrs

    def _dirents(self, placed: _Placed) -> list[bytes]:
        """The blocks of a directory: entries, then names, sorted throughout."""
        node = placed.node
        assert node.children is not None
        children, pack, types, blocks = node.children, layout.DIRENT.pack, layout.FILE_TYPES, []
        for group in placed.groups:
            offset = 12 * len(group)
            entries = []
            for name in group:
                child = children.get(name)
                if child is None:
                    nid, kind = (node.nid if name == b"." else self._parent_nid(node)), 2
                else:
                    nid, kind = child.nid, types[child.mode & 0o170000]
                entries.append(pack(nid, offset, kind, 0))
                offset += len(name)
            blocks.append(b"".join(entries + group))
        return blocks

    def _parent_nid(self, node: Node) -> int:
        if not hasattr(self, "_parents"):
            self._parents = {
                id(child): placed.node.nid
                for placed in self._placed
                if placed.node.children
                for child in placed.node.children.values()
                if child.children is not None
            }
        return self._parents.get(id(node), self._root.nid)

    def _write_chunks(self, data: bytearray, placed: _Placed, behind: int, block: int) -> None:
        assert placed.chunks is not None
        chunks = placed.chunks
        at = -(-behind // 8) * 8
        data[at : at + 8 * chunks.count] = layout.CHUNK.pack(0, 0, layout.HOLE) * chunks.count
        for number, length, tar_block in chunks.mapped:
            step = 1 << chunks.bits - layout.BLOCK_BITS
            for i in range(length):
                layout.CHUNK.pack_into(data, at + 8 * (number + i), 0, self._device, self._mapped + tar_block + i * step)
        for number, pieces in chunks.copied:
            layout.CHUNK.pack_into(data, at + 8 * number, 0, 0, block)
            assert self._read_tar is not None
            for start, length, offset in pieces:
                data[block * _BLOCK + start : block * _BLOCK + start + length] = self._read_tar(offset, length)
            block += 1 << chunks.bits - layout.BLOCK_BITS


def _group(names: list[bytes]) -> tuple[list[list[bytes]], int]:
    """Sort a directory's names and cut them where a block is full; also the bytes used in the last block."""
    names.sort()
    used = 12 * len(names) + sum(map(len, names))
    if used <= _BLOCK:
        return [names], used
    groups: list[list[bytes]] = [[]]
    used = 0
    for name in names:
        size = 12 + len(name)
        if used + size > _BLOCK:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    return groups, used


def _xattr_body(node: Node) -> bytes:
    xattrs: Xattrs = node.xattrs
    if node.opaque:
        xattrs += (OPAQUE,)
    if node.hidden:
        xattrs += (ORIGIN,)
    entries = []
    for name, value in xattrs:
        index, rest = layout.xattr_index(name)
        entry = layout.XATTR.pack(len(rest), index, len(value)) + rest + value
        entries.append(entry + bytes(-len(entry) % 4))
    body = bytes(layout.XATTR_HEADER) + b"".join(entries)
    if len(body) > 1 << 17:
        raise InvalidArchive(f"extended attributes too large in archive: {len(body)} bytes, {shown(xattrs[0][0])} first")
    return body


def seal(data: bytearray, devices: Sequence[Device], inodes: int, root: int, *, chunked: bool) -> None:
    """Write device table and superblock over an image's inodes and data; its UUID is a digest of the rest."""
    blocks = len(data) // _BLOCK
    for number, (device, start) in enumerate(zip(devices, starts(devices), strict=False)):
        at = layout.DEVICE_AT + number * layout.DEVICE.size
        layout.DEVICE.pack_into(data, at, device.tag.encode(), -(-device.size // _BLOCK), layout.MAPPED + start)
        # Where the kernel does not look: the exact size of the tar.
        data[at + 120 : at + 128] = device.size.to_bytes(8, "little")
    present = sum(device.size > 0 for device in devices)
    features = (layout.INCOMPAT_CHUNKED if chunked else 0) | (layout.INCOMPAT_DEVICES if present else 0)
    uuid = hashlib.sha256(memoryview(data)[layout.DEVICE_AT :]).digest()[:16]
    layout.SUPERBLOCK.pack_into(
        data,
        layout.SUPERBLOCK_AT,
        layout.MAGIC,
        0,
        layout.COMPAT,
        layout.BLOCK_BITS,
        0,
        root,
        inodes,
        0,
        0,
        blocks,
        0,
        0,
        uuid,
        b"lamina",
        features,
        0,
        present,
        layout.DEVICE_AT // 128,
        0,
    )
    total = layout.checksum(bytes(data[layout.SUPERBLOCK_AT : layout.SUPERBLOCK_AT + _BLOCK]))
    data[layout.SUPERBLOCK_AT + 4 : layout.SUPERBLOCK_AT + 8] = total.to_bytes(4, "little")
