"""The files of a stack of layers, read from metadata images and tars (or extracted trees) without mounting anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from lamina.builder.files import DirectoryFiles, Item, TarFiles, read_range, zeros
from lamina.errors import Internal
from lamina.layer.index import Entry, LayerIndex
from lamina.layer.union import Union

if TYPE_CHECKING:
    from lamina.image.layers import Layers
    from lamina.spec.digest import Digest


def describe_layers(layers: Layers, top: Digest | None) -> dict[str, Any]:
    """For a job's parameters: where the index, the tar and the tree of each layer lie, base first."""
    stack = layers.chain(top)
    return {
        "kind": "layers",
        "layers": [
            {"index": layers.driver.index(facts.name), "tree": layers.driver.tree(facts.name), "tar": layers.tar_blob(facts.diff_id)}
            for facts in stack
        ],
    }


@contextmanager
def opened_layers(description: Mapping[str, Any]) -> Iterator[LayerFiles]:
    """The stack that `describe_layers` described; nothing stays open when the context is left."""
    with ExitStack() as stack:
        indexes = [stack.enter_context(LayerIndex.open(layer["index"])) for layer in description["layers"]]
        yield LayerFiles(Union(indexes), [_Store(layer["tree"], layer["tar"], stack) for layer in description["layers"]])


class LayerFiles:
    """See files.Files. `stores` hold the content, one per layer, base first."""

    def __init__(self, union: Union, stores: Sequence[_Store]) -> None:
        self.union, self._stores = union, stores

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        found = self.union.lookup(path)
        if found is None:
            return None
        level, entry = found
        same = (level, entry.inode) if entry.links > 1 and not entry.directory else None
        return Item(
            entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.link, entry.rdev, entry.xattrs, same, (level, entry)
        )

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        return sorted(entry.path.rpartition(b"/")[2] for _, entry in self.union.listdir(path))

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        assert isinstance(item.source, tuple)
        level, entry = item.source
        return self._stores[level].read(entry)


class _Store:
    """One layer's content: an extracted tree or an uncompressed tar."""

    def __init__(self, tree: str | None, tar: str | None, stack: ExitStack) -> None:
        self._tree, self._tar, self._stack = tree, tar, stack
        self._fd = -1

    def read(self, entry: Entry) -> Iterator[bytes]:
        if self._tree:
            yield from DirectoryFiles(self._open(self._tree)).read(entry.path, Item(entry.mode, size=entry.size))
            return
        if self._tar is None:
            raise Internal(f"the content of {os.fsdecode(entry.path)} is in neither a tar nor a tree")
        fd = self._open(self._tar)
        if entry.copied:
            # What is stored cannot be told from the index alone: the tar's own headers say it.
            tar = TarFiles.scan(fd)
            item = tar.lookup(entry.path)
            assert item is not None
            yield from tar.read(entry.path, item)
        elif entry.extents is None:
            yield from read_range(fd, entry.offset, entry.size)
        else:
            position = 0
            for extent in entry.extents:
                yield from zeros(extent.start - position)
                yield from read_range(fd, extent.offset, extent.length)
                position = extent.start + extent.length
            yield from zeros(entry.size - position)

    def _open(self, path: str) -> int:
        if self._fd < 0:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._stack.callback(os.close, self._fd)
        return self._fd
