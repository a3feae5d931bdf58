"""Upper directories, walked while whoever writes there removes what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lamina.layer.compare import Original, changes
from lamina.layer.union import Union
from lamina.layer.upper import attributes, walk_uppers


@pytest.mark.parametrize("levels", [1, 2])
def test_what_goes_while_it_is_looked_at_has_no_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int) -> None:
    tops = [tmp_path / str(number) for number in range(levels)]
    for top in tops:
        (top / "gone").mkdir(parents=True)
        (top / "kept").write_text("kept")
    real = os.open

    def removed(path: Any, *args: Any, **more: Any) -> int:
        fd = real(path, *args, **more)
        if path == b"gone":
            os.rmdir(path, **more)
        return fd

    monkeypatch.setattr(os, "open", removed)
    found = {each.path: attributes(each) for each in walk_uppers(list(map(str, tops)))}
    assert sorted(found) == [b"gone", b"kept"]


def test_what_goes_while_a_copy_is_compared_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").write_text("gone")
    with Union.open([]) as below:
        found = changes(str(tmp_path), Original(below, [], 0))
        assert next(found) == (b"/first", "A")
        (tmp_path / "folder").rmdir()
        (tmp_path / "gone").unlink()
        assert list(found) == []
