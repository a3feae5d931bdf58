"""Digests of the files in a layer's tree, kept beside it, so that a look at the tree need not inflate the layer again.

`<name>.sums` holds a line, then 32 bytes for each regular file in the order of the index (each inode once), then the SHA-256 of all
that. It is derived from the layer's bytes, never from the tree.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

from lamina.layer.errors import LayerDamaged
from lamina.layer.index import Entry, LayerIndex
from lamina.layer.tar.member import Extent

SUFFIX = ".sums"
_HEAD = b"lamina sums 1\n"
_SIZE = 32
_CHUNK = 1 << 20


def files(index: LayerIndex) -> Iterator[Entry]:
    """The regular files of a layer in the order of their digests: each inode where it comes first."""
    seen: set[int] = set()
    for entry in index.walk():
        if entry.type == "file" and entry.inode not in seen:
            seen.add(entry.inode)
            yield entry


def make(index: LayerIndex, tar: int, image: int) -> bytes:
    """The digests of a layer's files by its tar and, where the tar's bytes were copied (`Entry.copied`), its metadata image."""
    pieces = [_HEAD]
    for entry in files(index):
        runs = [(1, Extent(0, entry.size, entry.offset))]
        if entry.copied or entry.extents is not None:
            runs = index.stored(entry.path)
        pieces.append(_digest(tar, image, runs, entry.size))
    data = b"".join(pieces)
    return data + hashlib.sha256(data).digest()


def read(path: str, name: str) -> list[bytes]:
    """The digests in a file of them.

    Raises:
        FileNotFoundError
        LayerDamaged: it is not what was written; names the layer `name`.
    """
    with open(path, "rb") as file:
        data = file.read()
    body, end = data[:-_SIZE], data[-_SIZE:]
    if not body.startswith(_HEAD) or hashlib.sha256(body).digest() != end:
        raise LayerDamaged(f"layer {name} is damaged: the checksums of its files are not what was written")
    return [body[at : at + _SIZE] for at in range(len(_HEAD), len(body), _SIZE)]


def of_file(fd: int, buffer: memoryview) -> bytes:
    """The digest of an open file, read from its start through `buffer`."""
    digest, offset = hashlib.sha256(), 0
    while count := os.preadv(fd, [buffer], offset):
        digest.update(buffer[:count])
        offset += count
    return digest.digest()


def _digest(tar: int, image: int, runs: Sequence[tuple[int, Extent]], size: int) -> bytes:
    digest, position = hashlib.sha256(), 0
    for device, (start, length, offset) in runs:
        _zeros(digest, start - position)
        position = start + length
        while length:
            data = os.pread(tar if device else image, min(length, _CHUNK), offset)
            if not data:
                raise LayerDamaged("the tar of a layer ends early")
            digest.update(data)
            offset, length = offset + len(data), length - len(data)
    _zeros(digest, size - position)
    return digest.digest()


def _zeros(digest: hashlib._Hash, count: int) -> None:
    while count > 0:
        digest.update(bytes(min(count, _CHUNK)))
        count -= _CHUNK
