"""Many layers as one metadata image: directories and inodes of what they show together, contents left in the layers' own tars."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

from lamina.layer.apply import disk_errors
from lamina.layer.erofs import layout
from lamina.layer.erofs.writer import Device, Image, starts, write_merged
from lamina.layer.index import Entry
from lamina.layer.tar.member import Extent
from lamina.layer.tree import Node
from lamina.layer.union import Hit, Union

_Key = tuple[int, bool]
"""A device: the height of a layer, and whether it is its metadata image rather than its tar."""
_IMAGE = "@"


def merge(union: Union) -> Image:
    """One image of what a stack shows; nothing lies below it, so whiteouts and opaque marks are gone.

    Its devices are tagged with the diff IDs of tars, or `image_tag` of it where a layer's metadata image is meant.

    Raises:
        LayerDamaged: names the layer.
        ArchiveTooLarge: the layers hold more than can be mapped together.
    """
    return _Merging(union).image()


def image_tag(diff_id: str) -> str:
    """What a device is tagged with that is the metadata image of the layer with this diff ID."""
    return (_IMAGE + diff_id)[:64]


def merge_job(params: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:  # noqa: ARG001
    """Write the merged image of the layers whose indexes are `below` (base first) to the new file `path`."""
    with disk_errors(params["path"]), Union.open(params["below"]) as union, open(params["path"], "xb") as file:
        file.write(merge(union).data)
    return {}


class _Merging:
    def __init__(self, union: Union) -> None:
        self._union = union
        self._nodes: dict[tuple[int, int], Node] = {}
        self._copied = self._with_copies()
        keys = [(level, False) for level, index in enumerate(union.layers) if index.tar_size]
        self._keys: list[_Key] = [*keys, *((level, True) for level in sorted(self._copied))]
        self._devices = [self._device(key) for key in self._keys]
        self._starts = dict(zip(self._keys, starts(self._devices), strict=False))

    def image(self) -> Image:
        found = self._union.lookup(b"")
        root = _node(found[1]) if found is not None else Node(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0)
        root.children = {}
        pending = [(b"", root)]
        while pending:
            path, parent = pending.pop()
            assert parent.children is not None
            for hit in self._union.listdir(path):
                node = self._made(hit)
                parent.children[hit[1].path.rpartition(b"/")[2]] = node
                if node.children is not None:
                    pending.append((hit[1].path, node))
        return write_merged(root, self._devices)

    def _with_copies(self) -> set[int]:
        """The layers whose metadata images hold contents that are visible."""
        if not any(index.superblock.chunked for index in self._union.layers):
            return set()
        return {level for level, entry in self._union.walk() if entry.copied}

    def _device(self, key: _Key) -> Device:
        level, image = key
        index = self._union.layers[level]
        if image:
            return Device(image_tag(index.diff_id), index.superblock.size)
        return Device(index.diff_id, index.tar_size)

    def _made(self, hit: Hit) -> Node:
        """The node of an entry; hard links of one layer share it."""
        level, entry = hit
        known = None if entry.directory else self._nodes.get((level, entry.inode))
        if known is not None:
            return known
        node = _node(entry)
        if entry.directory:
            node.children = {}
            return node
        self._nodes[level, entry.inode] = node
        if entry.type == "file":
            node.size = entry.size
            if entry.extents is None and not entry.copied:
                node.offset = self._place(level, image=False) + entry.offset if entry.size else 0
            else:
                node.extents = self._extents(level, entry)
        return node

    def _extents(self, level: int, entry: Entry) -> tuple[Extent, ...]:
        runs = self._union.layers[level].stored(entry.path)
        moved = (run._replace(offset=self._place(level, image=not device) + run.offset) for device, run in runs)
        return tuple(moved)

    def _place(self, level: int, *, image: bool) -> int:
        """Where a device starts in all of them together, in bytes."""
        return self._starts[level, image] * layout.BLOCK


def _node(entry: Entry) -> Node:
    node = Node(entry.mode, entry.uid, entry.gid, len(entry.link), entry.mtime_ns, 0)
    node.link, node.rdev, node.xattrs = entry.link, entry.rdev, entry.xattrs
    return node
