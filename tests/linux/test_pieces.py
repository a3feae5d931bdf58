"""Many bytes are written by calls that are over soon: no other thread gets a processor within one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lamina.content.durability import Durability
from lamina.content.local import LocalContent
from lamina.layer.contents import Files, place
from lamina.layer.tree import Node
from lamina.linux.holes import HollowWriter
from lamina.linux.pieces import PIECE, first
from lamina.linux.uncached import UncachedWriter

SIZE = 8 * PIECE + 5
DATA = os.urandom(SIZE)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that each call wrote."""
    sizes: list[int] = []
    for name in ("write", "pwrite", "pwritev"):
        monkeypatch.setattr(os, name, _counting(getattr(os, name), sizes))
    return sizes


def _counting(call: Callable[..., int], sizes: list[int]) -> Callable[..., int]:
    def counted(*arguments: object) -> int:
        sizes.append(size := call(*arguments))
        return size

    return counted


@pytest.mark.parametrize("kind", [HollowWriter, UncachedWriter])
def test_a_file_that_is_written_from_its_start_on(
    tmp_path: Path, written: list[int], kind: type[HollowWriter] | type[UncachedWriter]
) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        writer = kind(file.fileno())
        writer.write(b"head")
        writer.write(DATA)
        writer.finish()
    assert (tmp_path / "file").read_bytes() == b"head" + DATA
    assert max(written) <= PIECE


def test_a_blob_that_comes_in(tmp_path: Path, written: list[int]) -> None:
    content = LocalContent(str(tmp_path / "content"), Durability(str(tmp_path), "boot"))
    with content.ingest() as ingest:
        ingest.write(DATA)
        assert Path(ingest.path).read_bytes() == DATA
    assert max(written) <= PIECE


def test_a_file_of_a_layer(tmp_path: Path, written: list[int]) -> None:
    files = Files(str(tmp_path))
    files.begin(1, Node(0o100644, 0, 0, SIZE, 0, 0))
    files.write(memoryview(DATA))
    files.end()
    files.close()
    assert (tmp_path / place(1).decode()).read_bytes() == DATA
    assert max(written) <= PIECE


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([], []),
        ([3, 4], [3, 4]),
        ([PIECE, 1], [PIECE]),
        ([PIECE - 1, 5, 7], [PIECE - 1, 1]),
        ([1] * 3000, [1] * 1024),
    ],
)
def test_what_one_call_takes_of_many(sizes: Sequence[int], taken: Sequence[int]) -> None:
    assert [len(view) for view in first([memoryview(bytes(size)) for size in sizes])] == taken
