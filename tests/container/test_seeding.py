"""An empty volume takes what the image has at its target, once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lamina.container.files import _copy_all
from lamina.errors import Internal, LaminaError
from lamina.layer.clone import _Cloning, _Open
from lamina.worker import InlineWorkers
from tests.container.conftest import Box, House
from tests.container.fakes import World, world

__all__ = ["world"]
pytestmark = pytest.mark.root
Make = Callable[..., Box]


@pytest.fixture
def volume(house: House) -> Iterator[tuple[str, Path]]:
    """A new volume's name and folder; removed at the end."""
    made = house.engine.volumes.create("seeded")
    yield made.name, Path(made.mountpoint)
    for container in house.containers.list(all=True):
        house.containers.remove(container["Id"], force=True)
    house.engine.volumes.remove("seeded", force=True)


def test_an_empty_volume_takes_the_images_files_and_attributes(make: Make, volume: tuple[str, Path]) -> None:
    name, folder = volume
    make(Binds=[f"{name}:/stock"])
    assert (folder / "below/item").read_text() == "in stock"
    assert os.readlink(folder / "link") == "below/item"
    status = folder.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2770, 33, 34)


def test_links_devices_and_hard_links_are_kept(make: Make, volume: tuple[str, Path]) -> None:
    name, folder = volume
    make(Binds=[f"{name}:/folder"])
    assert (folder / "file").stat().st_ino == (folder / "twin").stat().st_ino
    assert (folder / "file").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (folder / "file").stat().st_mode & 0o7777 == 0o4751
    assert (folder / "fifo").is_fifo() and (folder / "null").is_char_device()
    assert os.getxattr(folder / "deep/big", "user.mark") == b"a\nb\xff\0c"


def test_a_volume_that_holds_something_stays_as_it_is(make: Make, volume: tuple[str, Path]) -> None:
    name, folder = volume
    (folder / "mine").write_text("mine")
    make(Binds=[f"{name}:/stock"])
    assert os.listdir(folder) == ["mine"]


def test_nocopy_and_a_target_that_the_image_lacks_leave_it_empty(make: Make, volume: tuple[str, Path]) -> None:
    name, folder = volume
    make(Binds=[f"{name}:/stock:nocopy"])
    make(Binds=[f"{name}:/not/in/the/image"])
    assert os.listdir(folder) == []


def test_a_bind_of_the_host_is_never_filled(make: Make, tmp_path: Path) -> None:
    make(Binds=[f"{tmp_path}:/stock"])
    assert os.listdir(tmp_path) == []


def test_a_target_behind_a_link_of_the_image_does_not_take_the_hosts_files(make: Make, volume: tuple[str, Path]) -> None:
    name, folder = volume
    make(Binds=[f"{name}:/out"])
    assert os.listdir(folder) == []


def test_volumes_below_each_other_take_each_their_part(make: Make, house: House, volume: tuple[str, Path]) -> None:
    name, folder = volume
    box = make(config={"Volumes": {"/stock/below": {}}}, Binds=[f"{name}:/stock"])
    inner = next(mount for mount in house.containers.get(box.id).mounts if mount.target == "/stock/below")
    assert (Path(inner.source) / "item").read_text() == "in stock"
    assert (folder / "link").is_symlink()


@pytest.mark.parametrize("moment", ["make", "_copy"])
def test_a_volume_that_somebody_else_writes_to_meanwhile_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another container may have the empty volume already: a directory of what is copied becomes a link, just made or half full."""
    host, source, target = tmp_path / "host", tmp_path / "source", tmp_path / "target"
    for each in (host, source / "folder", target):
        each.mkdir(parents=True)
    for number in range(5):
        (source / "folder" / f"{number}").write_text("of the image")
    does = getattr(_Cloning, moment)
    done: list[str] = []

    def exchanging(cloning: _Cloning, here: _Open, name: str, *rest: Any) -> Any:
        result = does(cloning, here, name, *rest)
        done.append(name)
        if len(done) == (1 if moment == "make" else 3):
            (target / "folder").rename(target / "away")
            (target / "folder").symlink_to(host)
        return result

    monkeypatch.setattr(_Cloning, moment, exchanging)
    folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(LaminaError):
            _copy_all(folder, str(target))
    finally:
        os.close(folder)
    assert (target / "folder").is_symlink() and os.listdir(host) == []
    assert len(os.listdir(target / "away")) == (0 if moment == "make" else 5)


def test_a_hard_link_is_not_made_to_what_lies_outside(tmp_path: Path) -> None:
    host, source, target = tmp_path / "host", tmp_path / "source", tmp_path / "target"
    for folder in (host, source / "a", source / "b", target):
        folder.mkdir(parents=True)
    (host / "shadow").write_text("of the host")
    (source / "a/shadow").write_text("of the image")
    (source / "b/shadow").hardlink_to(source / "a/shadow")
    copying = _Cloning(os.open(target, os.O_RDONLY | os.O_DIRECTORY))
    (target / "a").symlink_to(host)
    (target / "b").mkdir()
    here = _Open(os.open(source / "b", os.O_RDONLY), os.open(target / "b", os.O_RDONLY), "b/")
    with pytest.raises(OSError, match="symbolic links"):
        copying._link("a/shadow", here, "shadow")
    here.close()
    os.close(copying.top)
    assert os.listdir(target / "b") == []


def test_of_two_containers_that_are_made_at_once_one_fills_their_volume(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, filled = threading.Event(), threading.Event(), []

    def fill(workers: InlineWorkers, job: str, params: dict[str, Any], *rest: object) -> dict[str, Any]:
        begun.set()
        assert go.wait(10)
        filled.append(job)
        for folder in params["targets"].values():
            (Path(folder) / "stock").touch()
        return {}

    monkeypatch.setattr(InlineWorkers, "run", fill)
    made: list[object] = []

    def make() -> None:
        made.append(world.containers.create({"Image": "base"}, {"Binds": ["both:/stock"]}))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go.set()
    for thread in threads:
        thread.join()
    assert (len(made), len(filled)) == (2, 1)


def half_filled(world: World, monkeypatch: pytest.MonkeyPatch, *, used: bool, then: Callable[[Path], object]) -> Path:
    """The folder of a volume whose filling fails half way, after `then` was called with it; `used`: another container has it."""
    folder = Path(world.volumes.create("data").mountpoint)
    if used:
        world.containers.create({"Image": "base"}, {"Binds": ["data:/stock:nocopy"]})
    run = InlineWorkers.run

    def fill(workers: InlineWorkers, job: str, params: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if not job.endswith(":seed_job"):
            return run(workers, job, params, *rest)
        (folder / "half").mkdir()
        (folder / "a").touch()
        then(folder)
        raise Internal("a volume could not be filled: no space left on device")

    monkeypatch.setattr(InlineWorkers, "run", fill)
    with pytest.raises(Internal):
        world.containers.create({"Image": "base"}, {"Binds": ["data:/stock"]})
    return folder


@pytest.mark.parametrize("used", [False, True])
def test_a_volume_that_could_not_be_filled_is_empty_again_unless_another_uses_it(
    world: World, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    folder = half_filled(world, monkeypatch, used=used, then=os.listdir)
    assert sorted(os.listdir(folder)) == (["a", "half"] if used else [])
    assert sorted(os.listdir(folder.parent)) == ["_data", "volume.copy.json", "volume.json"]


@pytest.mark.parametrize("used", [False, True])
def test_a_volume_that_was_being_filled_when_the_engine_was_killed_is_empty_again(
    world: World, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    seen: list[list[str]] = []

    def killed(folder: Path) -> None:
        world.again().containers.recover()
        seen.append(sorted(os.listdir(folder)))

    half_filled(world, monkeypatch, used=used, then=killed)
    assert seen == [["a", "half"] if used else []]
