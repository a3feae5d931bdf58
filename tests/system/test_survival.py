"""What docs/architecture.md says outlives the daemon does outlive a SIGKILL of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.harness import Daemon, docker_cli, eventually
from tests.system.conftest import BASE

NONE = ("--network", "none")


def spawn(daemon: Daemon, *arguments: str) -> subprocess.Popen[bytes]:
    """A docker CLI with pipes, left running."""
    return subprocess.Popen(
        [docker_cli(), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=daemon.environment(),
        bufsize=0,
    )


def line(process: subprocess.Popen[bytes]) -> bytes:
    """The next line of its output."""
    assert process.stdout is not None
    return process.stdout.readline()


def say(process: subprocess.Popen[bytes], text: bytes) -> None:
    """A line of its input."""
    assert process.stdin is not None
    process.stdin.write(text)


def test_a_container_its_log_an_attached_client_and_an_exec_outlive_the_daemon(daemon: Daemon) -> None:
    echo = "while read x; do echo heard $x; [ $x = end ] && exit 6; done"
    attached = spawn(daemon, "run", "-i", "--name", "talker", *NONE, BASE, "sh", "-c", echo)
    say(attached, b"one\n")
    assert line(attached) == b"heard one\n"
    execed = spawn(daemon, "exec", "-i", "talker", "sh", "-c", "while read x; do echo exec $x; done")
    say(execed, b"one\n")
    assert line(execed) == b"exec one\n"
    daemon.kill()
    say(attached, b"two\n")
    assert line(attached) == b"heard two\n"
    say(execed, b"two\n")
    assert line(execed) == b"exec two\n"
    daemon.start()
    assert daemon.docker("ps", "-q", "-f", "name=talker").stdout.strip()
    assert daemon.docker("logs", "talker").stdout == "heard one\nheard two\n"
    say(attached, b"end\n")
    assert line(attached) == b"heard end\n"
    assert daemon.docker("wait", "talker").stdout == "6\n"
    for process in (attached, execed):
        process.kill()
        process.communicate()


def test_an_exit_while_nobody_looked_is_told_by_the_next_daemon(daemon: Daemon, tmp_path: Path) -> None:
    daemon.docker(
        "run",
        "-d",
        "--name",
        "lonely",
        "-v",
        f"{tmp_path}:/host",
        *NONE,
        BASE,
        "sh",
        "-c",
        "while [ ! -e /host/go ]; do sleep 0.02; done; echo gone; exit 9",
    )
    daemon.kill()
    (tmp_path / "go").touch()
    eventually(lambda: list((daemon.data / "containers").glob("*/exit.json")), "no exit record")
    daemon.start()
    state = json.loads(daemon.docker("inspect", "lonely").stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)
    assert daemon.docker("logs", "lonely").stdout == "gone\n"


def test_sigterm_ends_the_daemon_in_order_and_containers_go_on(daemon: Daemon) -> None:
    daemon.docker("run", "-d", "--name", "stays", *NONE, BASE, "sleep", "1000")
    pid = json.loads(daemon.docker("inspect", "stays").stdout)[0]["State"]["Pid"]
    daemon.stop()
    assert daemon.process is not None and daemon.process.returncode == 0
    os.kill(pid, 0)
    daemon.start()
    assert json.loads(daemon.docker("inspect", "stays").stdout)[0]["State"]["Pid"] == pid
    assert daemon.docker("exec", "stays", "echo", "still").stdout == "still\n"
    daemon.docker("stop", "-t", "0", "stays")


def test_a_monitor_that_is_killed_takes_its_container_along_and_no_exit_code_is_invented(daemon: Daemon) -> None:
    daemon.docker("run", "-d", "--name", "orphan", *NONE, BASE, "sleep", "1000")
    pid = json.loads(daemon.docker("inspect", "orphan").stdout)[0]["State"]["Pid"]
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the container outlived its monitor")

    def status() -> dict[str, object]:
        return dict(json.loads(daemon.docker("inspect", "orphan").stdout)[0]["State"])

    eventually(lambda: not status()["Running"], "the state never said so")
    assert "monitor" in str(status()["Error"])


def test_a_root_that_a_daemon_holds_is_refused(daemon: Daemon) -> None:
    second = Daemon(daemon.root.parent / "second", daemon.driver)
    done = subprocess.run(
        [*second.command()[:-4], "--root", str(daemon.data), "--host", f"unix://{daemon.root}/other.sock"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert str(daemon.process.pid if daemon.process else "") in done.stderr
    assert str(daemon.data) in done.stderr


def test_a_newer_roots_version_is_refused(make_daemon: object) -> None:
    daemon: Daemon = make_daemon()  # type: ignore[operator]
    daemon.start()
    daemon.stop()
    (daemon.data / "version").write_text('{"version": 999}\n')
    done = subprocess.run(daemon.command(), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert "999" in done.stderr
