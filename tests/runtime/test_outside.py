"""The same cases under every OCI runtime: the embedded one, its own command line as an outside one, runc, crun."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_confinement import fingerprint, unexplained

from conftest import Box, eventually
from lamina.runtime import cgroup, client
from lamina.runtime.client import Runtime
from lamina.runtime.interpreter import SOURCE
from lamina.runtime.launch import Attach, CommandNotExecutable, CommandNotFound, Exit, Mount, MountMismatch, Program, RuntimeFailed
from lamina.runtime.runtimes import Runtimes, UnknownRuntime

pytestmark = pytest.mark.root
EMBEDDED, OWN = "embedded", "lamina-runtime"


@pytest.fixture(scope="session")
def own_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """`lamina-runtime` of this checkout."""
    script = tmp_path_factory.mktemp("program") / "lamina-runtime"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -m lamina.runtime.cli "$@"\n')
    script.chmod(0o755)
    return Program(str(script))


@pytest.fixture(scope="session")
def refusals() -> dict[str, str]:
    """Why a runtime cannot run anything on this host, in its own words; by name."""
    return {}


@pytest.fixture(params=[EMBEDDED, OWN, pytest.param("runc", marks=pytest.mark.peer), pytest.param("crun", marks=pytest.mark.peer)])
def box(request: pytest.FixtureRequest, boxes: Callable[[], Box], own_program: Program, refusals: dict[str, str]) -> Box:
    """A container's directory, with the runtime of the case."""
    made = boxes()
    if request.param == OWN:
        made.program = own_program
    elif request.param != EMBEDDED:
        path = shutil.which(request.param)
        if not path:
            pytest.skip(f"{request.param} is not installed")
        made.program = Program(path)
        if request.param not in refusals:
            probe = boxes()
            probe.program = made.program
            refusals[request.param] = words_of_refusal(probe)
        if refusals[request.param]:
            pytest.skip(f"{request.param} cannot run containers on this host: {refusals[request.param]}")
    return made


def words_of_refusal(box: Box) -> str:
    """Why a plain command does not run; nothing where it does."""
    try:
        code, text = box.run("true")
    except RuntimeFailed as error:
        return error.message
    return "" if code == 0 else text


def left_behind(box: Box) -> list[str]:
    """What there is of a container that should have ended."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(box.directory) in line]
    return [*(group for group in groups(box) if os.path.exists(group)), *mounts, *(str(path) for path in box.directory.glob("bundle"))]


def test_hooks_of_a_specification_run(box: Box, tmp_path: Path) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    script = f"echo $X >> {tmp_path}/order; cat > {tmp_path}/$X"
    box.hooks = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": [f"X={kind}", "PATH=/bin:/usr/bin"]}] for kind in kinds}
    box.hooks["startContainer"] = [{"path": "/bin/touch", "args": ["touch", "/started"]}]
    assert box.run("ls", "/started") == (0, "/started\n")
    eventually(lambda: (tmp_path / "order").read_text().split() == list(kinds))
    state = json.loads((tmp_path / "createRuntime").read_text())
    assert state["id"] and state["pid"] > 0 and state["bundle"] == str(box.directory / "bundle")
    eventually(lambda: left_behind(box) == [])


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_fails_stops_the_start(box: Box, kind: str) -> None:
    box.hooks = {kind: [{"path": "/bin/false", "args": ["false"]}]}
    try:
        end = box.start("touch", "/ran").wait(120)
        # runc has said that it started by then.
        assert end is not None and end.code != 0 and kind == "startContainer" and box.program is not None and "runc" in box.program.path
    except RuntimeFailed:
        pass
    assert not (box.directory / "upper/ran").exists()
    eventually(lambda: left_behind(box) == [])


def test_streams_exit_code_and_log(box: Box) -> None:
    code, text = box.run("sh", "-c", "wc -c; echo err >&2; hostname; exit 3", stdin=b"x" * 200_000)
    assert code == 3 and sorted(text.split()) == ["200000", "box", "err"]
    lines = [json.loads(line) for line in (box.directory / "log").read_text().splitlines()]
    assert sorted((line["stream"], line["log"]) for line in lines) == [("stderr", "err\n"), ("stdout", "200000\n"), ("stdout", "box\n")]
    eventually(lambda: not left_behind(box))


def test_a_command_that_is_not_there_is_127_and_leaves_nothing(box: Box) -> None:
    for command in ("nosuch", "/no/such"):
        with pytest.raises(CommandNotFound, match=r"OCI runtime create failed: .*(nosuch|/no/such)"):
            box.start(command)
        assert not left_behind(box)


def test_a_file_without_the_right_to_execute_is_126(box: Box) -> None:
    (box.directory / "upper").mkdir()
    (box.directory / "upper/file").write_text("text")
    with pytest.raises(CommandNotExecutable):
        box.start("/file")
    assert not left_behind(box)


def test_a_file_over_a_directory_is_told_in_dockers_words(box: Box, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MountMismatch, match=r"(?i)not a directory.*: unknown: Are you trying to mount a directory onto a file"):
        box.start("true", mounts=[Mount("bind", "/bin", f"{tmp_path}/file")])
    assert not left_behind(box)


def test_a_mount_that_cannot_be_made_is_125_and_leaves_nothing(box: Box) -> None:
    with pytest.raises(RuntimeFailed):
        box.start("true", mounts=[Mount("bind", "/x", "/no/such/source")])
    assert not left_behind(box)


def test_a_terminal_has_its_size_and_can_be_resized(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start(
        "sh",
        "-c",
        "tty; read x; stty size; read x",
        tty=True,
        open_stdin=True,
        attaches=[Attach(theirs.fileno(), stdin=True, framed=False)],
    )
    theirs.close()
    mine.settimeout(120)
    read = ""
    while "/dev/pts/0" not in read:
        read += mine.recv(1000).decode()
    process.resize(33, 77)
    mine.sendall(b"\n")
    while "33 77" not in read:
        read += mine.recv(1000).decode()
    mine.sendall(b"\n")
    end = process.wait(60)
    assert end is not None and end.code == 0


def test_exec_runs_one_more_command_as_whom_it_is_told(box: Box) -> None:
    box.launch(["true"])
    (box.directory / "upper/etc").mkdir()
    (box.directory / "upper/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
    (box.directory / "upper/etc/group").write_text("root:x:0:\nada:x:1000:\nengines:x:44:ada\n")
    box.start("sleep", "100", user="ada")
    assert box.exec("sh", "-c", "id; echo $HOME; exit 5", user="ada") == (
        5,
        "uid=1000(ada) gid=1000(ada) groups=44(engines),1000(ada)\n/home/ada\n",
    )
    assert box.exec("sh", "-c", "cat; tty", tty=False, user="0", stdin=b"in\n") == (1, "in\nnot a tty\n")
    code, text = box.exec("sh", "-c", "tty; grep -c . /proc/1/cmdline", tty=True)
    assert code == 0 and text.startswith("/dev/pts/")
    with pytest.raises(CommandNotFound):
        box.exec("nosuch")
    assert box.process is not None and box.process.wait(0) is None


def test_signals_pause_limits_and_figures(box: Box) -> None:
    process = box.start("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: "ready" in (box.directory / "log").read_text())
    process.pause()
    assert not moved(process.pid)
    process.resume()
    process.limit({"pids": {"limit": 77}})
    assert "77" in [path.read_text().strip() for path in (Path(group, "pids.max") for group in groups(box)) if path.exists()]
    assert process.pid in process.pids() and process.usage(1 << 30)
    process.signal(signal.SIGTERM)
    end = process.wait(60)
    assert end is not None and end.code == 9


def groups(box: Box) -> list[str]:
    return cgroup.Cgroup(f"/lamina-test/{box.name}", cgroup.here()).directories()


def moved(pid: int) -> bool:
    """Whether a process does anything in a twentieth of a second: its voluntary switches are counted."""

    def switches() -> str:
        return next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary"))

    before = switches()
    waited, _ = socket.socketpair()
    waited.settimeout(0.15)
    with waited, pytest.raises(TimeoutError):
        waited.recv(1)
    return switches() != before


def test_it_goes_on_without_its_daemon_and_is_found_again(box: Box, tmp_path: Path) -> None:
    first, later = Runtime(str(tmp_path / "first")), Runtime(str(tmp_path / "later"))
    box.runtime = first
    box.start("sh", "-c", "while [ ! -e /end ]; do sleep 0.02; done; exit 4")
    first.close()
    found = later.adopt(str(box.directory))
    assert found is not None and not isinstance(found, Exit)
    box.runtime, box.process = later, found
    assert box.exec("touch", "/end") == (0, "")
    end = found.wait(120)
    assert end is not None and end.code == 4 and not left_behind(box)
    later.close()


def test_it_ends_with_its_monitor_and_starts_again(box: Box) -> None:
    process = box.start("sleep", "100")
    os.kill(json.loads((box.directory / "monitor.json").read_text())["monitor"], signal.SIGKILL)
    end = process.wait(60)
    assert end is not None and end.code == 137 and "monitor" in end.error
    eventually(lambda: not Path(f"/proc/{process.pid}/root/bin").exists())
    (box.directory / "monitor.json").unlink()
    assert box.run("echo", "again") == (0, "again\n")
    assert not left_behind(box)


def test_a_monitor_of_an_exec_takes_only_the_exec_along(box: Box) -> None:
    process = box.start("sleep", "100")
    execed, streams = box.started_exec("sleep", "60")
    (record,) = box.directory.glob("exec-*/monitor.json")
    os.kill(json.loads(record.read_text())["monitor"], signal.SIGKILL)
    end = execed.wait(60)
    streams.close()
    assert end is not None and end.code == 137
    assert process.wait(0.3) is None and box.exec("echo", "alive") == (0, "alive\n")


def test_binds_are_where_they_belong_and_read_only_where_said(box: Box, tmp_path: Path) -> None:
    (tmp_path / "rw").mkdir()
    (tmp_path / "ro").mkdir()
    mounts = [Mount("bind", "/rw", str(tmp_path / "rw")), Mount("bind", "/ro", str(tmp_path / "ro"), readonly=True), Mount("tmpfs", "/t")]
    _, text = box.run("sh", "-c", "touch /rw/x; touch /ro/x; touch /t/x; stat -f -c %T /t", mounts=mounts)
    assert (tmp_path / "rw/x").exists() and "touch: /ro/x: Read-only file system" in text and "tmpfs" in text


def test_what_is_mounted_in_a_shared_bind_reaches_the_host(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "shared"
    source.mkdir()
    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        mounts = [Mount("bind", "/shared", str(source), options=("rshared",))]
        box.start("sh", "-c", "mkdir /shared/inside && mount -t tmpfs x /shared/inside && sleep 100", mounts=mounts, privileged=True)
        eventually(lambda: os.path.ismount(source / "inside"))
    finally:
        box.end()
        subprocess.run(["umount", "-R", source], check=True)


# What may differ between the embedded runtime and runc or crun, with the reason.
EXPLAINED = [
    (r"root-dir .*", "runc makes /dev/console and mount points itself where the init layer lacks them"),
    (r"mount / type=overlay .*", "the root is private here, a slave there"),
    (
        r"mount /sys/fs/cgroup\S* type=(tmpfs|cgroup2?) .*",
        "runc shows the directory of the hierarchies read-only last, and joint ones by links",
    ),
    (r"path /sys/fs/cgroup\S* .*", "see above"),
    (r"cgdir \S+ .*", "runc joins the unified hierarchy of a hybrid host only where it is mounted at its own place"),
    (r"(cgdev|devcg) .*tun.*|cgdev c 10:200 rwm", "runc adds the tun device to every container's rules"),
    (r"(cgdev|cgval) .*", "the order and doubling of device rules"),
    (r"dev \./console .*", "the console file is made only with a terminal"),
    (r"status (Seccomp_filters|THP_enabled|CoreDumping).*", "libseccomp loads one filter more where calls are unknown to it"),
    (r"path /sys/(kernel|module|fs)\S* .*", "mounts that the host has below /sys at this moment"),
    (r"limit .*", "what is inherited from who started it"),
]


@pytest.mark.peer
@pytest.mark.parametrize("name", ["runc"])
def test_a_process_sees_the_same_under_runc(boxes: Callable[[], Box], name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    embedded, other = boxes(), boxes()
    other.program = Program(str(shutil.which(name)))
    different = unexplained(fingerprint(embedded), fingerprint(other), [pattern for pattern, _ in EXPLAINED])
    assert not different, "\n".join(different)


# --- names


def test_names_and_paths_of_runtimes(own_program: Program, tmp_path: Path) -> None:
    runtimes = Runtimes(added={"mine": own_program})
    assert runtimes.program("") is None and runtimes.program("lamina") is None
    assert runtimes.program("mine") == own_program and runtimes.program(own_program.path) == own_program
    for name in ("nosuch", "runsc", "../runc", str(tmp_path), str(tmp_path / "absent")):
        with pytest.raises(UnknownRuntime, match="unknown or invalid runtime name: "):
            runtimes.program(name)
    assert runtimes.document()["mine"] == {"path": own_program.path}
    assert Runtimes("mine", {"mine": own_program}).program("") == own_program


def test_a_program_that_is_no_runtime_is_one_sentence_and_leaves_nothing(boxes: Callable[[], Box]) -> None:
    box = boxes()
    box.program = Program("/bin/false")
    with pytest.raises(RuntimeFailed, match="/bin/false create ended with code 1"):
        box.start("true")
    box.program = Program("/no/such/program")
    with pytest.raises(RuntimeFailed, match="cannot run the runtime /no/such/program"):
        box.start("true")
    assert not left_behind(box)


@pytest.mark.parametrize("terminal", [False, True])
def test_exec_works_where_processes_may_trace(box: Box, terminal: bool) -> None:
    box.start("sleep", "100", cap_add=["SYS_PTRACE"])
    code, text = box.exec("sh", "-c", "id -u; pwd; test -t 0 && echo terminal; exit 5", user="7:8", cwd="/etc", tty=terminal)
    assert (code, text.split()) == (5, ["7", "/etc", "terminal"][: 2 + terminal])
    with pytest.raises((CommandNotFound, RuntimeFailed)):
        box.exec("nosuch")


def test_a_runtime_that_makes_nothing_is_said(boxes: Callable[[], Box]) -> None:
    made = boxes()
    made.program = Program("/bin/true")
    with pytest.raises(RuntimeFailed, match="named no process"):
        made.start("true")


def test_a_runtime_that_never_answers_is_given_up(boxes: Callable[[], Box], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, pid = tmp_path / "silent", tmp_path / "pid"
    program.write_text(f'#!/bin/sh\ncase "$*" in *delete*) exit 0;; esac\necho $$ >{pid}\nexec sleep 1000\n')
    program.chmod(0o755)
    box = boxes()
    box.program = Program(str(program))
    monkeypatch.setattr(client, "_START_TIMEOUT", 2.0)
    with pytest.raises(RuntimeFailed, match="did not start within"):
        box.start("true")
    eventually(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    assert not left_behind(box)
