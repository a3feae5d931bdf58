"""The daemon as a service of systemd, where systemd runs this machine and has no Lamina of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lamina.daemon import service
from lamina.runtime import apparmor
from tests.harness import Daemon, eventually, run, script
from tests.system.conftest import BASE
from tests.system.test_survival import NONE, line, say, spawn

PATIENCE = 300.0
"""Seconds for what systemd does: an emulated machine needs a minute for a start of the daemon."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="systemd does not run this machine"),
    pytest.mark.skipif(os.path.exists(service.UNIT), reason="this machine has a service of Lamina's already"),
]


@contextmanager
def service_of(daemon: Daemon, *command: str, base: Path) -> Iterator[Daemon]:
    """The daemon as a service, which `command` installs, with a busybox image; gone at the end, unit and all."""
    daemon.root.mkdir()
    options = daemon.command()[len(script("laminad")) :]
    run([*command, *options], dict(os.environ), timeout=PATIENCE)
    try:
        eventually(daemon.answers, "the service does not answer", seconds=PATIENCE)
        daemon.docker("import", str(base), BASE)
        yield daemon
    finally:
        ids = daemon.docker("ps", "-aq", code=None).stdout.split()
        if ids:
            daemon.docker("rm", "-f", *ids, code=None)
        service.uninstall()
        daemon.start().remove()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Daemon]:
    """A daemon that `lamina system service install` started."""
    with service_of(
        Daemon(tmp_path_factory.mktemp("served") / "d"), *script("lamina"), "system", "service", "install", "--", base=base
    ) as daemon:
        yield daemon


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words, "lamina.service"], capture_output=True, text=True, check=False).stdout.strip()


def main_pid() -> str:
    return systemctl("show", "-p", "MainPID", "--value")


def again(daemon: Daemon, *verb: str) -> None:
    """What ends the daemon; returns when systemd has started another one, which answers."""
    before = main_pid()
    systemctl(*verb)
    eventually(lambda: main_pid() not in (before, "0"), "systemd did not start it again", seconds=PATIENCE)
    eventually(daemon.answers, "the service does not answer", seconds=PATIENCE)


class Company:
    """A container with a log, a client attached to it, and an exec with another."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.attached = spawn(
            daemon, "run", "-i", "--name", "talker", *NONE, BASE, "sh", "-c", "while read x; do echo heard $x; done; exit 6"
        )
        self.said: list[str] = []
        self.hears(self.attached, "one")
        self.execed = spawn(daemon, "exec", "-i", "talker", "sh", "-c", "while read x; do echo heard $x; done")
        self.pid = self.inspected("Pid")

    def hears(self, client: subprocess.Popen[bytes], word: str) -> None:
        """Say a word by a client, and have it back."""
        say(client, f"{word}\n".encode())
        assert line(client) == f"heard {word}\n".encode()
        if client is self.attached:
            self.said.append(word)

    def inspected(self, key: str) -> str:
        return self.daemon.docker("inspect", "-f", f"{{{{.State.{key}}}}}", "talker").stdout.strip()

    def goes_on(self, word: str) -> None:
        """The same process runs; both clients, the log and new execs have it."""
        assert (self.inspected("Running"), self.inspected("Pid")) == ("true", self.pid)
        self.hears(self.attached, word)
        self.hears(self.execed, word)
        assert self.daemon.docker("logs", "talker").stdout == "".join(f"heard {word}\n" for word in self.said)
        assert self.daemon.docker("exec", "talker", "echo", word).stdout == f"{word}\n"

    def ends(self) -> None:
        """The input ends, and with it the container, whose exit code is told."""
        for client in (self.execed, self.attached):
            assert client.stdin is not None
            client.stdin.close()
        assert self.daemon.docker("wait", "talker").stdout == "6\n"
        for client in (self.execed, self.attached):
            client.wait(PATIENCE)
        self.daemon.docker("rm", "talker")


def test_containers_their_logs_clients_and_execs_go_on_while_the_service_is_restarted_killed_and_stopped(served: Daemon) -> None:
    company = Company(served)
    assert systemctl("is-active") == "active"
    again(served, "restart")
    company.goes_on("restarted")
    again(served, "kill", "--signal=KILL", "--kill-who=main")
    company.goes_on("killed")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    systemctl("stop")
    assert systemctl("is-active") == "inactive"
    assert not served.answers()
    company.hears(company.attached, "stopped")
    systemctl("start")
    eventually(served.answers, "the service does not answer", seconds=PATIENCE)
    company.goes_on("started")
    company.ends()


def test_limits_hold_below_the_service_change_while_running_and_stay_when_systemd_reloads(served: Daemon) -> None:
    limits = ["-m", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0"]
    served.docker("run", "-d", "--name", "limited", *NONE, *limits, BASE, "sleep", "10000")

    def held() -> list[str]:
        files = "memory.max cpu.max pids.max cpuset.cpus" if unified() else "memory/memory.limit_in_bytes cpu*/cpu.cfs_quota_us pids/pids.max cpuset/cpuset.cpus"  # fmt: skip
        return [
            found.split()[0]
            for found in served.docker("exec", "limited", "sh", "-c", f"cd /sys/fs/cgroup; cat {files}").stdout.splitlines()
        ]

    assert held() == [str(64 << 20), "50000", "20", "0"]
    served.docker("update", "-m", "48m", "--memory-swap", "48m", "--cpus", "0.25", "--pids-limit", "30", "limited")
    changed = [str(48 << 20), "25000", "30", "0"]
    assert held() == changed
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    again(served, "restart")
    assert held() == changed
    served.docker("update", "--pids-limit", "31", "limited")
    assert held()[2] == "31"
    shell = "cat /dev/zero | head -c 100m | tail > /dev/null; echo survived; sleep 10000"
    served.docker("run", "-d", "--name", "hungry", *NONE, "-m", "24m", "--memory-swap", "24m", BASE, "sh", "-c", shell)
    eventually(lambda: told(served, "hungry", "OOMKilled") == "true", "nobody noticed that memory ran out", seconds=PATIENCE)
    assert told(served, "hungry", "Running") == "true"
    served.docker("rm", "-f", "limited", "hungry")


def told(daemon: Daemon, name: str, key: str) -> str:
    return daemon.docker("inspect", "-f", f"{{{{.State.{key}}}}}", name).stdout.strip()


def unified() -> bool:
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def test_the_default_profile_confines_containers_of_the_service(served: Daemon) -> None:
    if not apparmor.enabled() or shutil.which("apparmor_parser", path="/usr/sbin:/sbin") is None:
        pytest.skip("no AppArmor here")
    current = ["cat", "/proc/self/attr/current"]
    assert served.docker("run", "--rm", *NONE, BASE, *current).stdout.strip() == f"{apparmor.DEFAULT} (enforce)"
    assert served.docker("run", "--rm", *NONE, "--security-opt", "apparmor=unconfined", BASE, *current).stdout.strip() == "unconfined"
    assert "name=apparmor" in served.docker("info", "-f", "{{.SecurityOptions}}").stdout
    denied = "echo 0 > /proc/sys/kernel/core_pattern; mount -t tmpfs x /tmp && echo mounted; true"
    done = served.docker("run", "--rm", *NONE, "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", BASE, "sh", "-c", denied)
    assert "mounted" not in done.stdout
