"""Volumes on disk."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.apitypes.events import Event
from lamina.apitypes.filters import InvalidFilter
from lamina.volume.options import InvalidOptions
from lamina.volume.store import InvalidVolume, VolumeInUse, VolumeNotFound, Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(str(tmp_path / "volumes"), clock=itertools.count(10**18).__next__)


def test_a_volume_is_found_again_with_its_labels(volumes: Volumes, tmp_path: Path) -> None:
    made = volumes.create("data", labels={"k": "v"})
    assert os.path.isdir(made.mountpoint)
    assert Volumes(str(tmp_path / "volumes"), clock=lambda: 0).get("data") == made
    assert made.document()["Labels"] == {"k": "v"}


def test_creating_what_is_there_gives_it_back_as_it_is(tmp_path: Path) -> None:
    events: list[Event] = []
    volumes = Volumes(str(tmp_path), clock=lambda: 1, emit=events.append)
    first = volumes.create("data", labels={"k": "v"})
    assert volumes.create("data", labels={"other": "x"}) == first
    assert [event.action for event in events] == ["create"]


@pytest.mark.parametrize("name", ["a", "../x", "x/y", ".hidden", "x y", "\n"])
def test_names_that_could_lead_elsewhere_are_refused(volumes: Volumes, name: str) -> None:
    with pytest.raises(InvalidVolume):
        volumes.create(name)
    with pytest.raises(VolumeNotFound):
        volumes.get(name)


def test_a_name_is_as_long_as_a_files_can_be(volumes: Volumes) -> None:
    with pytest.raises(InvalidVolume, match="too long"):
        volumes.create("v" * 256)
    volumes.remove(volumes.create("v" * 255).name)


def test_an_option_that_the_kernel_would_take_only_the_beginning_of_is_refused(volumes: Volumes) -> None:
    with pytest.raises(InvalidOptions, match='option "o" must not hold a NUL'):
        volumes.create("data", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m\0,noexec"})
    assert volumes.list() == []


def test_a_volume_in_use_stays_and_is_named_with_its_users(volumes: Volumes) -> None:
    volumes.create("data")
    volumes.users = lambda name: ["abc"] if name == "data" else []
    with pytest.raises(VolumeInUse, match=r"volume is in use - \[abc\]"):
        volumes.remove("data", force=True)
    assert volumes.prune({"all": ["1"]})[0] == []


def test_prune_takes_anonymous_ones_and_with_all_named_ones(volumes: Volumes) -> None:
    named, anonymous = volumes.create("named"), volumes.create()
    (Path(anonymous.mountpoint) / "file").write_bytes(bytes(10000))
    removed, space = volumes.prune()
    assert list(removed) == [anonymous.name]
    assert space >= 10000
    assert list(volumes.prune({"all": ["true"]})[0]) == [named.name]


def test_prune_passes_over_what_is_used_or_removed_meanwhile(volumes: Volumes) -> None:
    for name in ("free", "gone", "used"):
        volumes.create(name)
    asked: list[str] = []

    def users(name: str) -> list[str]:
        """A container mounts the volume `used`, and somebody else removes `gone`, right after they were asked for."""
        asked.append(name)
        if name == "gone" and asked.count(name) == 1:
            volumes.remove(name)
            return []
        return ["abc"] if name == "used" and asked.count(name) > 1 else []

    volumes.users = users
    assert volumes.prune({"all": ["1"]})[0] == ["free"]
    assert [volume.name for volume in volumes.list()] == ["used"]


def test_filters_choose(volumes: Volumes) -> None:
    volumes.create("one", labels={"k": "v"})
    volumes.create("two")
    volumes.users = lambda name: ["x"] if name == "two" else []
    assert [volume.name for volume in volumes.list({"label": ["k=v"]})] == ["one"]
    assert [volume.name for volume in volumes.list({"dangling": ["true"]})] == ["one"]
    assert [volume.name for volume in volumes.list({"name": ["w"]})] == ["two"]
    assert [volume.name for volume in volumes.list({"name": ["^o.e$", "["]})] == ["one"]


def test_a_filter_that_is_none_is_refused_although_there_is_no_volume(volumes: Volumes) -> None:
    for wrong in ("color", "label!"):
        with pytest.raises(InvalidFilter, match=f"invalid filter '{wrong}'"):
            volumes.list({wrong: ["x"]})
    for wrong in ("color", "dangling", "driver", "name"):
        with pytest.raises(InvalidFilter, match=f"invalid filter '{wrong}'"):
            volumes.prune({wrong: ["x"]})


def test_removing_an_absent_one_is_an_error_unless_forced(volumes: Volumes) -> None:
    with pytest.raises(VolumeNotFound, match="no such volume"):
        volumes.remove("ghost")
    volumes.remove("ghost", force=True)


def test_an_unfinished_create_is_no_volume_and_can_be_finished(volumes: Volumes) -> None:
    os.makedirs(f"{volumes.root}/half")
    assert volumes.list() == []
    assert volumes.create("half").name == "half"


def test_of_a_volume_whose_making_was_interrupted_nothing_is_left(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes.remove(volumes.create().name)
    steps = 0
    for step in ("mkdir", "rename"):

        def killed(*args: object, **more: object) -> None:
            nonlocal steps
            steps += 1
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, step, killed)
            volumes.create()
        volumes.sweep()
        assert os.listdir(volumes.root) == []
    assert steps == 2
    volumes.create("again")
    assert volumes.get("again").name == "again"


def test_what_an_interrupted_removal_left_is_swept(volumes: Volumes) -> None:
    made = volumes.create("data")
    os.rename(os.path.dirname(made.mountpoint), f"{volumes.root}/.removing-x")
    volumes.sweep()
    assert os.listdir(volumes.root) == []


def test_a_half_filled_volume_that_lost_its_files_does_not_keep_the_others_from_being_settled(volumes: Volumes) -> None:
    for name in ("damaged", "half"):
        Path(volumes.create(name).mountpoint, "file").touch()
        Path(volumes.root, name, "filling").touch()
    shutil.rmtree(f"{volumes.root}/damaged/_data")
    volumes.settle()
    assert os.listdir(f"{volumes.root}/half/_data") == []
    assert not [name for name in ("damaged", "half") if os.path.exists(f"{volumes.root}/{name}/filling")]


def test_a_check_names_what_is_wrong_with_folders_and_mends_what_can_be(volumes: Volumes) -> None:
    for name in ("sound", "factless", "cut", "fileless", "used"):
        volumes.create(name, labels={"a": "b"})
    root = Path(volumes.root)
    (root / "sound/_data/file").write_text("kept")
    (root / "factless/volume.json").unlink()
    (root / "factless/volume.copy.json").unlink()
    (root / "cut/volume.json").write_text('{"version": 1, "crea')
    (root / "fileless/_data").rmdir()
    (root / "used/_data").rmdir()
    (root / ".strange").mkdir()
    (root / "file").write_text("no volume")
    volumes.users = lambda name: ["box"] if name == "used" else []
    said = {finding.where: finding.state for finding in volumes.check()}
    wrong = (
        "volumes/factless/volume.json",
        "volumes/factless/volume.copy.json",
        "volumes/cut/volume.json",
        "volumes/fileless",
        "volumes/.strange",
        "volumes/file",
    )
    assert said == {**dict.fromkeys(wrong, "repairable"), "volumes/used/_data": "lost"}
    assert {finding.where for finding in volumes.check(repair=True) if finding.state == "repaired"} == set(wrong)
    assert [finding.where for finding in volumes.check()] == ["volumes/used/_data"]
    assert [(volume.name, volume.labels) for volume in volumes.list()] == [("cut", {"a": "b"}), ("factless", {}), ("sound", {"a": "b"})]
    assert (root / "sound/_data/file").read_text() == "kept"
    volumes.create("used")
    assert list(volumes.check()) == []


def test_an_anonymous_volume_whose_facts_are_lost_stays_anonymous(volumes: Volumes) -> None:
    made = volumes.create()
    for record in ("volume.json", "volume.copy.json"):
        (Path(volumes.root) / made.name / record).unlink()
    list(volumes.check(repair=True))
    assert volumes.get(made.name).anonymous


def test_many_creators_of_one_name_get_one_volume(volumes: Volumes) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(volumes.create("data").mountpoint)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_nobody_waits_for_what_is_mounted_as_a_volume(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer holds up whoever asks for a file of it."""
    options = {"type": "nfs", "device": ":/x", "o": "addr=192.0.2.1"}
    made = volumes.create("data", options=options)
    asked: list[object] = []
    for name in ("stat", "lstat"):
        before = getattr(os, name)

        def noted(path: object, *rest: object, before: Callable[..., os.stat_result] = before, **named: object) -> os.stat_result:
            asked.append(path)
            return before(path, *rest, **named)

        monkeypatch.setattr(os, name, noted)
    assert (volumes.get("data"), volumes.create("data", options=options), list(volumes.list())) == (made, made, [made])
    assert made.mountpoint not in asked
