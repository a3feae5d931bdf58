"""The drivers keep the contract, each in every way it can work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.snapshot.erofs import Ways
from lamina.snapshot.fdstore import MemoryFdStore
from tests.contracts.snapshotter import Rig, SnapshotterContract
from tests.snapshot.conftest import rig_of


class TestErofs(SnapshotterContract):
    """From files, by descriptors, where this kernel can."""

    @pytest.fixture
    def rig(self, erofs_rig: Rig) -> Rig:
        return erofs_rig


class TestErofsThroughLoopDevices(SnapshotterContract):
    """As on file systems that cannot back EROFS."""

    @pytest.fixture
    def rig(self, tmp_path: Path, ways: Ways, fds: MemoryFdStore) -> Iterator[Rig]:
        yield from rig_of(tmp_path, replace(ways, loop=True), fds)


class TestErofsMountedByPath(SnapshotterContract):
    """As on kernels whose overlayfs takes no descriptors."""

    @pytest.fixture
    def rig(self, tmp_path: Path, ways: Ways, fds: MemoryFdStore) -> Iterator[Rig]:
        yield from rig_of(tmp_path, replace(ways, descriptors=False), fds)


class TestOverlay(SnapshotterContract):
    """Extracted directories."""

    @pytest.fixture
    def rig(self, overlay_rig: Rig) -> Rig:
        return overlay_rig
