"""Files that are written and read around the page cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lamina.linux.uncached import UncachedWriter, read_once, read_uncached


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def written(fd: int, pieces: Sequence[bytes]) -> bytes:
    writer = UncachedWriter(fd)
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    return os.pread(fd, 1 << 30, 0)


@pytest.mark.parametrize(
    "sizes", [(), (0,), (1,), (1 << 20,), (700_000, 700_000, 5), (3_500_000, 1), (512, *[1 << 20] * 3, 70_000, 1 << 20)]
)
def test_all_bytes_come_in_order(fd: int, sizes: tuple[int, ...]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    assert written(fd, pieces) == b"".join(pieces)


def test_a_kernel_that_cannot_writes_as_ever(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def refusing(fd: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "pwritev", refusing)
    assert written(fd, [b"x" * 2_500_000]) == b"x" * 2_500_000


def test_a_disk_that_is_full_is_told(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="no space left"):
        written(fd, [b"x"])


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 3_500_001])
def test_a_file_is_read_to_its_end(fd: int, size: int) -> None:
    data = os.urandom(size)
    os.write(fd, data)
    assert b"".join(read_once(fd)) == data
    assert read_uncached(fd, 100, size // 2) == data[size // 2 :][:100]


def test_a_kernel_that_cannot_reads_as_ever(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv

    def refusing(fd: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return preadv(fd, buffers, offset)

    os.write(fd, b"x" * 1_500_000)
    monkeypatch.setattr(os, "preadv", refusing)
    assert b"".join(read_once(fd)) == b"x" * 1_500_000


def test_a_disk_that_fails_is_told(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OSError, match="input/output"):
        list(read_once(fd))
