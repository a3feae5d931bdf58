"""Life cycles: states, events, waiters, names, failures."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lamina.container import execs, lifecycle, sharing
from lamina.container.containers import Containers
from lamina.container.execs import ExecNotFound
from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.making import OtherPlatform
from lamina.container.model import TRANSITIONS, AlreadyThere, AmbiguousContainer, Container, ContainerNotFound, NameTaken, State, WrongState
from lamina.container.requests import AttachRequest, CommitRequest, WaitResult
from lamina.container.restarting import next_backoff
from lamina.container.snapshots import Snapshot, SnapshotNotFound
from lamina.container.store import ContainerStore
from lamina.container.updating import CannotUpdate
from lamina.container.waiters import RegisteredWaiter, Waiters
from lamina.errors import Internal, InvalidArgument, Unavailable
from lamina.image.lookup import PlatformNotHere
from lamina.image.model import Image, ImageNotFound
from lamina.linux.crew import Crew
from lamina.linux.diskusage import bytes_on_disk
from lamina.network.model import Endpoint, Sandbox
from lamina.network.wiring import Member, Wiring
from lamina.runtime.launch import CommandNotExecutable, CommandNotFound, MountMismatch, RuntimeFailed
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.volume.store import VolumeInUse
from tests.container.fakes import FakeLayers, FakeNetworks, World, world
from tests.harness import eventually

__all__ = ["world"]


def status(world: World, ref: str = "it") -> str:
    return str(world.containers.get(ref).state.status)


def test_every_state_can_be_left_and_reached() -> None:
    reached = {after for befores in TRANSITIONS.values() for after in befores}
    assert reached | {State.CREATED} == set(State)
    assert set(TRANSITIONS) == set(State)


def test_a_run_goes_through_dockers_events(world: World) -> None:
    process = world.run(Labels={"own": "1"})
    with world.containers.wait("it") as waiter:
        process.end(3)
        result = waiter.result(60)
    assert result is not None
    assert (result.status_code, status(world)) == (3, "exited")
    world.containers.remove("it")
    assert world.actions() == ["create", "start", "die", "destroy"]
    attributes = world.events[2].attributes
    assert (attributes["exitCode"], attributes["image"], attributes["name"]) == ("3", "base", "it")
    assert (attributes["own"], attributes["from"]) == ("1", "image")


def test_an_unknown_image_makes_nothing(world: World) -> None:
    with pytest.raises(ImageNotFound):
        world.containers.create({"Image": "ghost"})
    assert [name for name in os.listdir(world.parts.root) if not name.startswith(".")] == []


def test_of_several_platforms_a_container_has_the_one_that_is_asked_for(world: World) -> None:
    base, platform = world.images.image, world.parts.platform
    other = "s390x" if platform.architecture != "s390x" else "arm64"
    config = msgspec.structs.replace(base.config, architecture=other)
    world.images.others = [replace(base, id=Digest.of(b"other"), config=config)]
    made = world.containers.create({"Image": "base"}, name="it", platform=f"linux/{other}")
    assert world.containers.get(made.id).image == str(Digest.of(b"other"))
    assert made.warnings == ()
    with pytest.raises(OtherPlatform, match="does not match the specified platform"):
        world.containers.create({"Image": "base"}, platform="linux/riscv64")


def test_an_image_of_another_variant_that_only_its_index_tells_is_not_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = world.images.resolve

    def resolve(text: str, platform: Platform | None = None) -> Image:
        if platform is not None:
            raise PlatformNotHere("here for another variant")
        return found(text)

    monkeypatch.setattr(world.images, "resolve", resolve)
    with pytest.raises(OtherPlatform, match="does not match the specified platform"):
        world.containers.create({"Image": "base"}, platform=f"linux/{world.images.image.config.architecture}/v6")


def test_an_image_removed_between_look_up_and_pin_makes_no_container(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    images, pin = world.images, world.leases.pin

    def pin_too_late(owner: str, digests: Iterable[Digest]) -> None:
        pin(owner, digests)
        monkeypatch.setattr(images, "resolve", lambda text: _gone(text))

    monkeypatch.setattr(world.leases, "pin", pin_too_late)
    with pytest.raises(ImageNotFound):
        world.containers.create({"Image": "base"}, name="it")
    assert world.leases.kept() == set()
    assert [name for name in os.listdir(world.parts.root) if not name.startswith(".")] == []


def _gone(text: str) -> Image:
    raise ImageNotFound(f"no such image: {text}")


def test_a_taken_name_is_refused_in_dockers_words_and_leaves_nothing(world: World) -> None:
    first = world.containers.create({"Image": "base"}, name="twin")
    with pytest.raises(NameTaken, match=rf'Conflict. The container name "/twin" is already in use by container "{first.id}".'):
        world.containers.create({"Image": "base"}, name="/twin")
    assert len(world.containers.list(all=True)) == 1
    assert [name for name in os.listdir(world.parts.root) if not name.startswith(".")] == [first.id]


def test_names_ids_and_prefixes_find_a_container(world: World) -> None:
    first, second = (world.containers.create({"Image": "base"}) for _ in range(2))
    assert world.containers.get(first.id).name != world.containers.get(second.id).name
    assert world.containers.get(world.containers.get(second.id).name).id == second.id
    with pytest.raises(AmbiguousContainer):
        world.containers.get(first.id[:4])
    with pytest.raises(ContainerNotFound, match="No such container: nobody"):
        world.containers.get("nobody")


@pytest.mark.parametrize("name", ["a", "-x", "x y", "über", "x/y", ""])
def test_names_that_docker_does_not_allow_are_refused(world: World, name: str) -> None:
    if name == "":
        assert world.containers.create({"Image": "base"}, name=name).id
        return
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        world.containers.create({"Image": "base"}, name=name)


def test_a_container_that_runs_is_not_started_nor_removed(world: World) -> None:
    world.run()
    with pytest.raises(AlreadyThere):
        world.containers.start("it")
    with pytest.raises(
        WrongState, match=r'cannot remove container "/\w+": container is running: stop the container before removing or force remove'
    ):
        world.containers.remove("it")
    assert status(world) == "running"


@pytest.mark.parametrize("action", ["remove", "start"])
def test_what_has_ended_may_be_removed_or_started_before_that_is_told(world: World, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """As by a client that read the output to its end."""
    process = world.run()
    monkeypatch.setattr(type(process), "ended", True)
    threading.Timer(0.05, process.end, (0,)).start()
    getattr(world.containers, action)("it")
    assert world.actions() == ["create", "start", "die", "destroy" if action == "remove" else "start"]


def test_forced_removal_kills_first(world: World) -> None:
    process = world.run()
    directory = world.containers.get("it").directory
    world.containers.remove("it", force=True)
    assert process.signals == [9]
    assert world.actions() == ["create", "start", "kill", "die", "destroy"]
    assert not os.path.exists(directory)
    with pytest.raises(ContainerNotFound):
        world.containers.get("it")


def test_forced_removal_of_what_ends_at_that_moment_waits_for_its_exit(world: World) -> None:
    process = world.run()
    from lamina.runtime.process import ProcessGone

    def gone(number: int) -> None:
        threading.Timer(0.05, process.end, (0,)).start()
        raise ProcessGone("process has ended")

    process.signal = gone  # type: ignore[method-assign]
    world.containers.remove("it", force=True)
    assert world.actions() == ["create", "start", "die", "destroy"]


def test_stop_asks_first_and_kills_after_the_grace(world: World) -> None:
    world.runtime.ignored = (15,)
    process = world.run()
    world.containers.stop("it", timeout=0)
    assert process.signals == [15, 9]
    assert world.containers.get("it").state.exit_code == 137
    assert world.actions() == ["create", "start", "kill", "kill", "die", "stop"]
    with pytest.raises(AlreadyThere):
        world.containers.stop("it")


def test_stop_uses_the_containers_own_signal_and_grace(world: World) -> None:
    process = world.run(StopSignal="SIGUSR1", StopTimeout=60)
    world.containers.stop("it")
    assert process.signals == [10]


def test_a_container_whose_image_names_no_signal_that_there_is_can_be_stopped_and_killed(world: World) -> None:
    world.images.configure(stop_signal="99")
    process = world.run()
    world.containers.stop("it")
    world.containers.start("it")
    world.containers.kill("it")
    assert (process.signals, world.runtime.processes[-1].signals) == ([9], [9])


def test_a_grace_longer_than_can_be_waited_for_has_no_end(world: World) -> None:
    world.runtime.ignored = (15,)
    process = world.run()
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(world.containers.stop, "it", timeout=10**12)
        eventually(lambda: process.signals == [15])
        process.end(0)
        stopping.result(60)
    assert process.signals == [15]


def test_killing_what_does_not_run_is_a_conflict(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    with pytest.raises(WrongState, match="is not running"):
        world.containers.kill("it")
    with pytest.raises(InvalidArgument, match="invalid signal: SIGFOO"):
        world.containers.kill("it", signal="SIGFOO")


def test_restart_stops_and_starts_in_dockers_order(world: World) -> None:
    world.run()
    world.containers.restart("it")
    assert status(world) == "running"
    assert world.actions() == ["create", "start", "kill", "die", "stop", "start", "restart"]


def test_restart_keeps_a_container_that_is_removed_when_it_exits(world: World) -> None:
    world.run(host={"AutoRemove": True})
    world.containers.restart("it")
    assert status(world) == "running"


def test_auto_removal_tells_the_exit_code_to_who_waits_for_it(world: World) -> None:
    process = world.run(host={"AutoRemove": True})
    with world.containers.wait("it", "removed") as removed, world.containers.wait("it", "next-exit") as ended:
        process.end(7)
        results = [waiter.result(60) for waiter in (removed, ended)]
    assert [result.status_code if result else None for result in results] == [7, 7]
    eventually(lambda: world.containers.list(all=True) == [])
    assert world.actions() == ["create", "start", "die", "destroy"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandNotFound("x: executable file not found in $PATH"), 127),
        (CommandNotExecutable("permission denied"), 126),
        (MountMismatch("not a directory"), 127),
        (RuntimeFailed("x"), 128),
    ],
)
def test_a_failed_start_leaves_it_created_with_dockers_exit_code(world: World, error: Exception, code: int) -> None:
    world.runtime.failure = error  # type: ignore[assignment]
    world.containers.create({"Image": "base"}, name="it")
    with pytest.raises(type(error)):
        world.containers.start("it")
    state = world.containers.get("it").state
    assert (str(state.status), state.exit_code) == ("created", code)
    world.runtime.failure = None
    world.containers.start("it")
    assert (status(world), world.containers.get("it").state.exit_code) == ("running", 0)


def test_a_start_that_the_system_refuses_leaves_it_created_with_the_reason(world: World) -> None:
    world.runtime.failure = OSError(28, "No space left on device")
    world.containers.create({"Image": "base"}, {"AutoRemove": True}, name="goes")
    with pytest.raises(OSError, match="No space left"):
        world.containers.start("goes")
    world.containers.create({"Image": "base", "Labels": {}}, {"RestartPolicy": {"Name": "always"}}, name="it")
    with pytest.raises(OSError, match="No space left"):
        world.containers.start("it")
    state = world.containers.get("it").state
    assert (str(state.status), state.exit_code, state.error) == ("created", 128, "No space left on device")
    assert [row["Names"] for row in world.containers.list(all=True)] == [["/it"]]
    world.runtime.failure = None
    process = world.run("ran")
    process.end(3)
    eventually(lambda: status(world, "ran") == "exited")
    world.runtime.failure = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        world.containers.start("ran")
    state = world.containers.get("ran").state
    assert (str(state.status), state.exit_code, state.error) == ("exited", 3, "No space left on device")


def test_a_restart_that_the_system_refuses_is_the_end_of_the_run(world: World) -> None:
    process = world.run(host={"RestartPolicy": {"Name": "always"}})
    world.runtime.failure = OSError(28, "No space left on device")
    with world.containers.wait("it", "next-exit") as waiter:
        process.end(1)
        assert waiter.result(60) is not None
    eventually(lambda: status(world) == "exited")
    assert world.containers.get("it").state.error == "No space left on device"


def test_what_waits_for_its_next_restart_waits_no_more_when_a_start_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "next_backoff", lambda last: 1000.0)
    world.run(host={"RestartPolicy": {"Name": "always"}}).end(1)
    eventually(lambda: status(world) == "restarting")
    world.runtime.failure = OSError(28, "No space left on device")
    with world.containers.wait("it") as waiter:
        with pytest.raises(OSError, match="No space left"):
            world.containers.start("it")
        assert waiter.result(60) is not None
    assert status(world) == "exited"
    assert world.again().containers.get("it").state.status is State.EXITED


def test_a_policy_whose_start_the_system_refuses_does_not_keep_the_engine_from_starting(world: World) -> None:
    world.run(host={"RestartPolicy": {"Name": "always"}}).end(0)
    again = world.again()
    again.runtime.failure = OSError(28, "No space left on device")
    again.containers.recover()
    assert again.containers.get("it").state.error == "No space left on device"


def test_a_failed_start_removes_what_is_to_be_removed_on_exit(world: World) -> None:
    world.runtime.failure = CommandNotFound("x")
    world.containers.create({"Image": "base"}, {"AutoRemove": True}, name="it")
    with world.containers.wait("it", "removed") as waiter:
        with pytest.raises(CommandNotFound):
            world.containers.start("it")
        result = waiter.result(60)
    assert result is not None
    assert result.status_code == 127
    assert world.containers.list(all=True) == []


def test_pause_freezes_and_stop_thaws(world: World) -> None:
    process = world.run()
    world.containers.pause("it")
    assert (process.frozen, status(world)) == (True, "paused")
    with pytest.raises(WrongState, match="already paused"):
        world.containers.pause("it")
    with pytest.raises(WrongState, match="cannot start a paused container"):
        world.containers.start("it")
    world.containers.unpause("it")
    assert (process.frozen, status(world)) == (False, "running")
    world.containers.pause("it")
    world.containers.stop("it")
    assert not process.frozen
    assert status(world) == "exited"


def test_rename_moves_the_name_and_survives(world: World) -> None:
    world.containers.create({"Image": "base"}, name="old")
    world.containers.create({"Image": "base"}, name="other")
    world.containers.rename("old", "new")
    with pytest.raises(NameTaken):
        world.containers.rename("new", "other")
    with pytest.raises(ContainerNotFound):
        world.containers.get("old")
    assert world.again().containers.get("new").name == "new"


def test_an_attachment_before_start_is_handed_over_with_the_launch(world: World) -> None:
    mine, theirs = os.pipe()
    world.containers.create({"Image": "base", "OpenStdin": True}, name="it")
    accepted: list[bool] = []
    world.containers.attach("it", AttachRequest(theirs, stdin=True, pending=b"early", accept=lambda: accepted.append(True)))
    os.close(theirs)
    world.containers.resize("it", 24, 80)
    world.containers.start("it")
    (attach,) = world.runtime.handed[0]
    assert (attach.stdin, attach.pending, attach.framed, accepted) == (True, b"early", True, [True])
    assert world.runtime.processes[0].sizes == [(24, 80)]
    assert os.read(mine, 1) == b"", "every copy of ours was closed"
    os.close(mine)


def test_who_attaches_to_what_runs_and_is_slow_to_read_holds_nobody_up(world: World) -> None:
    process = world.run()

    def accept() -> None:
        """Returns when the client has read the head of the answer; meanwhile others go on."""
        other = threading.Thread(target=world.containers.pause, args=("it",), daemon=True)
        other.start()
        other.join(60)
        assert not other.is_alive() and process.attached == []

    mine, theirs = socket.socketpair()
    with mine, theirs:
        world.containers.attach("it", AttachRequest(theirs.fileno(), accept=accept))
    assert status(world) == "paused" and len(process.attached) == 1


def test_who_goes_while_waiting_for_a_start_leaves_nothing_open(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        mine, theirs = socket.socketpair()
        with mine, theirs:
            world.containers.attach("it", AttachRequest(theirs.fileno()))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.shutdown(socket.SHUT_WR)
        for _ in range(2):
            world.containers.attach("it", AttachRequest(theirs.fileno()))
        world.containers.start("it")
        assert len(world.runtime.handed[0]) == 2


def test_an_attachment_that_waits_ends_with_the_container(world: World) -> None:
    mine, theirs = os.pipe()
    world.containers.create({"Image": "base"}, name="it")
    world.containers.attach("it", AttachRequest(theirs))
    os.close(theirs)
    world.containers.remove("it")
    assert os.read(mine, 1) == b""
    os.close(mine)


def test_a_restart_policy_starts_it_again_until_it_is_stopped(world: World) -> None:
    world.run(host={"RestartPolicy": {"Name": "always"}}).end(1)
    eventually(lambda: len(world.runtime.processes) == 2 and status(world) == "running")
    assert world.containers.get("it").state.restart_count == 1
    world.containers.stop("it")
    assert status(world) == "exited"
    assert len(world.runtime.processes) == 2


def test_ends_are_noted_though_there_is_no_room_for_a_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    process = world.run()
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"]})
    world.containers.exec_start(exec_id)

    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        patch.setattr("lamina.container.aside._crew", Crew("aside"))  # none that is kept
        world.runtime.processes[-1].end(3)
        process.out_of_memory()
        process.end(4)
    assert world.containers.exec_inspect(exec_id)["ExitCode"] == 3
    state = world.containers.get("it").state
    assert (str(state.status), state.exit_code, state.oom_killed) == ("exited", 4, True)


def test_who_leaves_a_container_or_an_exec_by_the_detach_keys_is_an_event(world: World) -> None:
    process = world.run()
    process.detached()
    exec_id = world.containers.exec_create("it", {"Cmd": ["sh"]})
    world.containers.exec_start(exec_id)
    world.runtime.processes[-1].detached()
    assert [action for action in world.actions() if action.endswith("detach")] == ["detach", "exec_detach"]
    assert world.events[-1].attributes["execID"] == exec_id


def test_on_failure_gives_up_after_its_limit(world: World) -> None:
    world.run(host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}}).end(1)
    eventually(lambda: len(world.runtime.processes) == 2)
    with world.containers.wait("it") as waiter:
        world.runtime.processes[1].end(4)
        result = waiter.result(60)
    assert result is not None
    assert (result.status_code, status(world)) == (4, "exited")


def test_between_two_runs_there_is_no_moment_at_which_it_has_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    become = Live.become

    def noted(live: Live, state: State, **changes: Any) -> None:
        become(live, state, **changes)
        seen.append((str(live.state.status), live.state.restart_count, live.state.exit_code))

    monkeypatch.setattr(Live, "become", noted)
    world.run(host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}})
    for run in range(3):
        eventually(lambda run=run: len(world.runtime.processes) == run + 1)  # type: ignore[misc]
        world.runtime.processes[run].end(1)
    eventually(lambda: status(world) == "exited")
    assert [each for each in seen if each[0] != "running"] == [("restarting", 1, 1), ("restarting", 2, 1), ("exited", 2, 1)]


def test_who_is_told_that_it_has_ended_finds_its_networks_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    process = world.run()
    connections = world.containers._life._launcher.connections
    left, begun, go = [], threading.Event(), threading.Event()
    leave = connections.leave

    def slowly(container: Container, *, shared: bool) -> None:
        begun.set()
        assert go.wait(60)
        leave(container, shared=shared)
        left.append(container.id)

    monkeypatch.setattr(connections, "leave", slowly)
    process.end(0)
    assert begun.wait(60)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: (world.containers.inspect("it")["State"]["Status"], list(left)))
        eventually(lambda: threads._work_queue.empty())
        go.set()
        assert asked.result(60) == ("exited", [world.containers.get("it").id])


def test_back_off_doubles_up_to_a_minute() -> None:
    waits = [0.0]
    for _ in range(12):
        waits.append(next_backoff(waits[-1]))
    assert waits[1:4] == [0.1, 0.2, 0.4]
    assert waits[-1] == 60.0


@pytest.mark.parametrize(("seconds", "then"), [(9.0, 0.01), (11.0, 0.0)])
def test_the_back_off_begins_anew_after_a_long_run_by_a_clock_that_nobody_sets(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: float, then: float
) -> None:
    """By the clock that tells the time of day these runs end before they begin."""
    lasts = list[float]()

    def waits(last: float) -> float:
        lasts.append(last)
        return 0.01

    monkeypatch.setattr(lifecycle, "next_backoff", waits)
    world.containers = Containers(replace(world.parts, monotonic=itertools.count(0.0, seconds).__next__))
    world.run(host={"RestartPolicy": {"Name": "always"}}).end(1)
    eventually(lambda: len(world.runtime.processes) == 2)
    world.runtime.processes[-1].end(1)
    eventually(lambda: len(world.runtime.processes) == 3)
    assert lasts == [0.0, then]


def test_anonymous_volumes_go_with_the_container_and_named_ones_stay(world: World) -> None:
    world.images.configure(volumes={"/data": {}})
    world.containers.create({"Image": "base"}, {"Binds": ["named:/n"]}, name="it")
    mounts = {mount.target: mount for mount in world.containers.get("it").mounts}
    assert sorted(mounts) == ["/data", "/n"]
    assert len(world.volumes.list()) == 2
    with pytest.raises(VolumeInUse):
        world.volumes.remove("named")
    world.containers.remove("it", volumes=True)
    assert [volume.name for volume in world.volumes.list()] == ["named"]
    world.volumes.remove("named")


def test_a_create_that_fails_takes_its_anonymous_volumes_back(world: World) -> None:
    world.images.configure(volumes={"/a": {}})
    with pytest.raises(InvalidArgument, match="volume name is too short"):
        world.containers.create({"Image": "base"}, {"Binds": ["x:/b"]}, name="it")
    assert world.volumes.list() == []
    assert world.containers.create({"Image": "base"}, name="it").id


def test_volumes_from_shares_what_goes_with_the_last_that_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.containers.create({"Image": "base", "Volumes": {"/data": {}}}, {"Binds": ["named:/named"]}, name="first")
    world.containers.create({"Image": "base"}, {"VolumesFrom": ["first:ro"]}, name="second")
    theirs, ours = (world.containers.get(name).mounts for name in ("first", "second"))
    assert [mount.source for mount in ours] == [mount.source for mount in theirs] and all(mount.read_only for mount in ours)
    world.containers.remove("first", volumes=True)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(ContainerStore, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
        world.containers.create({"Image": "base"}, {"VolumesFrom": ["second"]})
    assert len(world.volumes.list()) == 2
    world.containers.remove("second", volumes=True)
    assert [volume.name for volume in world.volumes.list()] == ["named"]


def test_a_missing_bind_source_is_made_for_v_and_refused_for_mount(world: World, tmp_path: Path) -> None:
    world.run(host={"Binds": [f"{tmp_path}/made:/m"]})
    assert (tmp_path / "made").is_dir()
    with pytest.raises(InvalidArgument, match="bind source path does not exist"):
        world.containers.create({"Image": "base"}, {"Mounts": [{"Type": "bind", "Source": f"{tmp_path}/absent", "Target": "/a"}]})


def test_listing_shows_what_runs_and_filters(world: World) -> None:
    world.run("runs", Labels={"k": "v"})
    world.containers.create({"Image": "base"}, name="created")
    assert [row["Names"] for row in world.containers.list()] == [["/runs"]]
    assert [row["Names"] for row in world.containers.list(all=True)] == [["/created"], ["/runs"]]
    assert [row["State"] for row in world.containers.list(filters={"status": ["created"]})] == ["created"]
    assert len(world.containers.list(all=True, filters={"label": ["k=v", "from=image"]})) == 1
    assert len(world.containers.list(all=True, filters={"ancestor": ["base"]})) == 2
    assert world.containers.list(all=True, filters={"name": ["^nothing$"]}) == []


def test_a_listing_may_leave_networks_out(world: World) -> None:
    world.run("runs")
    whole, less = world.containers.list()[0], world.containers.list(networks=False)[0]
    assert {**less, "NetworkSettings": whole["NetworkSettings"]} == whole
    assert "NetworkSettings" not in less


def test_prune_removes_what_does_not_run(world: World) -> None:
    world.run("runs")
    gone = world.containers.create({"Image": "base"}, name="created")
    assert world.containers.prune(dry_run=True).removed == (gone.id,)
    assert "prune" not in [event.action for event in world.events]
    assert world.containers.prune().removed == (gone.id,)
    assert world.events[-1].action == "prune"
    assert [row["Names"] for row in world.containers.list(all=True)] == [["/runs"]]


def test_what_is_removed_while_it_is_looked_at_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second", "third"):
        world.containers.create({"Image": "base"}, name=name)
    kept = world.containers.snapshots.list

    def removed_meanwhile(name: str) -> None:
        with suppress(ContainerNotFound):
            world.containers.remove(name)
            world.containers.close()  # whatever is left to be deleted is

    def looked_at(layer: Digest | None, upper: str) -> int:
        removed_meanwhile("third")
        return bytes_on_disk(upper)

    def listed(ref: str) -> Sequence[Snapshot]:
        removed_meanwhile("second")
        return kept(ref)

    monkeypatch.setattr(world.parts.layers, "written", looked_at)
    assert [row["Names"] for row in world.containers.list(all=True, size=True)] == [["/second"], ["/first"]]
    monkeypatch.setattr(world.containers.snapshots, "list", listed)
    assert [row["Names"] for row in world.containers.usage()] == [["/first"]]
    world.containers.create({"Image": "base"}, name="second")
    assert len(world.containers.prune().removed) == 1


def test_commit_freezes_and_takes_the_containers_configuration(world: World) -> None:
    process = world.run(Env=["B=own"], Hostname="mine")
    image = world.containers.commit("it", CommitRequest("name", "1", changes=('CMD ["cat"]',)))
    assert not process.frozen
    assert (image.config.config.cmd, image.config.config.hostname) == (("cat",), "")
    assert "B=own" in image.config.config.env
    assert image.names[0].familiar == "name:1"
    assert [event.action for event in world.events][-3:] == ["pause", "unpause", "commit"]
    for request in (CommitRequest(f"name@sha256:{'a' * 64}"), CommitRequest("name", f"sha256:{'a' * 64}")):
        with pytest.raises(InvalidArgument, match="with a digest reference"):
            world.containers.commit("it", request)


def test_commit_of_what_ends_at_that_moment_needs_no_freezing(world: World) -> None:
    process = world.run()

    def vanished() -> None:
        process.end()
        raise OSError("no control group")

    process.pause = vanished  # type: ignore[method-assign]
    assert world.containers.commit("it", CommitRequest("name", "1")).names[0].familiar == "name:1"


def test_an_exec_runs_once_and_tells_its_exit(world: World) -> None:
    world.run()
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls", "-l"], "AttachStdout": True})
    assert world.containers.exec_inspect(exec_id)["Running"] is False
    world.containers.exec_start(exec_id)
    assert world.containers.exec_inspect(exec_id)["Running"] is True
    world.runtime.processes[-1].end(5)
    eventually(lambda: world.containers.exec_inspect(exec_id)["ExitCode"] == 5)
    with pytest.raises(WrongState):
        world.containers.exec_start(exec_id)
    eventually(lambda: "exec_die" in world.actions())
    assert [action for action in world.actions() if action.startswith("exec")] == ["exec_create: ls -l", "exec_start: ls -l", "exec_die"]
    # as dockerd tells it: a space comes after the first word, also where nothing follows
    world.containers.exec_create("it", {"Cmd": ["ls"]})
    assert world.actions()[-1] == "exec_create: ls "
    world.containers.remove("it", force=True)
    with pytest.raises(ExecNotFound, match="No such exec instance"):
        world.containers.exec_inspect(exec_id)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"DetachKeys": "ctrl-1"}, r"Invalid escape keys \(ctrl-1\) provided"),
        ({"Env": ["a=\0"]}, "Env must not hold a NUL"),
        ({"WorkingDir": "relative"}, "the working directory 'relative' is invalid, it needs to be an absolute path"),
    ],
)
def test_an_exec_that_cannot_be_started_is_not_made(world: World, config: dict[str, object], words: str) -> None:
    world.run()
    with pytest.raises(InvalidArgument, match=words):
        world.containers.exec_create("it", {"Cmd": ["ls"], **config})
    assert not [action for action in world.actions() if action.startswith("exec")]


def test_an_exec_that_the_system_refuses_has_ended(world: World) -> None:
    world.run()
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"]})
    world.runtime.failure = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        world.containers.exec_start(exec_id)
    found = world.containers.exec_inspect(exec_id)
    assert (found["Running"], found["ExitCode"]) == (False, 126)


def test_what_is_asked_of_a_process_that_ends_at_that_moment_is_told_that_it_does_not_run(world: World) -> None:
    world.run()
    process = world.runtime.processes[0]
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"]})

    def vanished(*asked: object) -> None:
        raise OSError(2, "No such file or directory")

    process.pause = process.limit = vanished  # type: ignore[method-assign]
    world.runtime.failure = RuntimeFailed("/proc/7/root: No such file or directory")
    process._over.set()  # nobody was told yet
    with pytest.raises(WrongState, match=r"Container [0-9a-f]+ is not running"):
        world.containers.pause("it")
    with pytest.raises(WrongState, match=r"Container [0-9a-f]+ is not running"):
        world.containers.exec_start(exec_id)
    assert world.containers.update("it", {"PidsLimit": 7}) == ()
    assert world.containers.get("it").host_config["PidsLimit"] == 7


def test_an_exec_in_what_cannot_be_entered_any_more_waits_for_its_end(world: World) -> None:
    """The kernel takes /proc/PID/root away a moment before it says that the process has ended."""
    process = world.run()
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"]})
    world.runtime.failure = RuntimeFailed("/proc/7/root: No such file or directory")
    threading.Timer(0.05, process.end).start()
    with pytest.raises(WrongState, match=r"Container [0-9a-f]+ is not running"):
        world.containers.exec_start(exec_id)


def test_files_and_changes_of_what_was_removed_just_now_are_those_of_no_container(world: World) -> None:
    world.run()
    containers = world.containers
    live = containers._roster.find("it")
    with pytest.raises(ContainerNotFound, match="No such container"), containers._life.still(live):
        containers.remove("it", force=True)
        raise Internal("FileNotFoundError: diff")
    for ask in (containers._contents.changes, lambda live: containers._archives.stat(live, "it", "/")):
        with pytest.raises(ContainerNotFound, match="No such container"):
            ask(live)


def test_an_exec_needs_a_running_container(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    with pytest.raises(WrongState, match="is not running"):
        world.containers.exec_create("it", {"Cmd": ["ls"]})


def test_an_exec_that_was_not_started_goes_with_its_run_of_the_container(world: World) -> None:
    world.run()
    stopped, again = (world.containers.exec_create("it", {"Cmd": ["ls"]}) for _ in range(2))
    world.runtime.processes[0].end()
    eventually(lambda: status(world) == "exited")
    with pytest.raises(ExecNotFound, match="No such exec instance"):
        world.containers.exec_start(stopped)
    world.containers.start("it")
    with pytest.raises(ExecNotFound, match="No such exec instance"):
        world.containers.exec_start(again)


def test_many_clients_at_once_leave_a_consistent_state(world: World) -> None:
    def client(number: int) -> None:
        for round_ in range(5):
            name = f"c{number}-{round_}"
            process = None
            created = world.containers.create({"Image": "base"}, {"AutoRemove": round_ % 2 == 0}, name=name)
            with world.containers.wait(created.id, "removed") as waiter:
                world.containers.start(created.id)
                process = next(each for each in world.runtime.processes if each.pid == world.containers.get(created.id).state.pid)
                process.end(round_)
                if round_ % 2:
                    with world.containers.wait(created.id) as ended:
                        assert ended.result(60) is not None
                    world.containers.remove(created.id)
                result = waiter.result(60)
                if result is None or result.status_code != round_:
                    wrong.append((name, result))

    wrong: list[object] = []
    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert world.containers.list(all=True) == []
    eventually(lambda: [name for name in os.listdir(world.parts.root) if name not in (".init", ".scratch")] == [])


def test_a_container_whose_control_group_vanished_is_not_paused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()

    def vanished() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(world.runtime.processes[-1], "pause", vanished)
    with pytest.raises(WrongState, match=r"cannot pause container \w+: No such file or directory"):
        world.containers.pause("it")
    assert status(world) == "running"


def test_a_limit_that_the_kernel_refuses_is_taken_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    asked: list[dict[str, object]] = []

    def refuse(resources: dict[str, object]) -> None:
        asked.append(resources)
        if len(asked) == 1:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(world.runtime.processes[-1], "limit", refuse)
    with pytest.raises(CannotUpdate, match="Cannot update container"):
        world.containers.update("it", {"CpuShares": 5})
    assert len(asked) == 2
    assert world.containers.inspect("it")["HostConfig"]["CpuShares"] == 0
    assert world.containers.update("it", {"PidsLimit": 7}) == ()
    assert asked[-1] == {"pids": {"limit": 7}}


def test_a_restart_that_a_failed_removal_held_up_comes_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "next_backoff", lambda last: 1000.0)
    world.run(host={"RestartPolicy": {"Name": "always"}}).end(1)
    eventually(lambda: status(world) == "restarting")
    live = world.containers._roster.find("it")
    live.backoff = 0.01

    def refuse(store: ContainerStore, container_id: str) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, world.containers.wait("it", "removed") as waiter:
        patch.setattr(ContainerStore, "detach", refuse)
        with pytest.raises(OSError, match="No space left"):
            world.containers.remove("it", force=True)
        told = waiter.result(10)
    assert told is not None and "No space left" in told.error
    eventually(lambda: len(world.runtime.processes) == 2 and status(world) == "running")
    world.containers.remove("it", force=True)


def test_who_begins_to_wait_for_what_was_removed_just_now_waits_for_nothing(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    live = world.containers._roster.find("it")
    world.containers.remove("it")
    for condition in ("removed", "next-exit"):
        with live.waiters.register(condition, now=None) as waiter:
            assert waiter.result(10) is not None


def test_an_end_is_noted_and_told_whatever_cannot_be_taken_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    process = world.run()

    def silent(networks: FakeNetworks, container: str, kind: str = "bridge", *, shared: bool = False) -> None:
        raise Unavailable("the switchboard does not answer")

    def busy(container: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(FakeNetworks, "leave", silent)
    monkeypatch.setattr(sharing, "release", busy)
    with world.containers.wait("it") as waiter:
        process.end(7)
        told = waiter.result(10)
    assert told is not None
    assert (told.status_code, status(world)) == (7, "exited")


def test_a_process_that_is_unknown_to_its_networks_does_not_run_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    created = world.containers.create({"Image": "base"}, name="it")

    def joined(networks: FakeNetworks, member: Member) -> tuple[Sandbox, Wiring]:
        return Sandbox(member.id, member.name, (Endpoint("e", "n", "bridge", "veth0", "eth0", ""),)), Wiring()

    def silent(networks: FakeNetworks, container: str, pid: int) -> None:
        raise Unavailable("the switchboard does not answer")

    monkeypatch.setattr(FakeNetworks, "join", joined)
    monkeypatch.setattr(FakeNetworks, "started", silent)
    with pytest.raises(Unavailable):
        world.containers.start(created.id)
    assert world.runtime.processes[0].signals == [9]
    assert status(world) == "created"


def test_a_paused_container_feels_its_own_stop_signal(world: World) -> None:
    world.runtime.ignored = (3,)
    process = world.run(StopSignal="SIGQUIT")
    world.containers.pause("it")
    world.containers.kill("it", signal="SIGQUIT")
    assert (process.frozen, status(world), status(world.again())) == (False, "running", "running")


def test_a_name_that_cannot_be_written_down_is_not_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.containers.create({"Image": "base"}, name="old")

    def refuse(store: ContainerStore, container: Container) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ContainerStore, "save", refuse)
        with pytest.raises(OSError, match="No space left"):
            world.containers.rename("old", "new")
    assert world.containers.get("old").name == "old"
    with pytest.raises(NameTaken):
        world.containers.create({"Image": "base"}, name="old")
    assert world.containers.create({"Image": "base"}, name="new").id


def test_a_container_that_is_being_removed_takes_no_name(world: World) -> None:
    world.containers.create({"Image": "base"}, name="old")
    live = world.containers._roster.find("old")
    world.containers.remove("old")
    with pytest.raises(WrongState, match="marked for removal"):
        world.containers._life.rename(live, "new")
    assert world.containers.create({"Image": "base"}, name="new").id


def test_restarts_at_once_keep_a_container_that_is_removed_when_it_exits(world: World) -> None:
    world.run(host={"AutoRemove": True})
    live = world.containers._roster.find("it")
    live.staying += 1  # another restart is under way
    world.containers.restart("it")
    world.runtime.processes[-1].end(0)
    eventually(lambda: status(world) == "exited")
    assert not live.removing


def test_execs_that_could_not_be_started_are_forgotten_like_those_that_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execs, "_KEPT", 2)
    world.run()
    made = [world.containers.exec_create("it", {"Cmd": ["nothing"]}) for _ in range(5)]
    world.runtime.failure = CommandNotFound("no such command")
    for each in made:
        with pytest.raises(CommandNotFound):
            world.containers.exec_start(each)
    assert world.containers.exec_inspect(made[-1])["ExitCode"] == 127
    with pytest.raises(ExecNotFound):
        world.containers.exec_inspect(made[0])


def test_an_exec_does_not_bring_the_folder_of_a_removed_container_back(world: World) -> None:
    world.run()
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"]})
    directory = world.containers.get("it").directory
    os.rename(directory, f"{directory}.gone")
    with pytest.raises(OSError, match="No such file"):
        world.containers.exec_start(exec_id)
    assert not os.path.exists(directory)


def test_a_network_that_others_have_yet_is_said_to_be_shared_at_the_end_of_its_container(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: dict[str, bool] = {}

    def leave(networks: FakeNetworks, container: str, kind: str = "bridge", *, shared: bool = False) -> None:
        left[container] = shared

    monkeypatch.setattr(FakeNetworks, "leave", leave)
    owner, alone = world.run("owner"), world.run("alone")
    world.run("guest", host={"NetworkMode": "container:owner"})
    owner.end()
    alone.end()
    eventually(lambda: len(left) == 2)
    assert left == {world.containers.get("owner").id: True, world.containers.get("alone").id: False}


def test_a_stop_at_the_moment_of_an_end_ends_the_wait_for_the_next_restart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "next_backoff", lambda last: 1000.0)
    process = world.run(host={"RestartPolicy": {"Name": "always"}})
    register = Waiters.register

    def ending(waiters: Waiters, condition: str, *, now: WaitResult | None) -> RegisteredWaiter:
        process.end(1)
        eventually(lambda: status(world) == "restarting")
        return register(waiters, condition, now=now)

    monkeypatch.setattr(Waiters, "register", ending)
    world.containers.stop("it")
    assert (status(world), world.containers.get("it").state.stopped_by_user) == ("exited", True)


@pytest.mark.parametrize("signal", ["", "TERM"])
def test_a_kill_ends_the_wait_for_the_next_restart(world: World, monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    monkeypatch.setattr(lifecycle, "next_backoff", lambda last: 1000.0)
    world.run(host={"RestartPolicy": {"Name": "always"}}).end(1)
    eventually(lambda: status(world) == "restarting")
    for ask in (world.containers.pause, world.containers.top):
        with pytest.raises(WrongState, match="is restarting, wait until the container is running"):
            ask("it")
    with pytest.raises(WrongState, match="is not running"):
        world.containers.kill("it", signal="HUP")
    world.containers.kill("it", signal=signal)
    assert (status(world), world.containers.get("it").state.stopped_by_user) == ("exited", True)
    assert world.actions()[-1] == "kill"


def test_links_follow_a_rename(world: World) -> None:
    for name, links in (("db", []), ("other", []), ("app", ["db:data", "other", "db"])):
        world.containers.create({"Image": "base"}, {"Links": links}, name=name)
    world.containers.rename("db", "base")
    world.containers.create({"Image": "base"}, name="db")
    for engine in (world, world.again()):
        assert engine.containers.inspect("app")["HostConfig"]["Links"] == ["/base:/app/data", "/other:/app/other", "/base:/app/db"]


def test_a_restart_whose_start_somebody_else_asked_for_first_is_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    stop = lifecycle.LifeCycle.stop

    def overtaken(life: lifecycle.LifeCycle, *arguments: object) -> None:
        stop(life, *arguments)  # type: ignore[arg-type]
        world.containers.start("it")

    monkeypatch.setattr(lifecycle.LifeCycle, "stop", overtaken)
    world.containers.restart("it")
    assert (status(world), world.actions()[-1]) == ("running", "restart")


def test_who_shares_a_network_has_its_names(world: World) -> None:
    world.run("owner", Hostname="own", Domainname="example.org")
    world.run("guest", host={"NetworkMode": "container:owner"}, Domainname="other.org")
    assert [world.containers.inspect("guest")["Config"][key] for key in ("Hostname", "Domainname")] == ["own", "example.org"]
    assert world.runtime.launches[-1].spec["hostname"] == "own"


def test_a_start_beside_the_end_of_whom_it_shares_with_says_so(world: World) -> None:
    world.run("owner")
    owner = world.containers.get("owner")
    world.containers._roster.find("owner").note(pid=1 << 30)  # it has ended, and nobody was told yet
    world.containers.create({"Image": "base"}, {"NetworkMode": "container:owner"}, name="it")
    world.runtime.failure = FileNotFoundError(2, "No such file or directory")
    with pytest.raises(WrongState, match=f"cannot join net of a non running container: {owner.id}"):
        world.containers.start("it")


def test_what_is_removed_while_its_size_is_asked_for_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.containers.create({"Image": "base"}, name="it")

    def removed(*_: object) -> int:
        monkeypatch.undo()
        world.containers.remove("it")
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(FakeLayers, "written", removed)
    with pytest.raises(ContainerNotFound):
        world.containers.inspect("it", size=True)


def test_a_start_for_which_there_is_no_thread_is_a_failed_start(world: World) -> None:
    created = world.containers.create({"Image": "base"}, name="it")
    world.runtime.failure = RuntimeError("can't start new thread")  # type: ignore[assignment]
    with pytest.raises(RuntimeError):
        world.containers.start(created.id)
    state = world.containers.get("it").state
    assert (str(state.status), state.exit_code, state.error) == ("created", 128, "can't start new thread")


def test_a_container_whose_folder_somebody_removed_can_be_removed(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    shutil.rmtree(world.containers.get("it").directory)
    world.containers.remove("it")
    assert world.containers.list(all=True) == []


def test_what_a_snapshot_is_taken_of_at_this_moment_is_shown_after_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.containers.create({"Image": "base"}, name="it")
    looks = itertools.count()

    def over(launcher: Launcher, container: Container) -> tuple[str, ...]:
        if next(looks) == 0:
            raise SnapshotNotFound("no such snapshot")
        return ()

    monkeypatch.setattr(Launcher, "over", over)
    assert world.containers.inspect("it")["Name"] == "/it"


def test_top_shows_a_container_of_more_processes_than_one_argument_holds(world: World) -> None:
    process = world.run()
    process.pids = lambda: [os.getpid(), *range(10**6, 10**6 + 30_000)]  # type: ignore[method-assign]
    found = world.containers.top("it", "-eo pid,comm")
    assert [row[0] for row in found["Processes"]] == [str(os.getpid())]


def test_top_takes_no_nul(world: World) -> None:
    world.run()
    with pytest.raises(InvalidArgument, match="NUL"):
        world.containers.top("it", "-o\0pid")
