"""The room that removals have on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lamina.content.reserve import Reserve


def test_what_a_disk_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    reserve = Reserve(f"{tmp_path}/reserve", 4096)
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", refuse)
        reserve.lay_aside()
    assert os.listdir(tmp_path) == []
    reserve.lay_aside()
    assert (tmp_path / "reserve").stat().st_size == 4096
