"""Flags of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.linux.fileflags import mark_top_directory


@pytest.mark.root
def test_marking_a_directory_twice_or_where_it_cannot_be_marked_does_no_harm(tmp_path: Path) -> None:
    assert mark_top_directory(str(tmp_path)) == mark_top_directory(str(tmp_path))
    assert mark_top_directory("/proc") is False
