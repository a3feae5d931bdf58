"""`system check` of containers: what of their files is damaged is named, and made anew where it can be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lamina.apitypes.finding import Finding
from lamina.container.model import Container
from lamina.container.store import RECORDS, ContainerStore
from tests.container.conftest import Box, House
from tests.container.fakes import World, world

__all__ = ["world"]
pytestmark = pytest.mark.root

FILES = (*RECORDS, "state.json")


def checked(house: House, *, repair: bool = False) -> list[Finding]:
    return [*house.engine.volumes.check(repair=repair), *house.containers.check(repair=repair)]


def folder(box: Box) -> Path:
    return Path(box.containers.get(box.id).directory)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flipped, os.unlink, lambda path: os.truncate(path, 10)], ids=["a bit", "deleted", "cut"])
def test_a_document_that_is_damaged_is_written_again(
    house: House, make: Callable[..., Box], name: str, damage: Callable[[Path], object]
) -> None:
    box = make(True)
    house.containers.kill(box.id)
    assert checked(house) == []
    damage(folder(box) / name)
    assert [(finding.state, os.path.basename(finding.where)) for finding in checked(house)] == [("repairable", name)]
    assert [finding.state for finding in checked(house, repair=True)] == ["repaired"]
    assert checked(house) == []
    assert found(house, box) == house.containers.get(box.id)


def found(house: House, box: Box) -> Container:
    """As the next start reads it."""
    store = ContainerStore(str(folder(box).parent))
    return next(container for container in store.load() if container.id == box.id)


def test_running_containers_are_sound(house: House, make: Callable[..., Box]) -> None:
    box = make(True)
    house.containers.pause(box.id)
    house.containers.unpause(box.id)
    house.containers.rename(box.id, "another")
    house.containers.update(box.id, {"RestartPolicy": {"Name": "no"}})
    assert checked(house) == []


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("damage", [flipped, os.unlink], ids=["a bit", "deleted"])
def test_one_copy_of_a_record_is_enough_for_the_next_start(
    house: House, make: Callable[..., Box], name: str, damage: Callable[[Path], object]
) -> None:
    box = make()
    damage(folder(box) / name)
    assert found(house, box) == house.containers.get(box.id)
    checked(house, repair=True)


def test_containers_of_an_older_version_are_sound_after_a_start(house: House, make: Callable[..., Box]) -> None:
    box = make(True)
    house.containers.kill(box.id)
    for name in (RECORDS[0], "state.json"):
        document = json.loads((folder(box) / name).read_bytes())
        del document["sum"]
        (folder(box) / name).write_text(json.dumps(document))
    (folder(box) / RECORDS[1]).unlink()
    assert found(house, box) == house.containers.get(box.id)
    assert checked(house) == []


def test_a_container_whose_record_is_lost_keeps_what_it_wrote(house: House, make: Callable[..., Box], tmp_path: Path) -> None:
    box = make()
    place = tmp_path / "containers" / box.id
    place.mkdir(parents=True)
    for name in RECORDS:
        shutil.copy(folder(box) / name, place)
        flipped(place / name)
    store = ContainerStore(str(place.parent))
    assert (store.load(), store.leftovers(), store.unreadable()) == ([], [], [box.id])
    for name in RECORDS:
        (place / name).unlink()
    assert (store.leftovers(), store.unreadable()) == ([str(place)], [])


def test_folders_of_a_container_and_what_it_needs(house: House, make: Callable[..., Box]) -> None:
    box = make(Binds=["kept-here:/data"])
    shutil.rmtree(folder(box) / "work")
    assert [finding.state for finding in checked(house, repair=True)] == ["repaired"]
    shutil.rmtree(Path(house.engine.volumes.root) / "kept-here" / "_data")
    states = {finding.state for finding in checked(house, repair=True)}
    assert states == {"lost"}
    house.engine.volumes.create("kept-here")
    shutil.rmtree(folder(box) / "diff")
    (lost,) = checked(house, repair=True)
    assert "what it wrote is gone" in lost.line
    assert "lamina rm" in lost.line
    os.mkdir(folder(box) / "diff")


def test_the_init_layer_and_strays_are_mended(house: House) -> None:
    root = Path(house.engine.volumes.root).parent / "containers"
    shutil.copytree(root / ".init", root / ".init-for-some-images", symlinks=True)
    assert checked(house) == []
    for name in (".init", ".init-for-some-images"):
        (root / name / "etc/hosts").write_text("forged")
    (root / ("a" * 64) / "diff").mkdir(parents=True)
    (root / "deadbeef").mkdir()
    (root / "file").write_text("")
    wrong = ["containers/.init", "containers/.init-for-some-images", f"containers/{'a' * 64}", "containers/deadbeef", "containers/file"]
    assert sorted(finding.where for finding in checked(house)) == sorted(finding.where for finding in checked(house, repair=True)) == wrong
    assert checked(house) == []


def test_a_dangling_mount_is_named_and_unmounted(house: House, make: Callable[..., Box]) -> None:
    target = folder(make()) / "diff"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(target)], check=True)
    try:
        (finding,) = checked(house)
        assert (finding.what, finding.state) == ("mount", "repairable")
        assert [each.state for each in checked(house, repair=True)] == ["repaired"]
        assert not os.path.ismount(target)
    finally:
        if os.path.ismount(target):
            subprocess.run(["umount", str(target)], check=True)
    assert checked(house) == []


def test_the_mounts_of_a_capped_container_belong_to_it(house: House, make: Callable[..., Box]) -> None:
    box = make(True, StorageOpt={"size": "24M"})
    assert checked(house, repair=True) == []
    assert box.containers.get(box.id).running


def test_what_a_container_shares_of_its_memory_is_mounted_for_it_while_it_runs(house: House, make: Callable[..., Box]) -> None:
    box = make(True, IpcMode="shareable")
    assert checked(house, repair=True) == []
    assert os.path.ismount(folder(box) / "shm")
    house.containers.kill(box.id)
    house.containers.wait(box.id)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder(box) / "shm")], check=True)
    assert [finding.what for finding in checked(house, repair=True)] == ["mount"]
    assert not os.path.ismount(folder(box) / "shm")


KINDS = st.sampled_from(["bit", "cut", "delete", "swap", "stray"])
PLACES = st.lists(st.tuples(KINDS, st.integers(0, 1000), st.floats(0, 0.999)), min_size=1, max_size=4)


@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(damages=PLACES)
def test_random_damage_is_mended_or_named(house: House, make: Callable[..., Box], damages: list[tuple[str, int, float]]) -> None:
    box = make(Binds=["random:/data"])
    root = Path(house.engine.volumes.root).parent
    before = house.containers.get(box.id)
    files = [*(folder(box) / name for name in RECORDS), root / "volumes/random/volume.json"]
    for kind, which, at in damages:
        path = files[which % len(files)]
        if kind == "stray":
            (root / "volumes" / f"stray-{which}").mkdir(exist_ok=True)
        elif path.exists():
            damage(path, files[(which + 1) % len(files)], kind, at)
    checked(house, repair=True)
    assert [finding.line for finding in checked(house)] == []
    assert found(house, box) == before
    assert house.engine.volumes.get("random").name == "random"


def damage(path: Path, other: Path, kind: str, at: float) -> None:
    data = path.read_bytes()
    if kind == "delete":
        path.unlink()
    elif kind == "cut":
        os.truncate(path, int(at * len(data)))
    elif kind == "swap":
        path.write_bytes(other.read_bytes() if other.exists() else b"")
    elif data:
        position = int(at * len(data))
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])


def test_who_reads_the_findings_slowly_holds_no_container(world: World) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    live = world.containers._roster.find(created.id)
    for record in RECORDS:
        os.unlink(f"{live.container.directory}/{record}")
    findings = world.containers.check()
    assert next(findings).where.endswith(RECORDS[0])
    free: list[bool] = []
    thread = threading.Thread(target=lambda: free.append(live.lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert free == [True]
