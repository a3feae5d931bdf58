"""What a scan of a context's tar found, written beside it: every later step reads that instead of the tar's headers.

The file is this builder's own, in the build's private scratch directory, and gone with the build.
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Iterator
from typing import Any, TypeAlias

from lamina.builder.files import Item, read_extents
from lamina.layer.tree import Node

Stored: TypeAlias = tuple[Any, ...]
"""mode, uid, gid, size, mtime_ns, link, rdev, xattrs, offset, extents, number, implied, children by name."""


def write_index(root: Node, path: str) -> None:
    """Write what `root` holds to `path`; nothing where folders lie too deep in one another for it."""
    numbers: dict[int, int] = {}
    try:
        data = marshal.dumps(_stored(root, numbers))
    except (ValueError, RecursionError):
        return
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.rename(f"{path}.new", path)


def _stored(node: Node, numbers: dict[int, int]) -> Stored:
    number = numbers.setdefault(id(node), len(numbers))
    extents = None if node.extents is None else [(extent.start, extent.length, extent.offset) for extent in node.extents]
    children = None if node.children is None else {name: _stored(child, numbers) for name, child in node.children.items()}
    return (
        node.mode,
        node.uid,
        node.gid,
        node.size,
        node.mtime_ns,
        node.link,
        node.rdev,
        node.xattrs,
        node.offset,
        extents,
        number,
        node.implied,
        children,
    )


class IndexedTar:
    """See files.Files: the tar `fd`, which the caller keeps open, by what `write_index` wrote of it."""

    def __init__(self, fd: int, root: Stored) -> None:
        self._fd, self._root = fd, root

    @classmethod
    def open(cls, fd: int, path: str) -> IndexedTar | None:
        """None where there is no index."""
        try:
            with open(path, "rb") as file:
                return cls(fd, marshal.loads(file.read()))
        except (FileNotFoundError, EOFError, ValueError):
            return None

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        node = self._node(path)
        if node is None:
            return None
        same = None if node[12] is not None else node[10]
        return Item(node[0], node[1], node[2], node[3], node[4], node[5], node[6], node[7], same, node, node[11])

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        node = self._node(path)
        return sorted(node[12]) if node is not None and node[12] is not None else []

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        node = item.source
        assert isinstance(node, tuple)
        return read_extents(self._fd, node[8], node[3], node[9])

    def _node(self, path: bytes) -> Stored | None:
        node: Stored | None = self._root
        for part in path.split(b"/") if path else ():
            if node is None or node[12] is None:
                return None
            node = node[12].get(part)
        return node
