"""Containers that really run, over every driver: what fakes cannot show."""

from __future__ import annotations

import io
import os
import signal
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina import Engine
from lamina.container.launching import Launcher
from lamina.container.model import Container
from lamina.container.requests import AttachRequest, CommitRequest, LogQuery, WaitResult
from lamina.errors import Unsupported
from lamina.spec.reference import Reference
from tests.harness import busybox_tar, control_groups, eventually

pytestmark = pytest.mark.root
NONE = {"NetworkMode": "none"}


@pytest.fixture(scope="module", params=["erofs", "overlay", "native"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with busybox in it; its name ends in the driver's."""
    root = tmp_path_factory.mktemp(f"running-{request.param}")
    try:
        with Engine.open(root, storage_driver=request.param) as engine, open(busybox_tar(root.parent / f"{root.name}.tar"), "rb") as tar:
            engine.images.import_(tar.fileno(), name=Reference.parse("box:latest"))
    except Unsupported as error:
        pytest.skip(error.message)
    return root


def opened(root: Path) -> Engine:
    return Engine.open(root, storage_driver=root.name.partition("-")[2].rstrip("0123456789"))


@pytest.fixture
def engine(root: Path) -> Iterator[Engine]:
    with opened(root) as engine:
        yield engine
        for row in engine.containers.list(all=True):
            engine.containers.remove(str(row["Id"]), force=True, volumes=True)


def started(engine: Engine, *words: str, host: dict[str, Any] | None = None, **config: Any) -> str:
    made = engine.containers.create({"Image": "box", "Cmd": list(words), **config}, {**NONE, **(host or {})})
    engine.containers.start(made.id)
    return made.id


def ended(engine: Engine, ref: str) -> WaitResult:
    with engine.containers.wait(ref) as waiter:
        result = waiter.result(60)
    assert result is not None, "it never ended"
    return result


def log_of(engine: Engine, ref: str) -> bytes:
    frames, text = b"".join(engine.containers.logs(ref, LogQuery())), b""
    while frames:
        size = int.from_bytes(frames[4:8], "big")
        text, frames = text + frames[8 : 8 + size], frames[8 + size :]
    return text


def received(mine: socket.socket) -> bytes:
    """What comes until the other side goes: a frame's head and its text may come apart."""
    mine.settimeout(120)
    return b"".join(iter(lambda: mine.recv(1000), b""))


def test_a_run_that_removes_itself_leaves_nothing(engine: Engine, root: Path) -> None:
    before = set(os.listdir(root / "containers"))
    made = engine.containers.create({"Image": "box", "Cmd": ["sh", "-c", "touch /x; exit 4"]}, {**NONE, "AutoRemove": True})
    with engine.containers.wait(made.id, "removed") as waiter:
        engine.containers.start(made.id)
        result = waiter.result(60)
    assert result == WaitResult(4)
    eventually(lambda: set(os.listdir(root / "containers")) == before)
    assert made.id not in Path("/proc/self/mountinfo").read_text()
    assert control_groups([made.id]) == []


def test_what_it_wrote_lies_in_its_own_folder_and_survives_a_second_start(engine: Engine) -> None:
    ref = started(engine, "sh", "-c", "echo again >> /count")
    ended(engine, ref)
    engine.containers.start(ref)
    ended(engine, ref)
    assert Path(engine.containers.get(ref).upper, "count").read_text() == "again\nagain\n"


def test_one_that_removes_itself_is_restarted_with_what_it_wrote(engine: Engine) -> None:
    ref = started(engine, "sh", "-c", "echo run >> /runs; sleep 100", host={"AutoRemove": True})

    def runs() -> int:
        file = Path(f"/proc/{engine.containers.get(ref).state.pid}/root/runs")
        return len(file.read_text().splitlines()) if file.exists() else 0

    eventually(lambda: runs() == 1)
    engine.containers.restart(ref, timeout=0)
    eventually(lambda: runs() == 2)


def test_files_go_into_a_temporary_one_between_its_commands(engine: Engine) -> None:
    ref = engine.containers.create({"Image": "box", "Cmd": ["true"]}, NONE, temporary=True).id

    def said(*command: str) -> bytes:
        mine, theirs = socket.socketpair()
        with mine:
            with theirs, engine.containers.perform(ref, command, {}, fd=theirs.fileno()) as waiter:
                assert waiter.result(60) is not None
            return received(mine)

    said("true")
    with io.BytesIO() as tar:
        with tarfile.open(fileobj=tar, mode="w") as archive:
            member = tarfile.TarInfo("file")
            member.size = 4
            archive.addfile(member, io.BytesIO(b"told"))
        tar.seek(0)
        engine.containers.archive_put(ref, "/", tar)
    assert said("cat", "/file").endswith(b"told")


def test_pausing_stops_its_clockwork(engine: Engine) -> None:
    ref = started(engine, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    eventually(lambda: b"tick" in log_of(engine, ref))
    path = engine.containers.get(ref).log_path

    def grew() -> bool:
        size = os.path.getsize(path)
        time.sleep(0.3)
        return os.path.getsize(path) > size

    engine.containers.pause(ref)
    eventually(lambda: not grew(), "it goes on")  # what was under way may come yet
    assert not grew()
    engine.containers.unpause(ref)
    eventually(grew, "it does not go on")
    engine.containers.pause(ref)
    engine.containers.stop(ref, timeout=1)
    assert not engine.containers.get(ref).running


def test_a_policy_restarts_until_the_limit(engine: Engine) -> None:
    ref = started(engine, "sh", "-c", "echo run; exit 3", host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}})
    assert ended(engine, ref).status_code == 3
    eventually(lambda: log_of(engine, ref) == b"run\n" * 3)
    assert engine.containers.get(ref).state.restart_count == 2


def test_a_killed_monitor_takes_its_container_with_it_and_the_state_says_so(engine: Engine) -> None:
    ref = started(engine, "sleep", "1000")
    pid = engine.containers.get(ref).state.pid
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(monitor, signal.SIGKILL)
    ended(engine, ref)
    assert "monitor" in engine.containers.get(ref).state.error
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    engine.containers.start(ref)
    assert engine.containers.get(ref).running


def test_execs_share_what_is_known_of_the_run_and_see_what_changes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = Launcher.spec

    def counted(self: Launcher, container: Container, *others: Any) -> dict[str, Any]:
        made.append(container.name)
        return real(self, container, *others)

    def executed() -> int:
        before = len(made)
        engine.containers.exec_start(engine.containers.exec_create(ref, {"Cmd": ["true"]}))
        return len(made) - before

    monkeypatch.setattr(Launcher, "spec", counted)
    ref = started(engine, "sleep", "1000")
    assert [executed() for _ in range(3)] == [1, 0, 0]
    engine.containers.rename(ref, "another")
    assert [executed(), executed()] == [1, 0]
    engine.containers.restart(ref, timeout=0)
    assert [executed(), executed()] == [1, 0]


def test_what_runs_is_found_again_with_log_attach_exec_and_exit(root: Path) -> None:
    with opened(root) as first:
        ref = started(first, "sh", "-c", "echo one; read x; echo $x; exit 6", OpenStdin=True)
        eventually(lambda: log_of(first, ref) == b"one\n")
        slow = first.containers.exec_create(ref, {"Cmd": ["sleep", "1000"]})
        first.containers.exec_start(slow)
    with opened(root) as second:
        assert second.containers.get(ref).running
        assert second.containers.exec_inspect(slow)["Running"] is True
        mine, theirs = socket.socketpair()
        second.containers.attach(ref, AttachRequest(theirs.fileno(), stdin=True))
        theirs.close()
        mine.sendall(b"two\n")
        assert ended(second, ref).status_code == 6
        assert b"two\n" in received(mine)
        assert log_of(second, ref) == b"one\ntwo\n"
        second.containers.remove(ref)


def test_an_exit_between_two_engines_is_told_truly(root: Path) -> None:
    with opened(root) as first:
        ref = started(first, "sh", "-c", "sleep 0.3; exit 42")
        directory = first.containers.get(ref).directory
    eventually(lambda: os.path.exists(f"{directory}/exit.json"))
    with opened(root) as second:
        state = second.containers.get(ref).state
        assert (str(state.status), state.exit_code) == ("exited", 42)
        second.containers.remove(ref)


def test_commit_of_a_running_container_holds_what_it_wrote(engine: Engine) -> None:
    ref = started(engine, "sh", "-c", "echo kept > /kept; rm /etc/group; echo ready; sleep 1000")
    eventually(lambda: log_of(engine, ref) == b"ready\n")
    image = engine.containers.commit(ref, CommitRequest("made", "1", changes=('CMD ["sh", "-c", "cat /kept; ls /etc/group"]',)))
    made = engine.containers.create({"Image": str(image.id)}, NONE)
    engine.containers.start(made.id)
    assert ended(engine, made.id).status_code == 1
    assert log_of(engine, made.id).startswith(b"kept\n")


def test_the_hosts_network_and_none_are_told_apart(engine: Engine) -> None:
    def seen(mode: str) -> list[str]:
        look = "readlink /proc/self/ns/net; sed 1,2d /proc/net/dev | cut -d: -f1 | tr -d ' '"
        ref = started(engine, "sh", "-c", look, host={"NetworkMode": mode})
        ended(engine, ref)
        return log_of(engine, ref).decode().split()

    host = os.readlink("/proc/self/ns/net")
    assert host not in seen("none") and "lo" in seen("none")
    assert host in seen("host")


def test_a_log_is_rotated_and_followed_over_it(engine: Engine) -> None:
    ref = started(
        engine, "sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
        host={"LogConfig": {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "50"}}}, Tty=True,
    )  # fmt: skip
    text = b"".join(engine.containers.logs(ref, LogQuery(follow=True))).replace(b"\r", b"")
    assert text == b"".join(b"line %d\n" % number for number in range(3000))
    assert os.path.exists(f"{engine.containers.get(ref).log_path}.1")
    tail = b"".join(engine.containers.logs(ref, LogQuery(tail=700))).replace(b"\r", b"")
    assert tail == b"".join(b"line %d\n" % number for number in range(2300, 3000))
