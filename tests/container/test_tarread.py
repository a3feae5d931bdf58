"""A tar is read forwards however it is cut; long contents go from where they arrive to their file."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.container.tarread import Archive
from lamina.layer.errors import TruncatedArchive

MEGABYTE = 1 << 20
SIZES = (0, 1, 512, 70_000, MEGABYTE - 1, MEGABYTE, 3 * MEGABYTE + 5, 3 * MEGABYTE, 7)


class Source:
    """A stream that is taken in pieces of random sizes, or copied."""

    def __init__(self, data: bytes, seed: int) -> None:
        self.data, self.at, self.random, self.copied = data, 0, random.Random(seed), 0

    def pieces(self) -> Iterator[bytes]:
        while self.at < len(self.data):
            yield self._next(self.random.choice((1, 511, 512, 513, 70_000, MEGABYTE)))

    def copy(self, fd: int, size: int) -> int:
        with open(fd, "wb", closefd=False) as file:
            count = file.write(self._next(size))
        self.copied += count
        return count

    def _next(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        self.at += len(piece)
        return piece


def packed() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, size in enumerate(SIZES):
            info = tarfile.TarInfo(str(number))
            info.size = size
            tar.addfile(info, io.BytesIO(content(size)))
    return out.getvalue()


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def unpacked(archive: Archive, path: Path) -> list[bytes]:
    """The content of each member, by way of a file."""
    found = []
    for member in archive:
        with open(path, "wb", buffering=0) as file:
            archive.write(file.fileno(), member, member.offset, member.size)
        found.append(path.read_bytes())
    return found


@pytest.mark.parametrize("seed", range(20))
def test_contents_are_whole_however_they_come(seed: int, tmp_path: Path) -> None:
    source = Source(packed(), seed)
    assert unpacked(Archive(source.pieces(), source.copy), tmp_path / "file") == [content(size) for size in SIZES]
    assert source.copied > 4 * MEGABYTE


def test_a_compressed_stream_is_not_copied(tmp_path: Path) -> None:
    source = Source(gzip.compress(packed(), 1), 1)
    assert unpacked(Archive(source.pieces(), source.copy), tmp_path / "file") == [content(size) for size in SIZES]
    assert not source.copied


@pytest.mark.parametrize("lacking", [1, 512, MEGABYTE])
def test_a_content_that_is_cut_while_it_is_copied_is_named(lacking: int, tmp_path: Path) -> None:
    out = io.BytesIO()
    info = tarfile.TarInfo("long")
    info.size = 4 * MEGABYTE
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(info, io.BytesIO(content(info.size)))
    source = Source(out.getvalue()[: 512 + info.size - lacking], 2)
    with pytest.raises(TruncatedArchive, match=f"'long' lacks {lacking} bytes"):
        unpacked(Archive(source.pieces(), source.copy), tmp_path / "file")
    assert source.copied
