"""A look at every byte of a stack before a container gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.snapshot import merging
from lamina.snapshot.merging import Depth
from tests.image.exchange import Store, some_tars


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """With overlay; stacks of more than six layers are merged below."""
    monkeypatch.setattr(merging, "Depth", lambda: Depth(most=6, step=3))
    store = Store(tmp_path / "store", "overlay")
    yield store
    store.close()


@pytest.mark.root
def test_what_was_merged_below_a_high_stack_is_looked_at_and_made_anew(store: Store) -> None:
    top = store.make("high:1", some_tars(8, 1000)).layers[-1]
    store.layers.lowers(top)
    [merged] = [path for path in (store.root / "stacks").iterdir() if path.is_dir()]
    names = sorted(path.name for path in merged.iterdir())
    (merged / "file2").unlink()
    (merged / "stray").touch()
    store.layers.verify_stack(top)
    assert sorted(path.name for path in merged.iterdir()) == names
    assert (merged / "file2").stat().st_size == 1000
