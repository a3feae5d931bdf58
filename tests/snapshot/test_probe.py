"""The probe, and descriptors held in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.snapshot.choose import DriverMismatch, choose, made_with
from lamina.snapshot.fdstore import MemoryFdStore
from lamina.snapshot.probe import DriverUnavailable, probe
from lamina.spec.digest import Digest
from lamina.worker.workers import InlineWorkers
from tests.contracts.snapshotter import Rig, file, tar


class NoBlobs:
    def path(self, digest: Digest) -> str:
        return f"/nowhere/{digest.encoded}"


@pytest.mark.root
def test_what_the_probe_chooses_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    found = probe(str(tmp_path / "root"))
    assert found.driver in ("erofs", "overlay")
    assert found.reason
    assert found.details
    assert os.listdir(tmp_path / "root") == []


@pytest.mark.root
def test_a_driver_can_be_asked_for(tmp_path: Path) -> None:
    chosen = choose(str(tmp_path), NoBlobs(), InlineWorkers(), MemoryFdStore(), driver="overlay")
    assert (chosen.snapshotter.name, chosen.reason) == ("overlay", "asked for")


@pytest.mark.root
def test_a_root_keeps_the_driver_its_layers_were_made_with(overlay_rig: Rig) -> None:
    root = str(overlay_rig.root)
    overlay_rig.publish(tar(file("x")))
    chosen = choose(root, NoBlobs(), InlineWorkers(), MemoryFdStore())
    assert chosen.snapshotter.name == "overlay"
    assert "made with it" in chosen.reason
    with pytest.raises(DriverMismatch, match="layers of the overlay storage driver, not of erofs"):
        choose(root, NoBlobs(), InlineWorkers(), MemoryFdStore(), driver="erofs")
    overlay_rig.snapshotter.remove(overlay_rig.published[0])
    assert made_with(root) == ""


@pytest.mark.root
def test_a_root_with_mounted_layers_is_not_given_to_the_overlay_driver(erofs_rig: Rig) -> None:
    erofs_rig.publish(tar(file("x")))
    with pytest.raises(DriverMismatch):
        choose(str(erofs_rig.root), NoBlobs(), InlineWorkers(), MemoryFdStore(), driver="overlay")


def test_an_unknown_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DriverUnavailable, match="no such storage driver: zfs"):
        probe(str(tmp_path), "zfs")


@pytest.mark.root
def test_where_files_cannot_back_erofs_loop_devices_do(tmp_path: Path) -> None:
    from lamina.linux import mount

    mount.mount("tmpfs", str(tmp_path), "tmpfs")
    try:
        found = probe(str(tmp_path))
        assert found.driver == "overlay" or found.ways.loop
    finally:
        mount.unmount(str(tmp_path), mount.MNT_DETACH)


def test_a_store_of_descriptors_keeps_its_own_duplicate() -> None:
    store = MemoryFdStore()
    reader, writer = os.pipe()
    store.hold("layer/a", writer)
    os.close(writer)
    held = store.get("layer/a")
    assert held is not None
    os.write(held, b"x")
    assert os.read(reader, 1) == b"x"
    assert store.names() == ["layer/a"]
    store.drop("layer/a")
    store.drop("layer/a")
    assert store.get("layer/a") is None
    os.write(held, b"y")
    assert os.read(reader, 1) == b"y", "who has it may use it until the end"
    del held
    assert os.read(reader, 1) == b""
    os.close(reader)
