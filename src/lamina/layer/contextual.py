"""Directories that a tar implies but does not list: they look like the ones they lie over.

Otherwise a layer that holds only `var/lib/x` would change the owner and mode of /var and /var/lib.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from lamina.layer.erofs import layout
from lamina.layer.erofs.writer import Device, seal
from lamina.layer.index import Entry, LayerIndex
from lamina.layer.union import Union


def patched(metadata: str, implied: Sequence[tuple[int, bytes]], below: Sequence[str], tree: str | None) -> None:
    """Give implied directories the mode, owner and time of the ones below, in a staged image and its tree.

    `below` are the paths of the lower layers' images, base first. Extended attributes are not
    taken over: there is no room for them.
    """
    found = _found(implied, below)
    with open(metadata, "r+b") as file:
        data = bytearray(file.read())
        for offset, entry in found:
            _patch(data, offset, entry)
        with LayerIndex.open(metadata) as index:
            diff_id, tar_size, superblock = index.diff_id, index.tar_size, index.superblock
        seal(data, [Device(diff_id, tar_size)], superblock.inodes, superblock.root, chunked=superblock.chunked)
        file.seek(0)
        file.write(data)
    if tree is not None:
        for _, entry in found:
            _patch_tree(tree, entry)


def _found(implied: Sequence[tuple[int, bytes]], below: Sequence[str]) -> list[tuple[int, Entry]]:
    found = []
    with Union.open(below) as union:
        for offset, path in implied:
            hit = union.lookup(path)
            if hit is not None and hit[1].directory:
                found.append((offset, hit[1]))
    return found


def _patch(data: bytearray, offset: int, entry: Entry) -> None:
    fields = list(layout.INODE.unpack_from(data, offset))
    seconds, nanoseconds = divmod(entry.mtime_ns, 10**9)
    fields[2], fields[7], fields[8], fields[9], fields[10] = entry.mode, entry.uid, entry.gid, seconds, nanoseconds
    layout.INODE.pack_into(data, offset, *fields)


def _patch_tree(tree: str, entry: Entry) -> None:
    """Nothing on the way is a symbolic link: an implied directory lies in directories only."""
    path = os.path.join(os.fsencode(tree), entry.path)
    os.chown(path, entry.uid, entry.gid)
    os.chmod(path, entry.mode & 0o7777)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
