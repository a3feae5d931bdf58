"""Snapshots of what containers wrote, by every driver: taking them, going back, starting from one, and what a crash leaves."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lamina.container.containers import Containers
from lamina.container.live import Live
from lamina.container.model import ContainerNotFound, WrongState
from lamina.container.requests import CommitRequest
from lamina.container.snapshots import SnapshotNotFound, SnapshotTaken
from lamina.errors import Exhausted, InvalidArgument
from tests.container.conftest import IMAGE, Box, House
from tests.container.fakes import World, world
from tests.harness import eventually

__all__ = ["world"]
pytestmark = pytest.mark.root
KINDS = "MAD"


@pytest.fixture
def perform(make: Callable[..., Box]) -> Callable[..., Box]:
    """Makes a container that ran a shell script to its end."""

    def run(script: str, **options: Any) -> Box:
        box = make(config={"Cmd": ["sh", "-c", script]}, **options)
        again(box)
        return box

    return run


def again(box: Box) -> None:
    """Run a container to its end."""
    box.containers.start(box.id)
    with box.containers.wait(box.id) as waiter:
        result = waiter.result(60)
    assert result is not None and result.status_code == 0


def lost(containers: Containers) -> list[str]:
    """IDs of the snapshots that `system check` misses."""
    return [os.path.basename(each.where) for each in containers.check(repair=False) if "snapshot" in each.problem]


def changes(containers: Containers, ref: str) -> dict[str, str]:
    return {change.path: KINDS[change.kind] for change in containers.changes(ref)}


def text(box: Box, path: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(box.read(path))) as tar:
        member = tar.extractfile(os.path.basename(path))
        assert member is not None
        return member.read().decode()


COUNT = "echo $(($(cat /count 2>/dev/null || echo 0) + 1)) > /count; rm -rf /folder/deep; mkdir /folder/deep; touch /folder/deep/new"


def test_a_rollback_brings_back_what_a_snapshot_kept(perform: Callable[..., Box]) -> None:
    box = perform(COUNT)
    snapshots = box.containers.snapshots
    assert snapshots.create(box.id, "one").name == "one"
    before = changes(box.containers, box.id)
    assert before["/count"] == "A" and before["/folder/deep/new"] == "A"
    again(box)
    again(box)
    assert text(box, "/count") == "3\n"
    assert snapshots.create(box.id).name == "2"
    snapshots.rollback(box.id, "one")
    assert text(box, "/count") == "1\n"
    assert changes(box.containers, box.id) == before
    again(box)
    assert text(box, "/count") == "2\n"
    snapshots.rollback(box.id, "2")
    assert text(box, "/count") == "3\n"
    assert [each.name for each in snapshots.list(box.id)] == ["one", "2"]


def test_what_snapshots_hold_is_one_layer_when_it_is_committed(perform: Callable[..., Box], house: House) -> None:
    box = perform(COUNT)
    containers, snapshots = box.containers, box.containers.snapshots
    snapshots.create(box.id, "one")
    again(box)
    plain = perform(COUNT)
    again(plain)
    assert changes(containers, box.id) == changes(containers, plain.id)
    committed = containers.commit(box.id, CommitRequest())
    base = house.engine.images.resolve(IMAGE)
    assert len(committed.layers) == len(base.layers) + 1
    assert b"".join(house.engine.images.cat(str(committed.id), "/count")[1]) == b"2\n"
    assert [row.name for row in house.engine.images.ls(str(committed.id), "/folder/deep")] == ["new"]
    name = containers.get(box.id).name
    earlier = containers.commit(f"{name}@one", CommitRequest())
    assert b"".join(house.engine.images.cat(str(earlier.id), "/count")[1]) == b"1\n"


def test_a_container_starts_from_a_snapshot_and_outlives_the_other(perform: Callable[..., Box], make: Callable[..., Box]) -> None:
    box = perform(COUNT)
    containers = box.containers
    containers.snapshots.create(box.id, "one")
    again(box)
    branch = make(config={"Image": f"{containers.get(box.id).name}@one", "Cmd": ["sh", "-c", COUNT]})
    assert text(branch, "/count") == "1\n"
    directory = containers.snapshots.find(box.id, "one").diff
    containers.remove(box.id)
    again(branch)
    assert text(branch, "/count") == "2\n"
    containers.remove(branch.id)
    assert not os.path.exists(directory)
    with pytest.raises(InvalidArgument, match="no such container: gone, and 'one' is no digest of an image"):
        make(config={"Image": "gone@one"})


def test_the_snapshot_of_what_runs_is_an_exact_copy(make: Callable[..., Box]) -> None:
    script = (
        "echo text > /folder/file; ln /folder/file /folder/more; mkfifo /pipe; ln -s x /link; rm /folder/null; rm -rf /stock; mkdir /stock;"
        "truncate -s 8M /sparse; chown 5:6 /link -h; touch -d @1000000000 /pipe; touch /ready; sleep 1000"
    )
    box = make(True, config={"Cmd": ["sh", "-c", script]})
    upper = Path(box.containers.get(box.id).upper)
    eventually(lambda: (upper / "ready").exists(), "the script goes on")
    before = changes(box.containers, box.id)
    snapshot = box.containers.snapshots.create(box.id, "alive")
    assert not snapshot.moved
    assert box.containers.get(box.id).state.status == "running"
    assert listed(Path(snapshot.diff)) == listed(upper)
    os.unlink(upper / "link")
    assert os.path.islink(f"{snapshot.diff}/link")
    box.containers.kill(box.id)
    box.containers.snapshots.rollback(box.id, "alive")
    assert changes(box.containers, box.id) == before


def listed(top: Path) -> list[tuple[object, ...]]:
    """Everything below a directory, with all that is to be the same in a copy."""
    found: list[tuple[object, ...]] = []
    for here, folders, names in os.walk(top):
        for name in sorted(folders + names):
            path = Path(here, name)
            status = path.lstat()
            device = status.st_rdev if stat.S_IFMT(status.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else 0
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else os.readlink(path) if path.is_symlink() else ""
            facts = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, device, links, attributes, content)
            found.append((str(path.relative_to(top)), *facts))
    return sorted(found, key=lambda each: str(each[0]))


def test_names_are_checked_and_a_running_container_is_not_rolled_back(make: Callable[..., Box]) -> None:
    box = make(True)
    snapshots = box.containers.snapshots
    snapshots.create(box.id, "one")
    with pytest.raises(SnapshotTaken):
        snapshots.create(box.id, "one")
    for name in ("../x", "-x", "a b", ""[:0] + "x" * 200):
        with pytest.raises(InvalidArgument):
            snapshots.create(box.id, name)
    with pytest.raises(SnapshotNotFound):
        snapshots.rollback(box.id, "two") if not box.containers.kill(box.id) else None
    box.containers.start(box.id)
    with pytest.raises(WrongState, match="stop it first"):
        snapshots.rollback(box.id, "one")


def test_a_removed_snapshot_stays_on_the_disk_while_something_stands_on_it(perform: Callable[..., Box]) -> None:
    box = perform(COUNT)
    snapshots = box.containers.snapshots
    first = snapshots.create(box.id, "first")
    again(box)
    second = snapshots.create(box.id, "second")
    snapshots.remove(box.id, "first")
    assert [each.name for each in snapshots.list(box.id)] == ["second"]
    assert text(box, "/count") == "2\n"
    assert os.path.exists(first.diff) == second.moved
    box.containers.remove(box.id)
    assert not os.path.exists(first.diff) and not os.path.exists(second.diff)


def test_layers_and_differences_show_snapshots(perform: Callable[..., Box], house: House) -> None:
    box = perform(COUNT)
    explorer, name = house.engine.explorer, box.containers.get(box.id).name
    box.containers.snapshots.create(box.id, "one")
    again(box)
    box.containers.snapshots.create(box.id, "two")
    again(box)
    rows = explorer.layers(explorer.subject(name))
    told = [row.facts.instruction for row in rows][1:]
    steps = {step["Step"]: step for step in box.containers.inspect(box.id)["Lamina"]["StartSequence"]}
    if box.containers.get(box.id).driver != "native":
        assert [each["Name"] for each in steps["snapshots"]["Layers"]] == ["one", "two"]
        assert steps["writable layer"]["Parent"] == steps["snapshots"]["Layers"][1]["ID"]
        assert steps["snapshots"]["Layers"][0]["Parent"] == steps["init layer"]["ID"]
    stacked = [f"snapshot one of {name}", f"snapshot two of {name}", f"container {name}"]
    assert told == (stacked if house.engine.system.details()["driver"] != "native" else stacked[2:])
    for ref, other in ((f"{name}@one", f"{name}@two"), (f"{name}@two", name)):
        answer = explorer.diff(explorer.subject(ref), explorer.subject(other), "/count")
        assert b'"/count"' in answer.read()
    with pytest.raises(SnapshotNotFound):
        explorer.subject(f"{name}@three")


def wrote(world: World, data: str) -> None:
    Path(world.containers.get("it").upper, "file").write_text(data)


def seen(world: World) -> str:
    """What the container's file holds, through the snapshots it stands on."""
    container = world.containers.get("it")
    chain = [container.upper, *(each.diff for each in reversed(world.containers.snapshots.chain(container.base)))]
    return next((found.read_text() for top in chain if (found := Path(top, "file")).exists()), "")


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Do something in a child that is killed before its change number `step` to the file system; whether it came to its end before."""
    pid = os.fork()
    if pid == 0:
        steps = iter(range(1, step))

        def count(event: str, arguments: object) -> None:
            if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod") and next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_killed_at_any_step_of_a_snapshot_nothing_is_lost(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    step, done = 0, False
    while not done:
        step += 1
        wrote(world, "one")
        done = killed_at(step, partial(world.containers.snapshots.create, "it", "kept"))
        world = world.again()
        world.containers.recover()
        assert seen(world) == "one"
        taken = world.containers.snapshots.list("it")
        assert [each.name for each in taken] in ([], ["kept"])
        for each in taken:
            assert Path(each.diff, "file").read_text() == "one"
            world.containers.snapshots.remove("it", each.name)
        assert_nothing_left(world)
    assert step > 5


def test_killed_at_any_step_of_a_rollback_the_container_is_what_it_was_or_was_to_be(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    wrote(world, "one")
    world.containers.snapshots.create("it", "first")
    wrote(world, "two")
    world.containers.snapshots.create("it", "second")
    step, done = 0, False
    while not done:
        step += 1
        wrote(world, "three")
        done = killed_at(step, partial(world.containers.snapshots.rollback, "it", "first"))
        world = world.again()
        world.containers.recover()
        assert seen(world) == "one" if done else seen(world) in ("one", "three")
        assert [each.name for each in world.containers.snapshots.list("it")] == ["first", "second"]
        assert_nothing_left(world)
        world.containers.snapshots.rollback("it", "second")
    assert step > 4


def assert_nothing_left(world: World) -> None:
    here = os.listdir(world.containers.get("it").directory)
    assert "diff" in here and not [name for name in here if name.startswith(("left-", "fresh"))]
    folder = Path(world.parts.root, ".snapshots")
    assert not [found.name for found in (folder.iterdir() if folder.exists() else ()) if found.name.startswith(".")]


def test_snapshots_of_removed_containers_are_swept_at_the_next_start(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    world.containers.snapshots.create("it", "first")
    shutil.rmtree(world.containers.get("it").directory)
    after = world.again()
    after.containers.recover()
    assert os.listdir(f"{after.parts.root}/.snapshots") == []


def test_a_lost_snapshot_keeps_neither_the_engine_nor_other_containers_from_starting(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    for name in ("low", "middle"):
        world.containers.snapshots.create("it", name)
    low, middle = world.containers.snapshots.list("it")
    world.containers.snapshots.remove("it", "low")
    shutil.rmtree(os.path.dirname(middle.diff))
    after = world.again()
    after.containers.recover()
    assert after.containers.get("it").base == middle.id
    assert os.path.isdir(low.diff)
    assert after.containers.inspect("it")["GraphDriver"]["Data"]["LowerDir"].count("/diff") == 0
    assert lost(after.containers) == [middle.id]
    after.run("other")
    after.containers.remove("it")
    assert os.listdir(f"{after.parts.root}/.snapshots") == []


def test_a_check_names_the_snapshots_that_are_gone(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    for name in ("low", "middle", "high"):
        world.containers.snapshots.create("it", name)
    low, middle, _ = world.containers.snapshots.list("it")
    assert lost(world.containers) == []
    shutil.rmtree(low.diff)
    shutil.rmtree(os.path.dirname(middle.diff))
    assert lost(world.containers) == sorted((low.id, middle.id))
    after = world.again()
    after.containers.recover()
    assert lost(after.containers) == sorted((low.id, middle.id))


def test_a_record_that_is_damaged_is_told_and_made_anew_from_its_copy(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    kept = world.containers.snapshots.create("it", "kept")
    world.containers.snapshots.create("it", "second")
    folder = Path(os.path.dirname(kept.diff))
    records = [folder / name for name in ("snapshot.json", "snapshot.copy.json")]
    for record in records:
        data = record.read_bytes()
        record.write_bytes(data.replace(b'"kept"', b'"Kept"'))
        assert [each.what for each in world.containers.check(repair=False) if each.where.endswith(kept.id)] == ["snapshot kept"]
        world = world.again()
        world.containers.recover()
        assert [each.name for each in world.containers.snapshots.list("it")] == ["kept", "second"] and record.read_bytes() == data
        record.unlink()
        list(world.containers.check(repair=True))
        assert record.read_bytes() == data
    for record in records:
        record.write_bytes(b"{")
    world = world.again()
    world.containers.recover()
    assert lost(world.containers) == [kept.id]
    world.containers.remove("it")
    assert [(each.what, each.state) for each in world.containers.check(repair=True) if each.where.endswith(kept.id)] == [
        (f"snapshot {kept.id[:12]}", "lost")
    ]


def test_a_container_that_is_removed_while_it_is_inspected_is_not_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = world.containers.create({"Image": "base"}, name="it").id
    world.containers.snapshots.create("it", "first")
    find, asked = world.containers._roster.find, list[str]()

    def found(ref: str) -> Live:
        """The last moment at which it is there."""
        asked.append(ref)
        live = find(ref)
        if len(asked) == 1:
            monkeypatch.undo()
            world.containers.remove(identity)
        return live

    monkeypatch.setattr(world.containers._roster, "find", found)
    with pytest.raises(ContainerNotFound):
        world.containers.inspect("it")


def test_a_container_starts_on_as_many_snapshots_as_it_may_stand_on(perform: Callable[..., Box]) -> None:
    box = perform("echo 1 > /count")
    if box.containers.get(box.id).driver == "native":
        pytest.skip("nothing is stacked")
    for _ in range(200):
        box.containers.snapshots.create(box.id)
    with pytest.raises(Exhausted, match="stands on 200 snapshots already"):
        box.containers.snapshots.create(box.id)
    again(box)
    assert text(box, "/count") == "1\n"
    assert changes(box.containers, box.id) == {"/count": "A"}
    box.containers.snapshots.rollback(box.id, "3")
    assert box.containers.snapshots.create(box.id, "more").name == "more"
