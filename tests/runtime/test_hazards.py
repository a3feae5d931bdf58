"""What has gone wrong in container runtimes before, or did in trials of this one: each with its test."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import Box, eventually
from lamina.errors import LaminaError
from lamina.runtime import beginning, cgroup, interpreter, reports
from lamina.runtime.client import Runtime
from lamina.runtime.launch import Attach, CommandNotFound, Exit, Mount, RuntimeFailed
from lamina.runtime.plan import InvalidSpec

pytestmark = pytest.mark.root


def zygote_pid(runtime: Runtime) -> int:
    runtime._zygote.warm()
    assert runtime._zygote._process is not None
    return runtime._zygote._process.pid


def bare(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in the interpreter as the zygote's is started."""
    start = f"import sys; sys.path.insert(0, {interpreter.SOURCE!r}); {code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, check=False)


# --- the zygote


def test_the_zygote_has_one_thread_and_refuses_to_have_more(runtime: Runtime) -> None:
    assert os.listdir(f"/proc/{zygote_pid(runtime)}/task") == [str(zygote_pid(runtime))]
    done = bare("import _thread, time; _thread.start_new_thread(time.sleep, (5,)); from lamina.runtime import zygote; zygote.close_doors()")
    assert "the zygote has 2 threads" in done.stderr


def test_nothing_can_be_imported_after_the_doors_are_closed() -> None:
    done = bare("from lamina.runtime import zygote; zygote.close_doors(); import colorsys")
    assert "ModuleNotFoundError" in done.stderr
    done = bare("from lamina.runtime import zygote; zygote.close_doors(); b'x'.decode('cp037')")
    assert "LookupError" in done.stderr


def test_the_zygote_imports_nothing_slow() -> None:
    done = bare("import lamina.runtime.zygote; print(*sys.modules)")
    heavy = {
        "typing",
        "re",
        "enum",
        "json",
        "dataclasses",
        "socket",
        "subprocess",
        "threading",
        "pathlib",
        "logging",
        "collections",
        "signal",
    }
    assert not heavy & set(done.stdout.split()), done.stderr


def test_an_image_cannot_make_the_runtime_import_its_code(box: Box) -> None:
    for name in ("encodings", "site-packages"):
        folder = box.directory / "upper/usr/lib/python3" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("open('/owned', 'w')")
    for name in ("sitecustomize.py", "grp.py", "pwd.py", "traceback.py"):
        (box.directory / "upper" / name).write_text("open('/owned', 'w')")
    with pytest.raises(CommandNotFound):
        box.start("nosuch")
    box.run("true", env=["PYTHONPATH=/", "PYTHONSTARTUP=/grp.py"])
    assert not (box.directory / "upper/owned").exists()


def test_the_zygote_runs_from_a_sealed_copy_that_nobody_can_write(runtime: Runtime) -> None:
    executable = os.readlink(f"/proc/{zygote_pid(runtime)}/exe")
    assert executable.startswith("/memfd:lamina")
    with pytest.raises(OSError):
        os.open(f"/proc/{zygote_pid(runtime)}/exe", os.O_WRONLY)
    fd = interpreter.sealed_copy("/bin/sh")
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_zygote_and_monitors_cannot_be_looked_into(box: Box) -> None:
    box.start("sleep", "100")
    monitor = json.loads((box.directory / "monitor.json").read_text())["monitor"]
    # An undumpable process's files in /proc belong to root whoever it runs as; here both are root, so ask as nobody.
    probe = "import os; os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); os.readlink('/proc/%d/exe')"
    for pid in (zygote_pid(box.runtime), monitor):
        done = subprocess.run([sys.executable, "-c", probe % pid], capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr


PROBE = """
import os
from lamina.linux import channel, prctl
from lamina.runtime import zygote
mine, theirs = channel.pair()
pid = os.fork()
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
prctl._prctl("PR_SET_DUMPABLE", 4, 1)
if pid == 0:
    os.dup2(theirs.fileno(), 0)
    mine.close()
    theirs.close()
    zygote.main()
    os._exit(0)
mine.recv(30)
try:
    print("seen", os.readlink(f"/proc/{pid}/exe"))
except PermissionError:
    print("refused")
mine.close()
theirs.close()
os.waitpid(pid, 0)
"""


def test_the_zygote_cannot_be_looked_into_by_its_own_user() -> None:
    """What joins a container may be of a user that is in there as well: it is not ids that keep others out."""
    done = bare(f"exec({PROBE!r})")
    assert done.stdout == "refused\n", done.stderr


def test_the_zygote_is_started_again_when_it_was_killed(box: Box) -> None:
    pid = zygote_pid(box.runtime)
    os.kill(pid, signal.SIGKILL)
    assert box.run("true")[0] == 0
    assert zygote_pid(box.runtime) != pid


def spares(pid: int) -> list[int]:
    """The forks of a zygote that wait for a message."""
    found = []
    for child in children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/comm").read_text() == "lamina-spare\n":
                found.append(child)
    return found


def children(pid: int) -> list[int]:
    """Of a process's first thread."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_a_fork_is_made_before_it_is_needed_and_another_after_it_was_taken(box: Box) -> None:
    pid = zygote_pid(box.runtime)
    eventually(lambda: len(spares(pid)) == 1)
    taken = spares(pid)
    box.start("sleep", "100")
    assert json.loads((box.directory / "monitor.json").read_text())["monitor"] == taken[0]
    eventually(lambda: len(spares(pid)) == 1 and spares(pid) != taken)


def test_the_fork_after_a_brief_one_has_rehearsed_and_holds_nothing_of_it(box: Box) -> None:
    """What it is to write to is its own memory before it is asked (see beginning.rehearse)."""
    pid = zygote_pid(box.runtime)
    box.start("sleep", "100")
    eventually(lambda: len(spares(pid)) == 1)
    first = spares(pid)[0]
    time.sleep(0.2)  # it waits by then
    before, held = own_memory(first), len(os.listdir(f"/proc/{first}/fd"))
    box.exec("true")
    eventually(lambda: len(spares(pid)) == 1 and spares(pid) != [first])
    second = spares(pid)[0]
    eventually(lambda: own_memory(second) > before + 400)
    eventually(lambda: len(os.listdir(f"/proc/{second}/fd")) == held)
    assert Path(f"/proc/{second}/mountinfo").read_text() == Path("/proc/self/mountinfo").read_text()


def test_a_launch_that_was_killed_half_way_is_tried_again_on_the_same_layers(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitor and zygote were killed once the root was mounted without syncing, which the kernel remembers."""
    zygote, killed = box.runtime._zygote, []
    send = zygote.send

    def sent(body: bytes, fds: Sequence[int]) -> None:
        if killed:
            send(body, fds)
            return
        killed.append(True)
        (box.directory / "work/work/incompat/volatile").mkdir(parents=True)
        (box.directory / "work/work/incompat/volatile/dirty").touch()

    monkeypatch.setattr(zygote, "send", sent)
    monkeypatch.setattr(zygote, "died", lambda: True)
    assert box.run("true", volatile=True, brief=True)[0] == 0
    assert killed


def started_monitor(box: Box) -> int:
    """The monitor of a container that was just started; it has seen its launcher off."""
    process = box.start("sleep", "100")
    monitor = int(json.loads((box.directory / "monitor.json").read_text())["monitor"])
    eventually(lambda: children(monitor) == [process.pid])
    return monitor


def test_what_lives_for_long_has_no_monitor_that_rehearsed(box: Box, boxes: Callable[[], Box]) -> None:
    pid = zygote_pid(box.runtime)
    usual = started_monitor(box)
    box.exec("true")
    eventually(lambda: len(spares(pid)) == 1)
    rehearsed = spares(pid)
    monitor = started_monitor(boxes())
    assert monitor not in rehearsed
    eventually(lambda: len(spares(pid)) == 1 and not set(spares(pid)) & {*rehearsed, monitor})
    eventually(lambda: len(os.listdir(f"/proc/{monitor}/fd")) == len(os.listdir(f"/proc/{usual}/fd")))


def own_memory(pid: int) -> int:
    """Kilobytes that no other process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


def test_a_rehearsal_goes_through_all_that_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may fail without a word, so that nobody misses the fork; then it would be of no use."""
    seen: list[str] = []
    limit = cgroup.Cgroup.limit
    monkeypatch.setattr(cgroup.Cgroup, "limit", lambda self, resources: seen.append(str(limit(self, resources))))
    before = len(os.listdir("/proc/self/fd"))
    beginning.rehearse(cgroup.here())
    assert seen == ["None"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fork_that_was_killed_while_it_waited_is_not_missed(box: Box, boxes: Callable[[], Box]) -> None:
    pid = zygote_pid(box.runtime)
    eventually(lambda: len(spares(pid)) == 1)
    killed = spares(pid)[0]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{killed}"))
    monitor = started_monitor(box)
    assert zygote_pid(box.runtime) == pid
    usual = started_monitor(boxes())
    eventually(lambda: len(os.listdir(f"/proc/{monitor}/fd")) == len(os.listdir(f"/proc/{usual}/fd")))


def test_the_fork_that_waits_ends_with_its_zygote(box: Box) -> None:
    pid = zygote_pid(box.runtime)
    eventually(lambda: len(spares(pid)) == 1)
    spare = os.pidfd_open(spares(pid)[0])
    os.kill(pid, signal.SIGKILL)
    assert select.select([spare], [], [], 120)[0]
    os.close(spare)
    assert box.run("true")[0] == 0


# --- escapes of the past


def test_a_script_that_names_proc_self_exe_gets_nothing_of_the_hosts(box: Box) -> None:
    """CVE-2019-5736."""
    (box.directory / "upper").mkdir()
    script = box.directory / "upper/escape"
    script.write_text("#!/proc/self/exe\nimport os; os.mkdir('/escaped')\n")
    script.chmod(0o755)
    with pytest.raises(LaminaError):
        box.start("/escape")
        assert box.process is not None
        end = box.process.wait(60)
        assert end is not None and end.code != 0
        raise CommandNotFound("it ran without effect")
    assert not (box.directory / "upper/escaped").exists()


def test_an_exec_of_proc_self_exe_gets_nothing_of_the_hosts(box: Box) -> None:
    box.start("sleep", "100")
    upper = box.directory / "upper/escape"
    upper.write_text("#!/proc/self/exe\nimport os; os.mkdir('/escaped')\n")
    upper.chmod(0o755)
    try:
        assert box.exec("/escape")[0] != 0
    except LaminaError:
        pass
    assert not (box.directory / "upper/escaped").exists()


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_symlinks_in_place_of_the_kernels_directories_are_refused(box: Box, name: str) -> None:
    """CVE-2023-27561, CVE-2025-52881: a link at /proc would move what is mounted and written there; CVE-2026-41579: one at /dev."""
    (box.directory / "upper").mkdir()
    (box.directory / "upper/elsewhere").mkdir()
    box.launch(["true"])
    (box.directory / "init" / name).rmdir() if not any((box.directory / "init" / name).iterdir()) else None
    (box.directory / "upper" / name).symlink_to("elsewhere")
    with pytest.raises(RuntimeFailed):
        box.start("true")


def test_symlinked_mount_targets_stay_inside(box: Box, tmp_path: Path) -> None:
    """CVE-2021-30465 and its like."""
    (tmp_path / "source").mkdir()
    (tmp_path / "file").write_text("content")
    (box.directory / "upper/inside").mkdir(parents=True)
    (box.directory / "upper/target").symlink_to("/../../../../../inside")
    (box.directory / "upper/dangling").symlink_to("../../../lamina-made-outside")
    mounts = [Mount("bind", "/target", str(tmp_path / "source")), Mount("bind", "/dangling", str(tmp_path / "file"))]
    code, text = box.run("sh", "-c", "touch /inside/x && cat /lamina-made-outside", mounts=mounts)
    assert (code, text) == (0, "content") and (tmp_path / "source/x").exists()
    assert not Path("/lamina-made-outside").exists()


@pytest.mark.parametrize("target", ["/proc/self", "/proc/sys/kernel", "/proc/1/attr", "/proc"])
def test_nothing_can_be_put_over_proc(box: Box, tmp_path: Path, target: str) -> None:
    """CVE-2019-19921, CVE-2023-27561."""
    with pytest.raises(InvalidSpec, match="inside /proc"):
        box.start("true", mounts=[Mount("bind", target, str(tmp_path))])


def test_a_fake_null_device_does_not_mask(box: Box, tmp_path: Path) -> None:
    """CVE-2025-31133: what masks must be the null device itself."""
    from lamina.linux import mount
    from lamina.runtime import init

    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev/null").write_text("")
    fd = os.open(root, os.O_PATH)
    with pytest.raises(OSError, match="not the null device"):
        init.mask({"/": fd}, ["/x"])
    (root / "dev/null").unlink()
    (root / "dev/null").symlink_to("/dev/null")
    with pytest.raises(OSError):
        init.mask({"/": fd}, ["/x"])
    os.close(fd)
    assert mount and box


def test_the_console_is_the_terminal_whatever_the_image_puts_there(box: Box) -> None:
    """CVE-2025-52565: /dev/console by a descriptor from TIOCGPTPEER, no path."""
    (box.directory / "upper/dev").mkdir(parents=True)
    (box.directory / "upper/dev/console").symlink_to("/etc/hosts")
    (box.directory / "upper/dev/pts").mkdir()
    (box.directory / "upper/dev/pts/0").write_text("fake")
    _, text = box.run("sh", "-c", "stat -c %t:%T /dev/console /dev/pts/0; grep -c /dev/console /proc/self/mountinfo", tty=True)
    assert text.split() == ["88:0", "88:0", "1"]


def test_the_console_is_not_what_lies_at_the_terminals_path(box: Box, tmp_path: Path) -> None:
    """CVE-2025-52565: here something else lies there by the time that it is made."""
    (tmp_path / "fake").write_text("fake")
    mounts = [Mount("bind", "/dev/pts/0", str(tmp_path / "fake"))]
    _, text = box.run("sh", "-c", "stat -c %F /dev/console /dev/pts/0", tty=True, mounts=mounts)
    assert text.splitlines() == ["character special file", "regular file"]


def test_writes_to_proc_do_not_go_through_what_is_mounted_at_proc() -> None:
    """CVE-2025-52881: a procfs of its own, attached nowhere."""
    from lamina.runtime import init

    slots: dict[str, object] = {}
    init.private_proc(slots)
    assert isinstance(slots["proc"], int)
    fd = os.open("self/mountinfo", os.O_RDONLY, dir_fd=slots["proc"])
    with open(fd) as lines:  # a page at a time
        kinds = [line.split(" - ")[1].split()[0] for line in lines]
    before = Path("/proc/self/mountinfo").read_text().count(" - proc ")
    assert kinds.count("proc") == before
    assert os.fstat(slots["proc"]).st_dev != os.stat("/proc").st_dev
    os.close(slots["proc"])


@pytest.mark.parametrize("number", [3, 5, 7, 8, 10, 15])
def test_the_working_directory_cannot_be_a_descriptor_of_the_hosts(box: Box, number: int) -> None:
    """CVE-2024-21626."""
    with pytest.raises(RuntimeFailed):
        box.start("true", cwd=f"/proc/self/fd/{number}")


def test_exec_cannot_start_in_a_descriptor_of_the_hosts(box: Box) -> None:
    box.start("sleep", "100")
    for number in range(3, 20):
        with pytest.raises(RuntimeFailed):
            box.exec("true", cwd=f"/proc/self/fd/{number}")


def test_exec_leaks_no_descriptor(box: Box) -> None:
    box.start("sleep", "100")
    _, text = box.exec("sh", "-c", "ls /proc/self/fd | wc -l; ls /proc/$$/fd")
    assert text.split()[:4] == ["4", "0", "1", "2"] and set(text.split()[4:]) <= {"3", "10"}  # the shell's own, or its directory's


def test_an_exec_that_is_being_set_up_cannot_be_looked_into(box: Box) -> None:
    """Its memory and descriptors are the host's until execve: undumpable before it joins."""
    box.start("sh", "-c", "while :; do for p in /proc/[0-9]*; do readlink $p/exe; ls -l $p/fd 2>/dev/null; done; done")
    for _ in range(20):
        assert box.exec("true")[0] == 0
    log = (box.directory / "log").read_text()
    assert str(box.directory) not in log and "/containers/" not in log


@pytest.mark.parametrize("terminal", [False, True])
def test_not_even_by_who_may_trace(box: Box, terminal: bool) -> None:
    """CAP_SYS_PTRACE looks into the undumpable, too: what joins is seen only when it holds no more than the container does."""
    (box.directory / "secret").write_text("of the host")
    look = f"[ -e $p/root{box.directory}/secret ] && echo SEEN; for f in $p/fd/*; do [ -e $f{'/..' * 12}{box.directory}/secret ] && echo SEEN; done"
    caps = '[ "$p" = /proc/$$ ] || while read -r name value; do [ "$name" = CapEff: ] && echo $value; done < $p/status'
    script = f"while :; do for p in /proc/[0-9]*; do {look}; {caps}; done; done 2>/dev/null"
    box.start("sh", "-c", script, cap_add=["SYS_PTRACE"])
    for _ in range(30):
        code, text = box.exec("sh", "-c", "echo ran; test -t 0 && echo terminal; exit 3", tty=terminal)
        assert (code, text.split()) == (3, ["ran", "terminal"][: 1 + terminal])
    log = (box.directory / "log").read_text()
    assert "SEEN" not in log
    assert {int(value, 16) for value in re.findall(r'"log":"(\w{16})', log)} <= {0xA80425FB | 1 << 19, 0}


def test_devices_in_layers_cannot_be_opened(box: Box) -> None:
    (box.directory / "upper").mkdir()
    os.mknod(box.directory / "upper/disk", 0o60666, os.makedev(254, 0))
    os.mknod(box.directory / "upper/memory", 0o20666, os.makedev(1, 1))
    _, text = box.run("sh", "-c", "head -c 1 /disk; head -c 1 /memory")
    assert text.count("Operation not permitted") == 2


def test_hardlinks_and_copies_up_leave_the_image_alone(box: Box) -> None:
    before = (box.image / "bin/busybox").read_bytes()
    box.run("sh", "-c", "ln /bin/busybox /other; echo x >> /other; chmod 600 /bin/busybox; rm /bin/ls")
    assert (box.image / "bin/busybox").read_bytes() == before and (box.image / "bin/ls").is_symlink()


# --- processes


def test_ignored_signals_are_given_back(box: Box) -> None:
    """The interpreter ignores SIGPIPE and SIGXFSZ; `yes | head` would never end."""
    _, text = box.run("sh", "-c", "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status")
    ignored = int(text.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
    assert text.split()[3] == "0000000000000000"


@pytest.mark.parametrize("brief", [False, True], ids=["", "brief"])
def test_the_container_dies_with_its_monitor(box: Box, brief: bool) -> None:
    process = box.start("sleep", "100", brief=brief)
    monitor = json.loads((box.directory / "monitor.json").read_text())["monitor"]
    os.kill(monitor, signal.SIGKILL)
    end = process.wait(60)
    assert isinstance(end, Exit) and end.code == 137 and "monitor" in end.error
    eventually(lambda: not Path(f"/proc/{process.pid}/root/bin").exists())
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina-test/{box.name}"))


def test_a_process_that_changed_its_user_dies_with_its_monitor_too(box: Box) -> None:
    process = box.start("sleep", "100", user="12:12")
    os.kill(json.loads((box.directory / "monitor.json").read_text())["monitor"], signal.SIGKILL)
    process.wait(60)
    eventually(lambda: not Path(f"/proc/{process.pid}/root/bin").exists())


@pytest.fixture
def second(tmp_path: Path) -> Callable[[], Runtime]:
    return lambda: Runtime(str(tmp_path / "run2"))


DAEMON = """
import json, os, socket, sys, time
sys.path[:0] = json.loads(sys.argv[2])
from pathlib import Path
from conftest import Box
from lamina.runtime.client import Runtime
from lamina.runtime.launch import Attach
directory, image = Path(sys.argv[1]), Path(sys.argv[3])
box = Box(Runtime(str(directory / "run")), directory, image, sys.argv[4])
theirs = socket.socket(fileno=int(sys.argv[5]))
box.start("sh", "-c", "while read x; do echo got $x; done; exit 7", open_stdin=True, attaches=[Attach(theirs.fileno(), stdin=True, framed=False)])
theirs.close()
(directory / "spec.json").write_text(json.dumps(box.spec))
print("started", flush=True)
time.sleep(100)
"""


def earlier_version(directory: Path) -> str:
    """A copy of the sources whose messages have a smaller number, and more in them than anybody asks for."""
    shutil.copytree(Path(interpreter.SOURCE, "lamina"), directory / "lamina", symlinks=True)
    for name, old, new in (
        ("linux/channel.py", "\nVERSION = 1\n", "\nVERSION = 0\n"),
        ("runtime/monitor.py", 'message = {"event": event, ', 'message = {"event": event, "unheard": 1, '),
    ):
        path = directory / "lamina" / name
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
    return str(directory)


@pytest.mark.parametrize("version", ["the same", "an earlier one"])
def test_everything_goes_on_when_daemon_and_zygote_are_killed(
    box: Box, second: Callable[[], Runtime], version: str, tmp_path: Path
) -> None:
    """And an upgraded daemon finds it: monitors stay those of the version that started them."""
    mine, theirs = socket.socketpair()
    where = [earlier_version(tmp_path / "earlier")] if version != "the same" else []
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(box.directory), json.dumps([*where, *sys.path]), str(box.image), box.name, str(theirs.fileno())],
        stdout=subprocess.PIPE, pass_fds=[theirs.fileno()], cwd="/",
    )  # fmt: skip
    theirs.close()
    assert daemon.stdout is not None and daemon.stdout.readline() == b"started\n"
    mine.settimeout(120)
    mine.sendall(b"one\n")
    assert mine.recv(100) == b"got one\n"
    zygotes = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    daemon.kill()
    daemon.wait()
    for pid in zygotes:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    mine.sendall(b"two\n")
    assert mine.recv(100) == b"got two\n"
    later = second()
    process = later.adopt(str(box.directory))
    assert process is not None and not isinstance(process, Exit)
    box.runtime, box.process, box.spec = later, process, json.loads((box.directory / "spec.json").read_text())
    assert box.exec("echo", "from the second") == (0, "from the second\n")
    new, other = socket.socketpair()
    process.attach(Attach(other.fileno(), stdin=True, framed=False, logs=True))
    other.close()
    new.settimeout(120)
    replayed = b""
    while len(replayed) < 16:
        replayed += new.recv(1000)
    assert replayed == b"got one\ngot two\n"
    process.signal(9)
    end = process.wait(60)
    new.close()  # not before: with it the container's input ends
    mine.close()
    assert end is not None and end.code == 137
    assert later.adopt(str(box.directory)) == end
    later.close()


def test_a_container_that_ends_while_no_daemon_lives_is_recorded(box: Box, second: Callable[[], Runtime]) -> None:
    first = second()
    box.runtime = first
    box.start("sh", "-c", "sleep 0.3; exit 9")
    first.close()
    box.process = None  # its end is not told to who has closed
    eventually(lambda: (box.directory / "exit.json").exists())
    later = second()
    end = later.adopt(str(box.directory))
    assert isinstance(end, Exit) and end.code == 9
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina-test/{box.name}"))
    later.close()


def test_a_container_whose_monitor_died_with_the_daemon_is_buried(box: Box, second: Callable[[], Runtime]) -> None:
    first = second()
    box.runtime = first
    box.start("sleep", "100")
    record = json.loads((box.directory / "monitor.json").read_text())
    first.close()
    box.process = None  # its end is not told to who has closed
    os.kill(record["monitor"], signal.SIGKILL)
    later = second()
    end = later.adopt(str(box.directory))
    assert isinstance(end, Exit) and end.code == 137
    assert later.adopt(str(box.directory)) is None
    later.close()


def test_four_at_a_time(boxes: Callable[[], Box]) -> None:
    import threading

    results: list[tuple[int, str]] = []

    def run(box: Box) -> None:
        results.append(box.run("sh", "-c", "echo hi"))

    threads = [threading.Thread(target=run, args=(boxes(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [(0, "hi\n")] * 4


def proportional(pids: list[int]) -> int:
    """The sum of their proportional set sizes, kilobytes."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def test_a_monitor_is_small(boxes: Callable[[], Box], runtime: Runtime) -> None:
    """What one more container costs: under 2 MB."""
    running, sizes = [zygote_pid(runtime)], []
    for _ in range(4):
        box = boxes()
        process = box.start("sleep", "100")
        monitor = json.loads((box.directory / "monitor.json").read_text())["monitor"]
        running.append(monitor)
        # Until then there are more or fewer processes that share what they have.
        eventually(lambda monitor=monitor, pid=process.pid: children(monitor) == [pid] and len(spares(running[0])) == 1)
        sizes.append(proportional(running))
    assert (sizes[3] - sizes[0]) / 3 < 2048, sizes


def test_a_full_backlog_of_a_dead_client_does_not_stop_the_cleaning_up(box: Box) -> None:
    mine, theirs = socket.socketpair()
    process = box.start("sh", "-c", "yes | head -c 3000000; exit 5", attaches=[Attach(theirs.fileno(), framed=False)])
    theirs.close()
    assert process.wait(0.2) is None
    mine.close()
    end = process.wait(60)
    assert end is not None and end.code == 5


def _stopping(times: int) -> tuple[int, int]:
    """A process that stops itself so often before it "executes", and its report."""
    report, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.close(told)
    return report, pid


@pytest.mark.parametrize(("times", "said"), [(0, b""), (2, b""), (10_000, b"kept it from executing")])
def test_who_is_stopped_before_it_executes_is_woken_but_not_for_ever(monkeypatch: pytest.MonkeyPatch, times: int, said: bytes) -> None:
    monkeypatch.setattr(reports, "_LOOK", 0.02)
    report, pid = _stopping(times)
    try:
        found = reports.executed(report, pid)
        assert found.endswith(said) if said else not found
    finally:
        os.close(report)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("name", ["exit.json", "monitor.json"])
@pytest.mark.parametrize("text", ["5", "[]", '{"code": 1}', "x", '{"pid": "x", "started": 1, "cgroup": 5}'])
def test_a_damaged_record_is_none(runtime: Runtime, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert runtime.adopt(str(tmp_path)) is None
