"""Archives that ADD unpacks: recognised by their content, never by their names."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from lamina.builder.context import unpacked
from lamina.builder.files import Files, Item, TarFiles
from lamina.errors import LaminaError
from lamina.layer.tar.parser import BLOCK, Parser


def is_archive(files: Files, path: bytes, item: Item) -> bool:
    """Whether the file is a tar, plain or packed, with at least one member."""
    parser, seen = Parser(), 0
    try:
        for chunk in unpacked(_stream(files, path, item)):
            # The first member may have long headers of its own before it.
            if any(parser.feed(chunk[at : at + BLOCK]) for at in range(0, len(chunk), BLOCK)):
                return True
            seen += len(chunk)
            if seen > 1 << 20:
                return False
    except LaminaError:
        return False
    return False


@contextmanager
def opened_archive(files: Files, path: bytes, item: Item, scratch: str) -> Iterator[TarFiles]:
    """The files of an archive, unpacked to a nameless file in `scratch` meanwhile.

    Raises:
        InvalidArchive, ArchiveTooLarge: it cannot be what it says.
    """
    with tempfile.TemporaryFile(dir=scratch) as plain:
        for chunk in unpacked(_stream(files, path, item)):
            plain.write(chunk)
        plain.flush()
        yield TarFiles.scan(plain.fileno())


class _Chunks(io.RawIOBase):
    """An iterator of chunks as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        size = len(self._left) if size < 0 else size
        data, self._left = self._left[:size], self._left[size:]
        return data


def _stream(files: Files, path: bytes, item: Item) -> BinaryIO:
    return cast(BinaryIO, _Chunks(files.read(path, item)))
