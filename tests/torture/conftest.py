"""Kills, power cuts and full disks. `./dev torture`; LAMINA_TORTURE_ROUNDS says how often (40)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import busybox_tar


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.torture)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a static busybox, as a tar."""
    return busybox_tar(tmp_path_factory.mktemp("base") / "busybox.tar")


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often each random thing is tried."""
    return int(os.environ.get("LAMINA_TORTURE_ROUNDS", "40"))


@pytest.fixture(params=["erofs", "overlay", "native"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each storage driver."""
    return str(request.param)
