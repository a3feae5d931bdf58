"""The drivers keep the contract, each in every way it can work."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.snapshot.erofs import Ways, mount_layer
from lamina.snapshot.fdstore import MemoryFdStore
from tests.contracts.snapshotter import Rig, SnapshotterContract, file, tar
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


@pytest.mark.root
def test_127_layers_are_stacked_by_short_names_where_overlayfs_takes_no_descriptors(overlay_rig: Rig) -> None:
    """What older kernels need, tried on this one."""
    from lamina.linux import mount, overlay
    from lamina.linux.namespace import CLONE_NEWNS, unshare

    for i in range(127):
        overlay_rig.publish(tar(file(f"f{i}", b"%d" % i)))
    place = overlay_rig.root / "container"
    for name in ("diff", "work", "scratch", "target"):
        (place / name).mkdir(parents=True)
    lowers = [(lower.fd, lower.path) for lower in overlay_rig.snapshotter.lowers(overlay_rig.published)]
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            unshare(CLONE_NEWNS)
            mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)
            fd = overlay._by_names(lowers, str(place / "diff"), str(place / "work"), str(place / "scratch"), volatile=True)
            mount.move_mount(fd, str(place / "target"))
            (place / "target/made").write_text("x")
            mounts = Path("/proc/self/mountinfo").read_text()
            hidden = str(overlay_rig.root) not in "".join(
                line.rpartition(" - ")[2] for line in mounts.splitlines() if "overlay overlay" in line
            )
            os.write(writer, f"{len(os.listdir(place / 'target'))} {hidden}".encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader) as answer:
        assert answer.read() == "128 True"
    assert os.listdir(place / "diff") == ["made"]


class TestOverlay(SnapshotterContract):
    """Extracted directories."""

    @pytest.fixture
    def rig(self, overlay_rig: Rig) -> Rig:
        return overlay_rig


class TestNative(SnapshotterContract):
    """Full copies."""

    @pytest.fixture
    def rig(self, native_rig: Rig) -> Rig:
        return native_rig

    def test_containers_share_a_layers_page_cache_also_after_a_restart(self, rig: Rig) -> None:
        pytest.skip("a copy has pages of its own")

    def test_no_path_of_the_host_shows_in_mountinfo(self, rig: Rig) -> None:
        pytest.skip("the root is a directory of the host's file system, which mountinfo names")


def test_a_loop_device_too_few_leaves_none_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def attach(path: str) -> tuple[int, str]:
        if taken:
            raise OSError(errno.ENOSPC, "no loop device is free")
        taken.append(os.open(tmp_path, os.O_PATH))
        return taken[0], "/dev/loop0"

    monkeypatch.setattr("lamina.linux.mount.loop_attach", attach)
    with pytest.raises(OSError, match="no loop device is free"):
        mount_layer("metadata", ["tar"], loop=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(taken[0])
