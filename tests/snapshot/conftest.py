"""Rigs for the drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.layer.tree import Limits
from lamina.snapshot.erofs import ErofsSnapshotter, Ways
from lamina.snapshot.fdstore import MemoryFdStore
from lamina.snapshot.native import NativeSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.probe import DriverUnavailable, probe
from lamina.snapshot.protocol import Snapshotter
from lamina.snapshot.trees import Trees
from lamina.worker.workers import InlineWorkers
from tests.contracts.snapshotter import Rig


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Ways:
    """How this kernel takes layers; skips where it cannot mount tars at all."""
    try:
        return probe(str(tmp_path_factory.mktemp("probe")), "erofs").ways
    except DriverUnavailable as unavailable:
        pytest.skip(unavailable.message)


@pytest.fixture
def fds() -> Iterator[MemoryFdStore]:
    """A store of descriptors that ends with the test."""
    store = MemoryFdStore()
    yield store
    store.close()


@pytest.fixture
def erofs_rig(tmp_path: Path, ways: Ways, fds: MemoryFdStore) -> Iterator[Rig]:
    """The erofs driver as the probe would set it up."""
    yield from rig_of(tmp_path, ways, fds)


@pytest.fixture
def overlay_rig(tmp_path: Path) -> Iterator[Rig]:
    """The overlay driver."""
    yield from rig_of(tmp_path, None, MemoryFdStore())


@pytest.fixture
def native_rig(tmp_path: Path) -> Iterator[Rig]:
    """The native driver."""
    yield from rig_of(tmp_path, None, MemoryFdStore(), trees=NativeSnapshotter)


def rig_of(path: Path, ways: Ways | None, fds: MemoryFdStore, *, trees: type[Trees] = OverlaySnapshotter) -> Iterator[Rig]:
    """A rig below `path`; without `ways`, that of the driver `trees`."""
    scratch, blobs = path / "scratch", path / "blobs"
    scratch.mkdir()
    blobs.mkdir()

    def make(limits: Limits) -> Snapshotter:
        if ways is None:
            return trees(str(path), InlineWorkers(), limits)  # type: ignore[return-value]
        return ErofsSnapshotter(str(path), lambda digest: str(blobs / digest), InlineWorkers(), fds, ways, limits)

    def reopen() -> Snapshotter:
        """As after a restart without a keeper: nothing is held, all is checked again."""
        fds.close()
        return make(Limits())

    rig = Rig(make(Limits()), path, scratch, blobs, make, reopen)
    yield rig
    for name in rig.snapshotter.names():
        rig.snapshotter.remove(name)
