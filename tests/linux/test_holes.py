"""Long runs of zeros are holes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.linux.holes import HollowWriter, hollow


@pytest.mark.parametrize(
    "pieces", [[], [b""], [b"a"], [bytes(1 << 20)], [b"a", bytes(1 << 20), b"b"], [bytes(70_000), b"b", bytes(70_000)]]
)
def test_all_bytes_are_read_again(tmp_path: Path, pieces: list[bytes]) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    writer = HollowWriter(fd)
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    os.close(fd)
    assert path.read_bytes() == b"".join(pieces)
    assert path.stat().st_blocks * 512 <= 16384


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_one_byte_that_is_not_zero_makes_it_none(size: int, at: int) -> None:
    data = bytearray(size)
    assert hollow(data) == (size >= 1 << 16)
    if at < size:
        data[at] = 1
        assert not hollow(data) and not hollow(memoryview(data))
