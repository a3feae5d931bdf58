"""Sparse files: maps as archives spell them, and as EROFS chunks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.layer.diff import stored_runs
from lamina.layer.erofs.chunks import plan_chunks, plan_unfinished
from lamina.layer.errors import ArchiveTooLarge, InvalidArchive, TruncatedArchive
from lamina.layer.tar import sparse
from lamina.layer.tar.member import Extent


@pytest.mark.parametrize("runs", [[(0, 10), (5, 10)], [(10, 5), (0, 5)], [(0, 101)], [(-1, 5)], [(0, -5)]])
def test_runs_that_do_not_fit_are_refused(runs: list[tuple[int, int]]) -> None:
    with pytest.raises(InvalidArchive, match="sparse map does not fit"):
        sparse.extents(runs, 100, 0, 1000)


def test_a_map_that_needs_more_than_is_stored_is_truncated() -> None:
    with pytest.raises(TruncatedArchive):
        sparse.extents([(0, 50)], 100, 0, 49)


@pytest.mark.parametrize("text", [b"1", b"1,2,3", b"a,b", b"1,-2"])
def test_malformed_maps_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidArchive):
        sparse.parse_map(text)


@given(st.binary(max_size=600))
def test_any_map_before_the_data_is_read_or_refused(text: bytes) -> None:
    try:
        sparse.parse_prefix(text)
    except InvalidArchive:
        pass


TAR = bytes(i * 7 % 251 + 1 for i in range(1 << 18))


def shown(extents: tuple[Extent, ...], size: int, tar: bytes) -> tuple[bytes, bytes]:
    """A file's bytes by its extents, and by the chunks they were planned as."""
    plain = bytearray(size)
    for start, length, offset in extents:
        plain[start : start + length] = tar[offset : offset + length]
    plan = plan_chunks(extents, size)
    step = 1 << plan.bits
    chunked = bytearray(plan.count * step if plan.count * step < 1 << 24 else size)
    for first, count, block in plan.mapped:
        for i in range(count):
            data = tar[block * 512 + i * step : block * 512 + min((i + 1) * step, len(tar))]
            at = (first + i) * step
            chunked[at : at + len(data)] = data
    for number, pieces in plan.copied:
        for start, length, offset in pieces:
            chunked[number * step + start : number * step + start + length] = tar[offset : offset + length]
    return bytes(plain), bytes(chunked[:size])


@st.composite
def maps(draw: st.DrawFn, unit: int) -> tuple[tuple[Extent, ...], int]:
    found, start, offset = [], 0, 512 * draw(st.integers(0, 4))
    for _ in range(draw(st.integers(0, 5))):
        start += unit * draw(st.integers(0, 20))
        length = unit * draw(st.integers(1, 9))
        found.append(Extent(start, length, offset))
        start, offset = start + length, offset + length
    return tuple(found), start + draw(st.integers(0, 3000))


@given(st.one_of(maps(512), maps(1), maps(4096)))
def test_chunks_show_what_the_extents_say(given_map: tuple[tuple[Extent, ...], int]) -> None:
    extents, size = given_map
    plain, chunked = shown(extents, size, TAR)
    assert plain == chunked


def test_a_hole_of_a_terabyte_takes_few_chunks() -> None:
    assert plan_chunks((), 1 << 40).count == 1
    assert plan_chunks((Extent(1 << 39, 1 << 20, 0),), 1 << 40).count <= 1 << 20


def test_a_map_too_large_is_refused() -> None:
    with pytest.raises(ArchiveTooLarge):
        plan_chunks((Extent(512, 512, 0),), 1 << 50)


@given(st.integers(1, 1 << 42), st.integers(0, 1 << 40))
def test_of_a_file_that_its_tar_ends_with_only_the_end_is_copied(size: int, block: int) -> None:
    chunks = plan_unfinished(block * 512, size)
    [(last, [(start, length, offset)])] = chunks.copied
    assert (start, (last << chunks.bits) + length, offset) == (0, size, block * 512 + size - length)
    assert chunks.mapped == (((0, last, block),) if last else ())
    assert chunks.count == last + 1 <= 1 << 17


def test_a_file_that_is_cut_while_it_is_looked_at_has_nothing_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "log", "w+b", buffering=0) as file:
        file.seek(1 << 20)
        file.write(b"line")
        seek = os.lseek

        def cut(fd: int, position: int, whence: int) -> int:
            if whence == os.SEEK_HOLE:
                os.ftruncate(fd, 0)
            return seek(fd, position, whence)

        monkeypatch.setattr(os, "lseek", cut)
        size = (1 << 20) + 4
        assert stored_runs(file.fileno(), size) == [(size, 0)]
