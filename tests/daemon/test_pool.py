"""A cap for all containers together: what a crash leaves of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.daemon import pool
from lamina.worker import InlineWorkers


def test_half_a_pool_of_a_killed_engine_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(path: str, size: int, workers: object) -> None:
        with open(path, "xb") as file:
            file.truncate(size)

    monkeypatch.setattr(pool, "make_image", make)
    monkeypatch.setattr(pool, "mount_image", lambda image, target: None)
    monkeypatch.setattr(pool, "_grow", lambda found, target: None)
    (tmp_path / "containers").mkdir()
    (tmp_path / "pool.img.new").write_bytes(b"half")
    assert pool.open_pool(str(tmp_path), 1 << 20, InlineWorkers()).size == 1 << 20
