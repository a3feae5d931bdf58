"""Networks on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.network.model import Network
from lamina.network.store import NetworkStore


@pytest.mark.parametrize("text", ["5", "[]", "null", "{}", '{"version": 1, "pools": 5}', '{"version": 1, "pools": [[]]}', "\xff"])
def test_files_that_are_no_networks_are_passed_over(tmp_path: Path, text: str) -> None:
    store = NetworkStore(str(tmp_path))
    kept = Network("i" * 64, "kept")
    store.save(kept)
    (tmp_path / "damaged.json").write_bytes(text.encode("latin-1"))
    assert store.load() == [kept]
