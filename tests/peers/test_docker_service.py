"""The machine's own docker.service of systemd, beside Lamina, on the machine's own networks: both have working ports, whoever starts again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.test_networks import read
from tests.docker.test_traffic import SERVERS
from tests.harness import Daemon, eventually, free_port
from tests.peers.conftest import needs
from tests.peers.test_firewalld import ASK, HERE, THERE, outside

BASE = "busybox:beside"
PATIENCE = 300.0
"""Seconds that systemd may take to start a dockerd again on a slow machine."""

__all__ = ["outside"]  # a fixture

pytestmark = pytest.mark.timeout(1800)


class Theirs(Daemon):
    """The service's dockerd, which is not ours to start or end."""

    @property
    def socket(self) -> Path:
        return Path("/run/docker.sock")


@pytest.fixture
def theirs(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    """A dockerd that systemd runs, without containers that a restart of it would end."""
    if not os.path.isdir("/run/systemd/system"):
        pytest.skip("systemd does not run this machine")
    if subprocess.run([needs("systemctl"), "is-active", "-q", "docker.service"], check=False).returncode:
        pytest.skip("docker.service does not run here")
    theirs = Theirs(tmp_path / "theirs")
    if theirs.docker("ps", "-aq").stdout:
        pytest.skip("docker.service has containers of its own")
    theirs.docker("import", str(base), BASE)
    yield theirs
    theirs.docker("rm", "-f", "theirs", code=None)
    theirs.docker("rmi", BASE, code=None)


@pytest.fixture
def ours(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    """Lamina beside it."""
    daemon = Daemon(tmp_path / "ours")
    try:
        daemon.start()
        daemon.docker("import", str(base), BASE)
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What answers in containers."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for server in started:
        server.kill()
        server.wait()


def serve(engine: Daemon, container: str) -> subprocess.Popen[bytes]:
    """Something that answers on port 80 of a running container."""
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    return subprocess.Popen(["nsenter", "-t", pid, "-n", sys.executable, "-c", SERVERS, "tcp:80"])


def rules() -> list[str]:
    """The machine's rules by iptables, without counters and Lamina's two for each bridge in the chain for others."""
    shown = subprocess.run([needs("iptables-save")], capture_output=True, text=True, check=True).stdout
    return sorted(line.partition(" [")[0] for line in shown.splitlines() if not line.startswith("#") and "lamina" not in line)


def test_both_have_working_ports_and_ways_out_whichever_starts_again(
    theirs: Daemon, ours: Daemon, servers: list[subprocess.Popen[bytes]], outside: list[str]
) -> None:
    first, second = free_port(), free_port()

    def works(engine: Daemon, name: str, port: int) -> bool:
        """From the host, from another machine, and out to it."""
        asked = subprocess.run([*outside, ASK.format(address=HERE, port=port)], capture_output=True, text=True, check=False).stdout
        leaves = engine.docker("exec", name, "nc", "-w", "5", THERE, "80", code=None).stdout
        return "80 to" in read(port) and f"to {THERE}" in asked and f"to {HERE}" in leaves

    def both_work(when: str) -> None:
        eventually(lambda: works(ours, "ours", second), f"Lamina's port or way out is closed {when}", seconds=PATIENCE)
        eventually(lambda: works(theirs, "theirs", first), f"Docker's port or way out is closed {when}", seconds=PATIENCE)

    theirs.docker("run", "-d", "--name", "theirs", "-p", f"{first}:80", BASE, "sleep", "10000")
    servers.append(serve(theirs, "theirs"))
    before = rules()
    ours.docker("run", "-d", "--name", "ours", "-p", f"{second}:80", BASE, "sleep", "10000")
    servers.append(serve(ours, "ours"))
    both_work("beside the other")
    assert rules() == before
    subprocess.run(["systemctl", "restart", "docker.service"], check=True)
    eventually(lambda: works(ours, "ours", second), "Lamina's port is closed after docker was restarted", seconds=PATIENCE)
    eventually(theirs.answers, "docker.service does not answer", seconds=PATIENCE)
    theirs.docker("start", "theirs")
    servers.append(serve(theirs, "theirs"))
    both_work("after docker was restarted")
    ours.kill()
    ours.start()
    both_work("after Lamina was killed")
    ours.docker("rm", "-f", "ours")
    ours.remove()
    assert rules() == before
    assert "lamina" not in subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    eventually(lambda: works(theirs, "theirs", first), "Docker's port is closed after Lamina went", seconds=PATIENCE)
