"""Folders that nobody finds any more, removed at once or soon."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lamina.container import removal
from lamina.container.removal import Removals
from lamina.worker.pool import WorkerPool


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Small removals wait until this is set."""
    go, remove = threading.Event(), removal.remove_small_tree

    def later(path: str, budget: int) -> bool:
        if threading.current_thread() is not threading.main_thread():
            assert go.wait(60)
        return remove(path, budget)

    monkeypatch.setattr(removal, "remove_small_tree", later)
    return go


@pytest.fixture
def workers() -> Iterator[WorkerPool]:
    with closing(WorkerPool(1)) as pool:
        yield pool


def folder(where: Path, files: int = 2, size: int = 3) -> str:
    (where / "below").mkdir(parents=True)
    for number in range(files):
        (where / "below" / str(number)).write_bytes(bytes(size))
    return str(where)


def test_small_ones_are_gone_after_who_asked_and_by_the_end(tmp_path: Path, held: threading.Event, workers: WorkerPool) -> None:
    removals = Removals(workers)
    paths = [folder(tmp_path / str(number)) for number in range(3)]
    for path in paths:
        removals.add(path)
    assert os.path.isdir(paths[-1])
    held.set()
    removals.flush()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("files", "size"), [(100, 3), (1, 5 << 20)], ids=["many files", "much"])
def test_large_ones_are_gone_at_once(tmp_path: Path, held: threading.Event, workers: WorkerPool, files: int, size: int) -> None:
    Removals(workers).add(folder(tmp_path / "large", files, size))
    assert os.listdir(tmp_path) == []


def test_where_many_wait_the_next_is_gone_at_once(
    tmp_path: Path, held: threading.Event, workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_MOST_WAITING", 2)
    monkeypatch.setattr(removal, "_DELAY", 60)
    removals = Removals(workers)
    for number in range(3):
        removals.add(folder(tmp_path / str(number)))
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]
    held.set()
    removals.flush()
    assert os.listdir(tmp_path) == []


def test_what_is_not_there_is_fine(tmp_path: Path, workers: WorkerPool) -> None:
    removals = Removals(workers)
    removals.add(str(tmp_path / "nothing"))
    removals.flush()
