"""zstd in frames: an ordinary stream, cut each megabyte, whose frames are inflated where the table says."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from lamina.layer.compression import inflater, zstd_deflater
from lamina.layer.errors import InvalidArchive
from lamina.layer.frames import FramesDeflater, inflated, table_of
from lamina.layer.stream import CHUNK

SIZES = [1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK, 20 * CHUNK + 512]


def data_of(size: int) -> bytes:
    """Some of it can be compressed."""
    some = random.Random(size).randbytes(min(size, 300_000))
    return (some + bytes(100_000)) * (size // 400_000) + some[: size % 400_000] + bytes(max(0, size % 400_000 - len(some)))


def compressed(data: bytes, step: int, threads: int = 2) -> bytes:
    deflater = FramesDeflater(threads=threads)
    return b"".join(deflater.compress(data[at : at + step]) for at in range(0, len(data), step)) + deflater.flush()


def opened(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize("size", SIZES)
def test_frames_give_back_the_bytes(tmp_path: Path, size: int) -> None:
    data = data_of(size)
    fd = opened(tmp_path / "frames", compressed(data, 700_000))
    table = table_of(fd)
    assert table is not None and [plain for _, plain in table] == [min(CHUNK, size - at) for at in range(0, size, CHUNK)]
    pieces = list(inflated(fd, table))
    assert [len(piece) for piece in pieces] == [plain for _, plain in table]
    assert b"".join(pieces) == data
    os.close(fd)


def test_they_are_an_ordinary_stream() -> None:
    data, one = data_of(5 * CHUNK + 3), inflater("zstd")
    assert b"".join(one.feed(compressed(data, CHUNK))) == data
    one.finish()


def test_the_same_bytes_give_the_same_frames() -> None:
    data = data_of(7 * CHUNK + 9)
    assert compressed(data, 1000) == compressed(data, 3 * CHUNK, threads=1) == compressed(data, CHUNK)


def test_nothing_is_a_stream_of_no_frames(tmp_path: Path) -> None:
    fd = opened(tmp_path / "frames", compressed(b"", 1))
    assert table_of(fd) == () and list(inflated(fd, ())) == []
    os.close(fd)


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_file_without_its_end_has_no_table(tmp_path: Path, cut: int) -> None:
    fd = opened(tmp_path / "frames", compressed(data_of(3 * CHUNK), CHUNK)[:-cut])
    assert table_of(fd) is None
    os.close(fd)


@pytest.mark.parametrize("data", [b"", b"short", zstd_deflater().flush()], ids=["nothing", "short", "zstd"])
def test_other_files_have_none(tmp_path: Path, data: bytes) -> None:
    fd = opened(tmp_path / "file", data)
    assert table_of(fd) is None
    os.close(fd)


def test_a_table_that_lies_about_where_frames_end_is_none(tmp_path: Path) -> None:
    made = bytearray(compressed(data_of(3 * CHUNK), CHUNK))
    made[-9 - 3 * 8] ^= 1
    fd = opened(tmp_path / "frames", made)
    assert table_of(fd) is None
    os.close(fd)


@pytest.mark.parametrize("change", [(8, -8), (-8, 8)], ids=["early", "late"])
def test_frames_that_end_elsewhere_are_refused(tmp_path: Path, change: tuple[int, int]) -> None:
    fd = opened(tmp_path / "frames", compressed(data_of(3 * CHUNK), CHUNK))
    table = table_of(fd)
    assert table is not None
    lying = [(size + by, plain) for (size, plain), by in zip(table, (*change, 0), strict=True)]
    with pytest.raises(InvalidArchive):
        list(inflated(fd, lying))
    os.close(fd)


@pytest.mark.parametrize("by", [1, -1])
def test_frames_that_hold_more_or_less_are_refused(tmp_path: Path, by: int) -> None:
    fd = opened(tmp_path / "frames", compressed(data_of(2 * CHUNK - 5), CHUNK))
    table = table_of(fd)
    assert table is not None
    last, plain = table[-1]
    with pytest.raises(InvalidArchive, match="table"):
        list(inflated(fd, [table[0], (last, plain + by)]))
    os.close(fd)


def test_what_came_before_a_flipped_bit_is_given(tmp_path: Path) -> None:
    data = data_of(12 * CHUNK)
    made = bytearray(compressed(data, CHUNK))
    fd = opened(tmp_path / "frames", made)
    table = table_of(fd)
    assert table is not None
    made[sum(size for size, _ in table[:7]) + 1000] ^= 1
    (tmp_path / "frames").write_bytes(made)
    given = []
    with pytest.raises(InvalidArchive):
        for piece in inflated(fd, table):
            given.append(piece)
    assert b"".join(given) == data[: 7 * CHUNK]
    os.close(fd)
