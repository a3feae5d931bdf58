"""Containers from start to exit: streams, logs, terminals, exec, signals, limits."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Box, eventually
from lamina.errors import LaminaError
from lamina.linux import channel
from lamina.runtime import cgroup, client, monitor, streams
from lamina.runtime.init import REACHED
from lamina.runtime.launch import Attach, CommandNotExecutable, CommandNotFound, Exit, Mount, MountMismatch, RuntimeFailed
from lamina.runtime.launcher import Launched
from lamina.runtime.monitor import Monitor
from lamina.runtime.process import Process, ProcessGone, attach_options
from lamina.runtime.records import SOCKET
from lamina.runtime.reports import said_so_far

pytestmark = pytest.mark.root
BRIEF_OR_NOT = pytest.mark.parametrize("brief", [False, True], ids=["", "brief"])


def log_entries(box: Box) -> list[tuple[str, str]]:
    """Stream and text of the log's lines."""
    lines = [json.loads(line) for line in (box.directory / "log").read_text().splitlines()]
    return [(line["stream"], line["log"]) for line in lines]


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Docker's multiplexed stream taken apart."""
    found = []
    while data:
        stream, size = struct.unpack(">BxxxI", data[:8])
        found.append((stream, data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def read_all(mine: socket.socket) -> bytes:
    mine.settimeout(120)
    parts = []
    while data := mine.recv(65536):
        parts.append(data)
    return b"".join(parts)


def cgroup_directories(box: Box) -> list[str]:
    return [path for path in cgroup.Cgroup(f"/lamina-test/{box.name}", cgroup.here()).directories() if os.path.exists(path)]


@BRIEF_OR_NOT
def test_output_reaches_the_log_and_a_framed_client(box: Box, brief: bool) -> None:
    mine, theirs = socket.socketpair()
    process = box.start("sh", "-c", "echo out; echo err >&2; exit 3", attaches=[Attach(theirs.fileno())], brief=brief)
    theirs.close()
    end = process.wait(60)
    assert isinstance(end, Exit) and (end.code, end.signal, end.oom_killed, end.error) == (3, 0, False, "")
    assert sorted(frames(read_all(mine))) == [(1, b"out\n"), (2, b"err\n")]
    assert sorted(log_entries(box)) == [("stderr", "err\n"), ("stdout", "out\n")]


@pytest.mark.parametrize("late", [False, True], ids=["at the start", "while it runs"])
def test_output_follows_a_head_once_that_was_read(box: Box, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """docker-py loses what its buffer takes together with the head."""
    monkeypatch.setattr("lamina.linux.unread._PATIENCE", 60)
    mine, theirs = socket.socketpair()
    theirs.sendall(b"head")
    attach, script = Attach(theirs.fileno(), framed=False), "until [ -e /go ]; do echo out; sleep 0.02; done"
    with mine, theirs, ThreadPoolExecutor() as pool:
        process = box.start("sh", "-c", script) if late else None
        asked = pool.submit(process.attach, attach) if process else pool.submit(box.start, "sh", "-c", script, attaches=[attach])
        time.sleep(0.3)
        assert mine.recv(65536) == b"head"
        assert mine.recv(65536).startswith(b"out\n")
        asked.result(60)
        box.exec("touch", "/go")


def test_input_reaches_the_process_and_its_end_too(box: Box) -> None:
    assert box.run("sh", "-c", "wc -c", stdin=b"x" * 300_000) == (0, "300000\n")


def test_input_of_a_client_that_has_gone_is_read_to_its_end_however_late(box: Box) -> None:
    mine, theirs = socket.socketpair()
    script = "until [ -e /go ]; do sleep 0.02; done; wc -c > /count"
    process = box.start("sh", "-c", script, open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True, framed=False)])
    theirs.close()
    mine.settimeout(0.3)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += mine.send(bytes(100_000))
    except TimeoutError:
        pass  # pipe, monitor and socket are full
    mine.close()
    assert box.exec("touch", "/go")[0] == 0
    end = process.wait(60)
    assert end is not None and end.code == 0
    assert int((box.directory / "upper/count").read_text()) == sent


def test_input_that_was_read_before_comes_first(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start(
        "head", "-n", "2", open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True, framed=False, pending=b"early\n")]
    )
    theirs.close()
    mine.sendall(b"late\n")
    assert read_all(mine) == b"early\nlate\n"
    assert process.wait(60)


def test_a_signal_is_an_exit_code_over_128(box: Box) -> None:
    process = box.start("sleep", "100")
    process.signal(15)
    process.signal(9)
    end = process.wait(60)
    assert end is not None and (end.code, end.signal) == (137, 9)
    with pytest.raises(ProcessGone):
        process.signal(9)
    with pytest.raises(ProcessGone):
        process.attach(Attach(0))


@BRIEF_OR_NOT
def test_nothing_remains_after_the_end(box: Box, brief: bool) -> None:
    box.run("true", brief=brief)
    assert not cgroup_directories(box)
    assert not (box.directory / "monitor.sock").exists() and not (box.directory / "monitor.json").exists()
    assert json.loads((box.directory / "exit.json").read_text())["code"] == 0
    assert str(box.directory) not in Path("/proc/self/mountinfo").read_text()


def test_the_monitor_of_what_is_brief_holds_nothing_that_others_do_not(boxes: Callable[[], Box]) -> None:
    monitors = []
    for brief in (False, True):
        box = boxes()
        box.start("sleep", "100", log=False, brief=brief)
        monitors.append(json.loads((box.directory / "monitor.json").read_text())["monitor"])
    # The other one sees its launcher off yet.
    eventually(lambda: held(monitors[0]) == held(monitors[1]))


def held(pid: int) -> list[str]:
    """What kinds of descriptors a process has."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":[")[0])
    return sorted(found)


@BRIEF_OR_NOT
@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("nosuch", CommandNotFound, 'exec: "nosuch": executable file not found in $PATH'),
        ("/bin/nosuch", CommandNotFound, 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        ("/etc/hosts", CommandNotExecutable, 'exec: "/etc/hosts": permission denied'),
        ("/bin", CommandNotExecutable, 'exec: "/bin": permission denied'),
    ],
)
def test_a_command_that_cannot_run_is_said_in_dockers_words(
    box: Box, command: str, error: type[Exception], words: str, brief: bool
) -> None:
    with pytest.raises(error) as raised:
        box.start(command, brief=brief)
    assert words in str(raised.value)
    assert not cgroup_directories(box) and not (box.directory / "monitor.sock").exists()


def test_a_script_without_its_interpreter_is_not_found(box: Box) -> None:
    (box.directory / "upper").mkdir()
    script = box.directory / "upper/run"
    script.write_text("#!/nosuch\n")
    script.chmod(0o755)
    with pytest.raises(CommandNotFound, match="exec /run: no such file or directory"):
        box.start("/run")


def test_an_unknown_user_is_an_error(box: Box) -> None:
    with pytest.raises(RuntimeFailed, match="unable to find user nobody: no matching entries in passwd file"):
        box.start("true", user="nobody")


def test_a_missing_bind_source_is_an_error(box: Box) -> None:
    with pytest.raises(RuntimeFailed, match="bind source path does not exist: /nosuch"):
        box.start("true", mounts=[Mount("bind", "/x", "/nosuch")])


def test_the_working_directory_is_made(box: Box) -> None:
    assert box.run("pwd", cwd="/a/b/c") == (0, "/a/b/c\n")


def test_the_environment_is_dockers(box: Box) -> None:
    _, text = box.run("env", env=["A=b=c", "PATH=/bin"])
    assert sorted(text.split()) == ["A=b=c", "HOME=/", "HOSTNAME=box", "PATH=/bin"]


def test_volumes_and_tmpfs_are_mounted(box: Box, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("content")
    mounts = [
        Mount("bind", "/data", str(tmp_path / "folder")),
        Mount("bind", "/data/fixed", str(tmp_path / "file"), readonly=True),
        Mount("tmpfs", "/scratch", options=("size=1m",)),
    ]
    script = "echo hi > /data/new; cat /data/fixed; echo; (echo x > /data/fixed) 2>&1; grep -c '/scratch .*size=1024k' /proc/self/mountinfo"
    _, text = box.run("sh", "-c", script, mounts=mounts)
    assert text.splitlines() == ["content", "sh: can't create /data/fixed: Read-only file system", "1"]
    assert (tmp_path / "folder/new").read_text() == "hi\n" and (tmp_path / "file").read_text() == "content"


def test_what_is_written_lies_in_the_upper_directory_while_it_runs(box: Box) -> None:
    box.start("sh", "-c", "echo hi > /there; sleep 100")
    eventually(lambda: (box.directory / "upper/there").exists())


@BRIEF_OR_NOT
def test_a_terminal_is_the_containers_own(box: Box, brief: bool) -> None:
    script = "tty; test -c /dev/console && echo console; stty size; ls /dev/pts"
    _, text = box.run("sh", "-c", script, tty=True, brief=brief)
    assert text.split("\r\n")[:2] == ["/dev/pts/0", "console"]


def test_a_terminal_takes_its_size_and_keys(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start("sh", tty=True, open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True, framed=False)])
    theirs.close()
    process.resize(33, 77)
    mine.sendall(b"stty size </dev/tty; exit 4\n")
    assert b"33 77" in read_all(mine)
    end = process.wait(60)
    assert end is not None and end.code == 4


def test_detach_keys_let_the_client_go_and_the_process_stay(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start("cat", tty=True, open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True, framed=False)])
    theirs.close()
    told = threading.Event()
    process.on_detach(told.set)
    mine.sendall(b"\x10")
    mine.sendall(b"\x11")
    read_all(mine)
    assert told.wait(60) and process.wait(0) is None


def test_who_detaches_before_anybody_listens_is_told_of_later(box: Box) -> None:
    mine, theirs = socket.socketpair()
    mine.sendall(b"\x10\x11")
    process = box.start("cat", tty=True, open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True, framed=False)])
    theirs.close()
    read_all(mine)
    eventually(lambda: process._missed["detached"] == 1)
    told = list[str]()
    process.on_detach(lambda: told.append("first"))
    process.on_detach(lambda: told.append("second"))
    assert told == ["first"]


def test_a_daemon_that_goes_while_something_is_told_to_it_does_not_end_the_container(box: Box) -> None:
    box.start("sleep", "1000", open_stdin=True)
    monitor = json.loads((box.directory / "monitor.json").read_text())["monitor"]
    one, other = (channel.connect(str(box.directory), SOCKET) for _ in range(2))
    assert [each.recv(60)[0]["event"] for each in (one, other)] == ["running", "running"]
    os.kill(monitor, signal.SIGSTOP)  # so that it learns of both at once
    mine, theirs = socket.socketpair()
    with mine, theirs:
        detaching = Attach(theirs.fileno(), stdin=True, pending=b"\x10\x11")
        one.send({"op": "attach", **attach_options(detaching)}, [theirs.fileno()])
        other.close()
        os.kill(monitor, signal.SIGCONT)
        assert one.recv(60)[0]["event"] == "detached"
    again = channel.connect(str(box.directory), SOCKET)
    assert again.recv(60)[0]["event"] == "running"
    again.close()
    one.close()


def test_a_client_that_goes_away_changes_nothing(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start(
        "sh", "-c", "read x; for i in 1 2 3; do echo line; done; exit 6", open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True)]
    )
    theirs.close()
    mine.sendall(b"go\n")
    mine.close()
    end = process.wait(60)
    assert end is not None and end.code == 6
    assert log_entries(box) == [("stdout", "line\n")] * 3


def test_a_client_that_does_not_read_loses_nothing(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start("sh", "-c", "yes | head -c 5000000", attaches=[Attach(theirs.fileno(), framed=False)], log=False)
    theirs.close()
    assert process.wait(0.3) is None  # it waits for the client, as a pipe would
    assert len(read_all(mine)) == 5_000_000
    assert process.wait(60)


def test_several_clients_see_the_same(box: Box) -> None:
    process = box.start("sh", "-c", "read x; echo $x", open_stdin=True)
    ends = []
    for stdin in (True, False):
        mine, theirs = socket.socketpair()
        process.attach(Attach(theirs.fileno(), stdin=stdin, framed=False))
        theirs.close()
        ends.append(mine)
    ends[0].sendall(b"hello\n")
    assert [read_all(end) for end in ends] == [b"hello\n"] * 2


def test_attaching_with_logs_replays_what_was(box: Box) -> None:
    process = box.start("sh", "-c", "echo one; printf tw; read x; echo o; echo three", open_stdin=True)
    eventually(lambda: (box.directory / "log").read_text())
    mine, theirs = socket.socketpair()
    process.attach(Attach(theirs.fileno(), stdin=True, framed=False, logs=True))
    theirs.close()
    mine.sendall(b"\n")
    assert read_all(mine) == b"one\ntwo\nthree\n"


def test_an_exit_is_told_to_all_who_asked_and_later_ones(box: Box) -> None:
    heard: list[Exit] = []
    process = box.start("sh", "-c", "read x", open_stdin=True)
    process.on_exit(heard.append)
    process.signal(9)
    end = process.wait(60)
    eventually(lambda: heard)
    process.on_exit(heard.append)
    assert heard == [end, end]


def test_exec_joins_everything(box: Box) -> None:
    box.start("sleep", "100")
    script = "id -u; cat /proc/1/comm; for n in mnt pid net ipc uts cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) && echo 1; done; grep CapEff /proc/self/status"
    code, text = box.exec("sh", "-c", script)
    assert (code, text.splitlines()[:8]) == (0, ["0", "sleep", "1", "1", "1", "1", "1", "1"])
    assert "00000000a80425fb" in text
    assert len(box.process.pids() if box.process else []) == 1


def test_exec_runs_as_another_user_elsewhere(box: Box) -> None:
    box.start("sleep", "100")
    assert box.exec("sh", "-c", "id -u; pwd; echo $A", user="7:8", cwd="/etc", env=["A=b"]) == (0, "7\n/etc\nb\n")


def test_exec_has_a_terminal_of_the_containers(box: Box) -> None:
    box.start("sleep", "100")
    code, text = box.exec("sh", "-c", "tty; echo $TERM", tty=True)
    assert (code, text) == (0, "/dev/pts/0\r\nxterm\r\n")


def test_exec_of_what_is_not_there(box: Box) -> None:
    box.start("sleep", "100")
    with pytest.raises(CommandNotFound, match="executable file not found"):
        box.exec("nosuch")


@pytest.mark.parametrize("added", [[], ["SYS_PTRACE"]])
def test_an_exec_that_failed_leaves_no_process_behind(box: Box, added: list[str]) -> None:
    """It would be the first process's to reap, which knows nothing of it; health checks fail so by the thousand."""
    box.start("sleep", "100", cap_add=added)
    for options in ({}, {"cwd": "/nosuch"}):
        with pytest.raises(LaminaError):
            box.exec("nosuch" if not options else "true", **options)
    assert box.exec("sh", "-c", "cd /proc; echo [0-9]*")[1].split() in (["1", str(n)] for n in range(2, 9))


def test_a_kernel_parameter_that_is_refused_is_named(box: Box) -> None:
    with pytest.raises(RuntimeFailed, match=r"sysctls \(net\.ipv4\.nosuch=1\): No such file"):
        box.start("true", sysctls={"net.ipv4.nosuch": "1"})


def test_exec_in_a_container_that_ended_is_an_error(box: Box) -> None:
    box.run("true")
    with pytest.raises(RuntimeFailed, match="is not running"):
        box.exec("true")


def test_the_end_of_the_container_ends_its_execs(box: Box) -> None:
    process = box.start("sleep", "100")
    execed, streams = box.started_exec("sleep", "100")
    process.signal(9)
    with streams:
        assert read_all(streams) == b""
    end = execed.wait(60)
    assert end is not None and end.code == 137


def test_pause_and_resume(box: Box) -> None:
    process = box.start("sh", "-c", "while :; do echo x; sleep 0.01; done")
    eventually(lambda: (box.directory / "log").stat().st_size)
    process.pause()
    states = {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in process.pids()}
    assert states <= {"D", "S"}
    process.resume()
    before = (box.directory / "log").stat().st_size
    eventually(lambda: (box.directory / "log").stat().st_size > before)


@BRIEF_OR_NOT
def test_a_monitor_has_no_child_but_the_process_once_that_runs(box: Box, brief: bool) -> None:
    process = box.start("sleep", "1000", brief=brief)
    monitor = json.loads((box.directory / "monitor.json").read_text())["monitor"]
    eventually(lambda: Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split() == [str(process.pid)])
    process.signal(15)
    process.signal(9)
    end = process.wait(60)
    assert end is not None and (end.code, end.signal) == (137, 9)


def test_running_out_of_memory_is_said(box: Box) -> None:
    from lamina.runtime.launch import Limits

    code, _ = box.run("sh", "-c", "x=$(yes | head -c 80000000); echo ${#x}", limits=Limits(memory=20 << 20))
    end = box.process.wait(0) if box.process else None
    assert code != 0 and end is not None and end.oom_killed


def test_limits_are_set_and_those_that_cannot_be_are_clamped_with_a_warning(box: Box) -> None:
    from lamina.runtime.launch import Limits

    code, text = box.run("sh", "-c", "ulimit -n; ulimit -c", limits=Limits(rlimits={"nofile": (77, 99), "core": (0, 0)}, pids=50))
    assert (code, text) == (0, "77\n0\n")
    highest = __import__("resource").getrlimit(7)[1]
    process: Process = box.start("true", limits=Limits(rlimits={"nofile": (highest + 1, highest + 1)}))
    effective = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")).split()[1], 16)
    assert bool(process.warnings) == (not effective >> 24 & 1)


def test_a_limit_of_descriptors_counts_none_of_the_engines(box: Box) -> None:
    from lamina.runtime.launch import Limits

    few = Limits(rlimits={"nofile": (5, 5)})
    box.start("sleep", "1000", limits=few, cwd="/made/here", mounts=[Mount("tmpfs", f"/t{number}") for number in range(9)])
    assert box.exec("sh", "-c", "ulimit -n; pwd; exec 3< /bin/sh 4<&3; echo $?") == (0, "5\n/made/here\n0\n")
    assert box.exec("sh", "-c", "exec 3< /bin/sh 4<&3 5<&3; echo unreached")[0] != 0


def test_what_init_failed_at_is_told_though_what_is_done_from_outside_fails_as_well() -> None:
    report, told = os.pipe()
    assert said_so_far(report) == b""
    os.write(told, REACHED)
    assert said_so_far(report) == b""
    os.write(told, REACHED + b"3\0attach\0002\0why")
    assert said_so_far(report) == b"3\0attach\0002\0why"
    os.close(told)
    assert said_so_far(report) == b""
    os.close(report)


@pytest.mark.parametrize(("source", "target"), [("file", "/bin"), ("folder", "/bin/busybox")])
def test_a_file_over_a_directory_is_refused_in_dockers_words(box: Box, tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    words = rf"attach \({tmp_path}/{source} {target}\): not a directory: unknown: Are you trying to mount a directory onto a file"
    with pytest.raises(MountMismatch, match=words):
        box.start("true", mounts=[Mount("bind", target, f"{tmp_path}/{source}")])


def test_the_hosts_network_is_the_hosts(box: Box) -> None:
    code, text = box.run("readlink", "/proc/self/ns/net", network="host")
    assert (code, text.strip()) == (0, os.readlink("/proc/self/ns/net"))


def test_a_network_namespace_can_be_given(boxes: Callable[[], Box]) -> None:
    first, second = boxes(), boxes()
    process = first.start("sleep", "100")
    code, text = second.run("readlink", "/proc/self/ns/net", netns=f"/proc/{process.pid}/ns/net")
    assert (code, text.strip()) == (0, os.readlink(f"/proc/{process.pid}/ns/net"))


def test_two_containers_on_one_image_do_not_see_each_other(boxes: Callable[[], Box]) -> None:
    first, second = boxes(), boxes()
    first.start("sh", "-c", "echo one > /x; sleep 100")
    second.start("sh", "-c", "echo two > /x; sleep 100")
    eventually(lambda: all((box.directory / "upper/x").exists() and (box.directory / "upper/x").read_text() for box in (first, second)))
    assert first.exec("cat", "/x") == (0, "one\n") and second.exec("cat", "/x") == (0, "two\n")
    assert not (first.image / "x").exists()


@pytest.mark.skipif(not os.path.exists("/usr/bin/tini-static"), reason="tini is not installed")
def test_an_init_reaps_and_passes_signals_on(box: Box) -> None:
    process = box.start("sleep", "100", init="/usr/bin/tini-static")
    eventually(lambda: len(process.pids()) == 2)
    process.signal(15)
    end = process.wait(60)
    assert end is not None and end.code == 143


@pytest.mark.parametrize("tty", [False, True])
def test_a_user_can_open_its_streams_again_by_path(box: Box, tty: bool) -> None:
    code, text = box.run("sh", "-c", "echo again > /dev/stdout; [ ! -t 1 ] || echo again > $(tty)", user="5:5", tty=tty)
    assert code == 0 and set(text.split()) == {"again"}


def test_a_user_of_an_exec_can_too(box: Box) -> None:
    box.start("sleep", "100")
    assert box.exec("sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr", user="5:5")[0] == 0
    assert box.exec("sh", "-c", "echo out > $(tty)", user="5:5", tty=True) == (0, "out\r\n")


def processes(words: str) -> list[int]:
    """Who runs with these words in its command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if words.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "):
                found.append(int(pid))
        except OSError:
            continue
    return found


def test_a_start_that_takes_too_long_is_given_up_with_all_that_it_began(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = f"9{os.getpid()}"
    box.hooks = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", seconds]}]}
    monkeypatch.setattr(client, "_START_TIMEOUT", 2.0)
    with pytest.raises(RuntimeFailed, match="did not start within 2 seconds"):
        box.start("sleep", seconds)
    eventually(lambda: not processes(f"sleep {seconds}"))
    assert not cgroup_directories(box)
    assert not [name for name in ("monitor.sock", "monitor.json", "exit.json", "bundle") if (box.directory / name).exists()]


def test_an_exec_that_takes_too_long_does_not_run_later(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    process = box.start("sleep", "1000")
    process.pause()
    monkeypatch.setattr(client, "_START_TIMEOUT", 1.0)
    monkeypatch.setattr(client, "_GIVING_UP", 0.5)
    with pytest.raises(RuntimeFailed, match="did not start within 1 second"):
        box.exec("touch", "/late")
    process.resume()
    monkeypatch.setattr(client, "_START_TIMEOUT", 60.0)
    eventually(lambda: len(process.pids()) == 1)
    assert box.exec("ls", "/late")[0] != 0


@BRIEF_OR_NOT
def test_a_monitor_that_cannot_write_says_so_and_leaves_nothing(box: Box, brief: bool) -> None:
    launch = replace(box.launch(["sleep", "1000"], brief=brief), log={"path": str(box.directory / "nowhere" / "log")})
    with pytest.raises(RuntimeFailed, match="monitor cannot work: no such file or directory"):
        box.runtime.start(launch)
    assert not cgroup_directories(box)
    assert not (box.directory / "monitor.sock").exists() and not (box.directory / "monitor.json").exists()


def test_an_exec_of_a_container_whose_folder_went_away_is_an_error(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.start("sleep", "1000")
    made = os.makedirs
    monkeypatch.setattr(os, "makedirs", lambda path, *rest, **named: None if "exec-" in str(path) else made(path, *rest, **named))
    with pytest.raises(RuntimeFailed, match="monitor cannot work: no such file or directory"):
        box.exec("true")


def test_an_exec_takes_no_terminal_of_the_hosts_from_a_container_that_offers_one(box: Box) -> None:
    script = "umount /dev/pts && rmdir /dev/pts && ln -s /dev /dev/pts && exec sleep 1000"
    box.start("sh", "-c", script, privileged=True, security=["seccomp=unconfined"])
    eventually(lambda: "sleep" in Path(f"/proc/{box.process.pid if box.process else 0}/cmdline").read_text())
    with pytest.raises(RuntimeFailed):
        box.started_exec("true", tty=True)


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """The monitor of a process that has ended while others write to its streams without end."""
    monkeypatch.setattr(monitor, "_LINGER", 0.3)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    over = threading.Event()

    def chatter() -> None:
        with suppress(OSError):
            while not over.wait(0.01):
                os.write(writer, b"x")

    thread = threading.Thread(target=chatter, daemon=True)
    thread.start()
    launched = Launched(pid, os.pidfd_open(pid), None, -1, {"stdout": reader}, [])
    yield Monitor({"directory": str(tmp_path), "create": False}, launched, channel.listen(str(tmp_path), SOCKET))
    over.set()
    thread.join()
    os.close(writer)


def test_who_goes_on_writing_does_not_keep_an_end_from_being_told(ended: Monitor, tmp_path: Path) -> None:
    ended.serve()
    assert json.loads((tmp_path / "exit.json").read_text())["code"] == 3


def test_a_daemon_that_comes_between_the_end_and_the_word_of_it_hears_it(ended: Monitor) -> None:
    ended.serve()
    mine, theirs = channel.pair()
    ended.greet(theirs, "running")
    said = []
    for _ in range(2):
        message, fds = mine.recv(10)
        channel.close_all(fds)
        said.append((message["event"], message.get("code")))
    assert said == [("running", None), ("exit", 3)]


def test_output_of_others_after_the_end_is_not_kept_without_limit(ended: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_REST", 5)
    monkeypatch.setattr(streams, "_BACKLOG", 10)
    mine, theirs = socket.socketpair()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            theirs.send(b"x")  # nothing more fits
    ended.attach(theirs.detach(), {"stdout": True})
    ended.serve()
    assert ended._after < 20
    mine.close()


def test_who_waited_too_long_for_its_greeting_wants_nothing_that_comes_later(tmp_path: Path) -> None:
    listener = channel.listen(str(tmp_path), SOCKET)
    daemon = channel.connect(str(tmp_path), SOCKET)
    daemon.send({"op": "abandon"})
    daemon.close()
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    Monitor({"directory": str(tmp_path), "create": False}, Launched(pid, os.pidfd_open(pid), None, -1, {}, []), listener).serve()
    assert json.loads((tmp_path / "exit.json").read_text())["code"] == 137


def test_nothing_is_started_whose_end_nobody_would_hear(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = client.Runtime(str(tmp_path / "run"))
    (tmp_path / "box").mkdir()
    box = Box(runtime, tmp_path / "box", image, f"{os.getpid()}-{tmp_path.name}")
    begin = threading.Thread.start

    def full(thread: threading.Thread) -> None:
        if thread.name == "watcher":
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError):
            box.start("sleep", "1000")
    assert not cgroup_directories(box)
    assert box.run("true")[0] == 0
    runtime.close()
