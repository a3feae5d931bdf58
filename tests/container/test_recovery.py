"""After a crash of the engine: what runs is adopted, what ended is noted, what was half done is finished or undone."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import NoReturn

import pytest

from lamina.container import sharing, store
from lamina.container.connecting import RECORD, Connections, networks_of
from lamina.container.lifecycle import LifeCycle
from lamina.container.store import RECORDS, REMOVING, ContainerStore
from lamina.network.model import Endpoint, Sandbox
from lamina.network.wiring import Wiring
from lamina.runtime.launch import Exit
from lamina.snapshot.protocol import LayerNotFound
from lamina.spec.digest import Digest
from tests.container.fakes import FakeNetworks, FakeProcess, World, world
from tests.harness import eventually

__all__ = ["world"]


def test_what_runs_is_adopted_and_its_exit_seen(world: World) -> None:
    process = world.run()
    world.runtime.found[world.containers.get("it").directory] = process
    after = world.again()
    after.containers.recover()
    assert after.containers.get("it").running
    with after.containers.wait("it") as waiter:
        process.end(9)
        result = waiter.result(60)
    assert result is not None
    assert result.status_code == 9
    assert after.actions() == ["die"]


def test_a_network_that_was_connected_and_not_noted_is_the_containers(world: World) -> None:
    world.runtime.found[world.containers.get("it").directory] = world.run()
    container = world.containers.get("it")
    on = tuple(Endpoint("e", "n", name, f"veth-{name}", "eth0", "", settings={"Aliases": [name]}) for name in ("bridge", "mine"))
    Connections(world.parts.networks).write(container, Sandbox(container.id, "it", on))
    for _ in range(2):
        world = world.again()
        world.containers.recover()
        assert networks_of(world.containers.get("it")) == {"bridge": {}, "mine": {"Aliases": ["mine"]}}


def test_what_was_begun_is_told_to_the_next_engine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Sandbox, str]] = []

    def restore(networks: FakeNetworks, box: Sandbox, begun: str, pid: int) -> Sandbox:
        told.append((box, begun))
        return box

    world.runtime.found[world.containers.get("it").directory] = world.run()
    container = world.containers.get("it")
    box = Sandbox(container.id, "it", (Endpoint("e", "n", "bridge", "veth0", "eth0", ""),))
    Connections(world.parts.networks).write(container, box, begun="veth0")
    monkeypatch.setattr(FakeNetworks, "restore", restore)
    world.again().containers.recover()
    assert told == [(box, "veth0")]


def test_an_exit_that_nobody_saw_is_noted_with_its_true_code(world: World) -> None:
    world.run()
    world.runtime.found[world.containers.get("it").directory] = Exit(42, 0, 5.0)
    after = world.again()
    after.containers.recover()
    state = after.containers.get("it").state
    assert (str(state.status), state.exit_code, state.finished_ns) == ("exited", 42, 5 * 10**9)
    assert [(event.action, event.attributes["exitCode"]) for event in after.events] == [("die", "42")]


def test_a_lost_monitor_is_said_instead_of_a_code_made_up(world: World) -> None:
    world.run()
    after = world.again()
    after.containers.recover()
    state = after.containers.get("it").state
    assert (str(state.status), state.exit_code) == ("exited", 255)
    assert "not known" in state.error


def test_a_start_that_was_not_noted_is_found(world: World) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    directory = world.containers.get(created.id).directory
    world.runtime.found[directory] = FakeProcess(77)
    after = world.again()
    after.containers.recover()
    assert after.containers.get("it").state.pid == 77


def test_a_run_that_ended_before_its_start_was_noted_is_told(world: World) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    world.runtime.found[world.containers.get(created.id).directory] = Exit(3, 0, 5.0)
    after = world.again()
    after.containers.recover()
    assert (str(after.containers.get("it").state.status), after.containers.get("it").state.exit_code) == ("exited", 3)


def test_what_is_removed_on_exit_is_removed_when_it_ended_unseen(world: World) -> None:
    world.run(host={"AutoRemove": True})
    directory = world.containers.get("it").directory
    world.runtime.found[directory] = Exit(0, 0, 5.0)
    after = world.again()
    after.containers.recover()
    assert after.containers.list(all=True) == []
    assert not os.path.exists(directory)


def test_unfinished_creates_and_removals_are_swept(world: World) -> None:
    kept = world.containers.create({"Image": "base"}, name="kept")
    half = world.containers.create({"Image": "base"}, name="half")
    for record in RECORDS:
        os.unlink(f"{world.parts.root}/{half.id}/{record}")
    gone = world.containers.create({"Image": "base"}, name="gone")
    os.rename(f"{world.parts.root}/{gone.id}", f"{world.parts.root}/{REMOVING}{gone.id}")
    after = world.again()
    after.containers.recover()
    assert [row["Id"] for row in after.containers.list(all=True)] == [kept.id]
    assert sorted(name for name in os.listdir(world.parts.root) if not name.startswith(".")) == [kept.id]
    assert after.containers.create({"Image": "base"}, name="half").id


def test_a_torn_state_is_said_and_the_container_stays(world: World) -> None:
    process = world.run()
    with world.containers.wait("it") as waiter:
        process.end(0)
        assert waiter.result(60) is not None
    created = world.containers.get("it")
    with open(f"{created.directory}/state.json", "w", encoding="utf-8") as file:
        file.write("{")
    after = world.again()
    after.containers.recover()
    assert "could not be read" in after.containers.get("it").state.error


def test_policies_start_what_they_say_when_the_engine_starts(world: World) -> None:
    for name, policy in (("always", "always"), ("unless", "unless-stopped"), ("no", "no")):
        world.run(name, host={"RestartPolicy": {"Name": policy}})
    world.containers.stop("unless")
    world.containers.stop("always")
    world.containers.stop("no")
    after = world.again()
    after.containers.recover()
    running = {row["Names"][0] for row in after.containers.list()}  # type: ignore[index]
    assert running == {"/always"}


def test_layers_of_containers_are_kept_from_the_start_on(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    after = world.again()
    after.containers.recover()
    assert world.images.image.id in after.leases.kept()
    after.containers.remove("it")
    assert world.images.image.id not in after.leases.kept()


def test_a_container_whose_layers_are_lost_does_not_keep_the_engine_from_starting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Digest.of(b"lost")
    world.images.image = replace(world.images.image, layers=(layer,))
    created = world.containers.create({"Image": "base"}, name="it")
    again = world.again()

    def lost(_: object) -> NoReturn:
        raise LayerNotFound(f"no such layer: {layer}")

    monkeypatch.setattr(again.images, "resolve", lost)
    monkeypatch.setattr(again.parts.layers, "chain", lost)
    again.containers.recover()
    assert again.leases.pinned(layer) == [f"container:{created.id}"]


def test_a_vanished_folder_is_no_container(world: World) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    shutil.rmtree(f"{world.parts.root}/{created.id}")
    assert world.again().containers.list(all=True) == []


def test_a_run_that_ended_before_its_start_was_noted_is_told_of_what_had_run_before(world: World) -> None:
    world.run(host={"RestartPolicy": {"Name": "unless-stopped"}})
    world.containers.stop("it")
    before = world.containers.get("it")
    world.runtime.found[before.directory] = Exit(3, 0, 5.0)
    after = world.again()
    after.runtime.failure = OSError("not now")
    after.containers.recover()
    # Nobody had stopped this run of it: its policy holds.
    assert (after.containers.get("it").state.error, after.containers.get("it").state.finished_ns) == ("not now", 5 * 10**9)


def test_an_end_that_was_noted_is_noted_once(world: World) -> None:
    process = world.run()
    with world.containers.wait("it") as waiter:
        process.end(4)
        assert waiter.result(10) is not None
    before = world.containers.get("it")
    for found in (Exit(4, 0, 1.0), Exit(137, 9, 0.0, error="its monitor was killed")):
        world.runtime.found[before.directory] = found
        after = world.again()
        after.containers.recover()
        assert after.containers.get("it").state == before.state
        assert after.actions() == []


def test_an_end_that_was_told_before_a_restart_is_not_told_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LifeCycle, "_wait_for_restart", lambda self, live: None)  # it is killed meanwhile
    process = world.run(host={"RestartPolicy": {"Name": "always"}})
    process.end(4)
    eventually(lambda: str(world.containers.get("it").state.status) == "restarting", "it is not restarted")
    before = world.containers.get("it")
    assert world.actions()[-1] == "die"
    world.runtime.found[before.directory] = Exit(4, 0, before.state.finished_ns / 1e9)
    after = world.again()
    after.containers.recover()
    assert "die" not in after.actions() and "start" in after.actions()


@pytest.mark.parametrize(("noted", "frozen"), [(True, True), (True, False), (False, True)])
def test_only_a_pause_that_was_noted_and_has_not_ended_goes_on(world: World, noted: bool, frozen: bool) -> None:
    process = world.run()
    if noted:
        world.containers.pause("it")
    process.frozen = frozen  # the engine was killed before it could note that
    world.runtime.found[world.containers.get("it").directory] = process
    after = world.again()
    after.containers.recover()
    assert str(after.containers.get("it").state.status) == ("paused" if noted and frozen else "running")
    assert process.frozen == (noted and frozen)


def test_a_commit_does_not_pause_for_longer_than_its_engine_lives(world: World) -> None:
    process = world.run()
    live = world.containers._roster.find("it")
    with world.containers._life.still(live):
        assert process.frozen and str(live.state.status) == "paused"
        world.runtime.found[live.container.directory] = process
        after = world.again()
        after.containers.recover()
        assert not process.frozen and after.containers.get("it").running


def test_what_was_started_again_without_a_note_is_nobodys_stopped_container(world: World) -> None:
    world.run(host={"RestartPolicy": {"Name": "always"}})
    world.containers.stop("it")
    world.runtime.found[world.containers.get("it").directory] = FakeProcess(77)
    after = world.again()
    after.containers.recover()
    state = after.containers.get("it").state
    assert (state.pid, state.exit_code, state.stopped_by_user) == (77, 0, False)


def test_one_container_that_cannot_be_settled_does_not_keep_the_engine_from_starting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        world.run(name, host={"AutoRemove": True})
        world.runtime.found[world.containers.get(name).directory] = Exit(0, 0, 5.0)
    after, one = world.again(), world.containers.get("one").id
    detach = ContainerStore.detach

    def refuse(store: ContainerStore, container_id: str) -> str:
        if container_id == one:
            raise OSError(5, "Input/output error")
        return detach(store, container_id)

    monkeypatch.setattr(ContainerStore, "detach", refuse)
    after.containers.recover()
    assert [row["Names"][0] for row in after.containers.list(all=True)] == ["/one"]


def test_a_full_disk_does_not_keep_containers_with_one_record_from_being_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    os.unlink(f"{world.parts.root}/{created.id}/{RECORDS[1]}")

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_file", full)
    assert world.again().containers.get("it").id == created.id


def test_a_change_of_the_record_that_was_not_finished_is_nowhere_after_the_next_start(world: World) -> None:
    folder = f"{world.parts.root}/{world.containers.create({'Image': 'base'}, name='it').id}"
    container = world.containers.get("it")
    store.write_file(f"{folder}/{RECORDS[1]}", store.encode_record(replace(container, base="f" * 64)))
    world.again()
    os.unlink(f"{folder}/{RECORDS[0]}")
    assert world.again().containers.get("it").base == ""


def test_what_an_unfinished_start_had_mounted_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    released: list[str] = []
    monkeypatch.setattr(sharing, "release", lambda container: released.append(container.id))
    world.again().containers.recover()
    assert released == [created.id]


@pytest.mark.parametrize("leaving", [False, True])
def test_of_a_run_that_ended_unseen_nothing_is_left_in_its_networks(world: World, monkeypatch: pytest.MonkeyPatch, leaving: bool) -> None:
    box = Sandbox("c" * 64, "owner", (Endpoint("e", "n", "bridge", "veth0", "eth0", ""),))
    monkeypatch.setattr(FakeNetworks, "join", lambda networks, member: (box, Wiring()))
    ended: list[tuple[str, bool]] = []
    monkeypatch.setattr(FakeNetworks, "ended", lambda networks, box, *, shared: ended.append((box.name, shared)))
    world.run("owner", host={"AutoRemove": leaving})
    guest = world.run("guest", host={"NetworkMode": "container:owner"})
    world.runtime.found[world.containers.get("guest").directory] = guest
    world.runtime.found[world.containers.get("owner").directory] = Exit(0, 0, 5.0)
    for _ in range(2):
        world.again().containers.recover()
    assert ended == [("owner", True)]
    assert len(world.again().containers.list(all=True)) == 2 - leaving


def test_of_a_run_whose_end_was_seen_the_next_engine_finds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Sandbox("c" * 64, "it", (Endpoint("e", "n", "bridge", "veth0", "eth0", ""),))
    monkeypatch.setattr(FakeNetworks, "join", lambda networks, member: (box, Wiring()))
    process = world.run()
    assert os.path.exists(f"{world.containers.get('it').directory}/{RECORD}")
    with world.containers.wait("it") as waiter:
        process.end()
        assert waiter.result(10) is not None
    assert not os.path.exists(f"{world.containers.get('it').directory}/{RECORD}")
