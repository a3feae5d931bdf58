"""`engine.networks`: the same in one's own process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina import Engine
from lamina.network.model import NetworkExists, NetworkForbidden, NetworkNotFound
from lamina.network.networks import erase
from lamina.network.requests import NetworkRequest
from tests.harness import helpers


@pytest.mark.root
def test_networks_are_made_listed_and_removed_by_the_library(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    try:
        with Engine.open(root) as engine:
            made, warning = engine.networks.create(NetworkRequest("mine", labels={"a": "b"}))
            assert warning == "" and os.path.exists(f"/sys/class/net/{made.bridge}")
            assert [network["Name"] for network in engine.networks.list({"label": ["a=b"]})] == ["mine"]
            with pytest.raises(NetworkExists):
                engine.networks.create(NetworkRequest("mine"))
            with pytest.raises(NetworkForbidden):
                engine.networks.remove("none")
        with Engine.open(root) as engine:
            assert engine.networks.get(made.id[:12]).pools == made.pools
            engine.networks.remove("mine")
            assert not os.path.exists(f"/sys/class/net/{made.bridge}")
            with pytest.raises(NetworkNotFound):
                engine.networks.get("mine")
    finally:
        for pid in helpers(tmp_path):
            os.kill(pid, 9)
        erase(root)
