"""openat2: below a directory as if it were the root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lamina.linux import openat2


def test_a_rename_elsewhere_at_the_wrong_moment_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says EAGAIN then, seldom: here it says so three times."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("found")
    real, refusals = openat2.openat2, [errno.EAGAIN] * 3

    def busy(directory: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
        if refusals:
            raise OSError(refusals.pop(), "busy")
        return real(directory, path, flags, resolve, mode)

    monkeypatch.setattr(openat2, "openat2", busy)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(openat2.open_in_root(root, "a/../../../b")) as file:
            assert file.read() == "found"
    finally:
        os.close(root)
