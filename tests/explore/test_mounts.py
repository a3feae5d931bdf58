"""`image mount`: images and layers on the host, for ordinary tools."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.content.store import DiskFull
from lamina.errors import Conflict, InvalidArgument, Unsupported
from lamina.explore import mounts
from lamina.explore.mounts import MountNotFound, Mounts
from lamina.image.model import ImageNotFound
from lamina.linux import mount
from tests.contracts.snapshotter import directory, file

from .conftest import Lab

pytestmark = pytest.mark.root
BASE = [directory("etc"), file("etc/hosts", b"one"), file("tool", b"#!", mode=0o4755)]
TOP = [directory("etc"), file("etc/hosts", b"two"), file("etc/new", b"n")]


@pytest.fixture
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("mnt")
    yield path
    while is_mount(path):
        mount.unmount(str(path), mount.MNT_DETACH)


def is_mount(path: Path) -> bool:
    """Bind mounts too, which os.path.ismount does not see."""
    return any(line.split(" ")[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def mounted(lab: Lab, reference: str, target: Path) -> None:
    try:
        lab.explorer.mounts.mount(reference, str(target))
    except Unsupported as error:
        pytest.skip(str(error))


def test_an_image_is_read_by_ordinary_tools_and_written_by_none(lab: Lab, target: Path) -> None:
    image = lab.image("app", BASE, TOP)
    mounted(lab, "app", target)
    assert (target / "etc/hosts").read_bytes() == b"two"
    with pytest.raises(OSError, match="Read-only"):
        (target / "x").write_text("x")
    assert os.statvfs(target).f_flag & os.ST_NOSUID and os.statvfs(target).f_flag & os.ST_NODEV
    assert [(each.target, each.kind, each.id) for each in lab.explorer.mounts.list()] == [(str(target), "image", str(image.id))]
    with pytest.raises(Conflict, match="already"):
        lab.explorer.mounts.mount("app", str(target))
    lab.store.images.remove("app")
    assert (target / "etc/new").read_bytes() == b"n"  # its layers stay while it is mounted
    with open(target / "etc/new"), pytest.raises(Conflict, match="in use"):
        lab.explorer.mounts.unmount(str(target))
    lab.explorer.mounts.unmount(str(target))
    assert not is_mount(target) and lab.explorer.mounts.list() == []
    assert image.layers[1] not in {facts.id for facts in lab.store.layers.all()}
    with pytest.raises(MountNotFound):
        lab.explorer.mounts.unmount(str(target))


def test_what_cannot_be_written_down_is_not_mounted(lab: Lab, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.image("app", BASE, TOP)
    mounted(lab, "app", target)
    lab.explorer.mounts.unmount(str(target))

    def full(path: str, data: bytes) -> None:
        raise DiskFull(f"no space left on the disk of {path}")

    monkeypatch.setattr(mounts, "write_file", full)
    with pytest.raises(DiskFull):
        lab.explorer.mounts.mount("app", str(target))
    assert not is_mount(target) and lab.explorer.mounts.list() == []


def test_one_layer_alone_is_mounted_by_its_id(lab: Lab, target: Path) -> None:
    image = lab.image("app", BASE, TOP)
    mounted(lab, image.layers[1].encoded[:12], target)
    assert sorted(os.listdir(target)) == ["etc"]
    lab.explorer.mounts.unmount(str(image.layers[1]))
    assert not is_mount(target)


def test_after_a_restart_what_is_mounted_is_known_and_what_is_not_is_forgotten(lab: Lab, target: Path, tmp_path: Path) -> None:
    lab.image("app", BASE, TOP)
    mounted(lab, "app", target)

    def again() -> Mounts:
        mounts = Mounts(f"{tmp_path}/mounts", lab.store.images, lab.store.layers, lab.store.leases, lab.workers)
        mounts.recover()
        return mounts

    lab.store.leases.unpin(f"mount:{target}")
    mounts = again()
    assert [each.target for each in mounts.list()] == [str(target)]
    lab.store.images.remove("app")
    lab.store.images.collect()
    assert (target / "etc/new").read_bytes() == b"n"
    mount.unmount(str(target))
    assert again().list() == []


def test_what_went_along_or_was_unmounted_by_others_is_forgotten_with_its_layers(lab: Lab, target: Path) -> None:
    image = lab.image("app", [directory("inside")], TOP)
    mounts = lab.explorer.mounts
    mounted(lab, "app", target)
    mounted(lab, "app", target / "inside")
    mounts.unmount(str(target), force=True)
    assert not is_mount(target / "inside") and mounts.list() == []
    mounted(lab, "app", target)
    lab.store.images.remove("app")
    mount.unmount(str(target))
    assert mounts.list() == []
    assert image.layers[1] not in {facts.id for facts in lab.store.layers.all()}
    lab.image("other", BASE)
    mounted(lab, "other", target)
    mount.unmount(str(target))
    assert [each.target for each in mounts.unmount(str(target))] == [str(target)]  # as it should be


def test_what_cannot_be_mounted_is_refused(lab: Lab, target: Path) -> None:
    lab.image("app", BASE)
    for reference, place, error in (
        ("nothing", str(target), ImageNotFound),
        ("app", str(target / "no"), InvalidArgument),
        ("app", "rel", InvalidArgument),
        ("nothing", "/", InvalidArgument),  # an unknown image, lest a failure of this test hides the host's files
        *(
            ("nothing", each, InvalidArgument)
            for each in ("/proc", "/proc/self", "/sys", "/sys/fs", "/dev", "/run", os.path.dirname(os.__file__))
        ),
        ("nothing", str(lab.store.root / "layers"), InvalidArgument),
        ("nothing", str(lab.store.root), InvalidArgument),
        ("nothing", str(lab.store.root.parent), InvalidArgument),
    ):
        with pytest.raises(error):
            lab.explorer.mounts.mount(reference, place)
    assert lab.explorer.mounts.list() == []


def test_a_mount_that_cannot_be_noted_is_undone(lab: Lab, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left", path)

    lab.image("app", BASE)
    monkeypatch.setattr("lamina.explore.mounts.write_file", full)
    with pytest.raises(OSError, match="no space left"):
        lab.explorer.mounts.mount("app", str(target))
    assert not is_mount(target)
