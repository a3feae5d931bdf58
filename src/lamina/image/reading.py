"""A file's content out of the layer that has it: from the extracted tree, or from the tar by offset."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO

from lamina.errors import Corrupt
from lamina.image.layers import Layers
from lamina.image.model import LayerFacts
from lamina.layer.index import Entry

_CHUNK = 1 << 20


def content(layers: Layers, facts: LayerFacts, entry: Entry) -> Iterator[bytes]:
    """The bytes of a regular file, holes as zeros. Opened at once, closed when read to its end or dropped.

    Raises:
        Corrupt: what is stored ends early.
    """
    tree = layers.driver.tree(facts.name)
    if tree is not None:
        return _whole(_open_in_tree(tree, entry.path), entry.size)
    path = layers.tar_blob(facts.diff_id)
    if path is None:
        return _through_tarfile(layers.open_tar(facts.diff_id), entry)
    if entry.copied:
        return _through_tarfile(open(path, "rb"), entry)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if entry.extents is None:
        return _whole(fd, entry.size, entry.offset)
    return _sparse(fd, entry)


def _open_in_tree(tree: str, path: bytes) -> int:
    """Open a path below `tree`; no component of an index's path is a link, and none is followed."""
    fd = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *directories, name = path.split(b"/")
        for directory in directories:
            below = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _whole(fd: int, size: int, offset: int = 0) -> Iterator[bytes]:
    try:
        yield from _range(fd, offset, size)
    finally:
        os.close(fd)


def _sparse(fd: int, entry: Entry) -> Iterator[bytes]:
    try:
        position = 0
        for extent in entry.extents or ():
            yield from _zeros(extent.start - position)
            yield from _range(fd, extent.offset, extent.length)
            position = extent.start + extent.length
        yield from _zeros(entry.size - position)
    finally:
        os.close(fd)


def _range(fd: int, offset: int, size: int) -> Iterator[bytes]:
    while size > 0:
        data = os.pread(fd, min(size, _CHUNK), offset)
        if not data:
            raise Corrupt("a layer's tar ends early")
        yield data
        offset, size = offset + len(data), size - len(data)


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield bytes(min(size, _CHUNK))
        size -= _CHUNK


def _through_tarfile(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The slow way, for the few sparse files whose stored bytes lie unaligned in the tar, and for compressed tars."""
    with closing(file), tarfile.open(fileobj=file, mode="r|") as tar:
        for member in tar:
            if os.fsencode(member.name).strip(b"./") == entry.path.strip(b"./"):
                stream = tar.extractfile(member)
                while stream is not None and (data := stream.read(_CHUNK)):
                    yield data
                return
    raise Corrupt("a layer's tar does not hold what its index lists")
