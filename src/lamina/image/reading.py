"""A file's content out of the layer that has it: from the extracted tree, from the tar, or from a compressed form of it."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from lamina.errors import Corrupt
from lamina.image.layers import Layers
from lamina.image.model import LayerFacts
from lamina.layer.content import Place, through_tarfile
from lamina.layer.index import Entry

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def content(layers: Layers, facts: LayerFacts, entry: Entry) -> Iterator[bytes]:
    """The bytes of a regular file. See `Place.read`.

    Raises:
        Corrupt: what is stored ends early.
    """
    found = place(layers, facts)
    return found.read(entry) if found is not None else through_tarfile(layers.open_tar(facts.diff_id), entry)


class _Part(io.RawIOBase):
    """A part of a file as a file: `size` bytes from `offset`. Owns the descriptor."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd, self._offset, self._size, self._at = fd, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        left = max(0, min(len(view), self._size - self._at))
        data = os.pread(self._fd, left, self._offset + self._at)
        if left and not data:
            raise Corrupt("a layer's bytes end early")
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("negative seek position")
        self._at = start + offset
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def opened(layers: Layers, facts: LayerFacts, entry: Entry) -> BinaryIO:
    """A regular file as a Python file object, read from where its bytes lie; one that lies in pieces is copied first."""
    found = place(layers, facts)
    whole = found.open(entry) if found is not None else None
    if whole is not None:
        return io.BufferedReader(_Part(*whole, entry.size))
    file = tempfile.TemporaryFile()  # the caller closes it
    for piece in content(layers, facts, entry):
        file.write(piece)
    file.seek(0)
    return cast(BinaryIO, file)


def place(layers: Layers, facts: LayerFacts) -> Place | None:
    """Where a layer's bytes lie; None where only a compressed tar is here."""
    tree, tar = layers.driver.tree(facts.name), layers.tar_blob(facts.diff_id)
    return None if tree is None and tar is None else Place(tree, tar)
