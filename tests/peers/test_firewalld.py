"""A firewalld that runs on this machine: it is reloaded, and networks go on. A namespace of its own stands for another machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.test_networks import read
from tests.docker.test_traffic import SERVERS
from tests.harness import Daemon, eventually, free_port
from tests.peers.conftest import needs

BASE = "busybox:test"
_CLIENT, HERE, THERE = "lamina-fw-client", "10.233.7.1", "10.233.7.2"
ASK = "import socket; print(socket.create_connection(('{address}', {port}), 3).recv(99).decode())"


def firewall(*words: str) -> str:
    """What firewall-cmd says; it must succeed."""
    return subprocess.run([needs("firewall-cmd"), *words], check=True, capture_output=True, text=True).stdout.strip()


def trusted() -> list[str]:
    """The interfaces in firewalld's zone of that name."""
    return firewall("--zone=trusted", "--list-interfaces").split()


@pytest.fixture
def daemon(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    """Lamina beside a firewalld."""
    if subprocess.run([needs("firewall-cmd"), "--state"], capture_output=True, check=False).returncode:
        pytest.skip("firewalld does not run here")
    daemon = Daemon(tmp_path / "d")
    try:
        daemon.start()
        daemon.docker("import", str(base), BASE)
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture
def outside() -> Iterator[list[str]]:
    """Another machine at 10.233.7.2, with a server on its port 80; the words that run a command there."""
    command = ["nsenter", f"--net=/run/netns/{_CLIENT}", sys.executable, "-c"]
    try:
        for line in (
            f"ip netns add {_CLIENT}", f"ip link add lamina-fw0 type veth peer name eth0 netns {_CLIENT}", f"ip addr add {HERE}/24 dev lamina-fw0",
            "ip link set lamina-fw0 up", f"ip -n {_CLIENT} addr add {THERE}/24 dev eth0", f"ip -n {_CLIENT} link set eth0 up",
            f"ip -n {_CLIENT} link set lo up",
        ):  # fmt: skip
            subprocess.run(line.split(), check=True)
        with subprocess.Popen([*command, SERVERS, "tcp:80"]) as server:
            yield command
            server.kill()
    finally:
        subprocess.run(["ip", "netns", "del", _CLIENT], check=False)
        subprocess.run(["ip", "link", "del", "lamina-fw0"], check=False, capture_output=True)


def test_ports_and_ways_out_work_beside_it_and_after_its_reload(daemon: Daemon, outside: list[str]) -> None:
    port = free_port()
    daemon.docker("network", "create", "mine")
    daemon.docker("run", "-d", "--name", "web", "--network", "mine", "-p", f"{port}:80", BASE, "sleep", "1000")
    pid = daemon.docker("inspect", "-f", "{{.State.Pid}}", "web").stdout.strip()

    def works() -> bool:
        asked = subprocess.run([*outside, ASK.format(address=HERE, port=port)], capture_output=True, text=True, check=False).stdout
        leaves = daemon.docker("exec", "web", "nc", "-w", "3", THERE, "80", code=None).stdout
        return f"to {THERE}" in asked and f"to {HERE}" in leaves and "80 to" in read(port)

    with subprocess.Popen(["nsenter", "-t", pid, "-n", sys.executable, "-c", SERVERS, "tcp:80"]) as server:
        try:
            eventually(works, "beside firewalld a port or the way out is closed", seconds=60)
            before = trusted()
            assert len(before) == 1
            for how in ("--reload", "--complete-reload"):
                firewall(how)
                eventually(works, f"after firewall-cmd {how} a port or the way out is closed", seconds=60)
                eventually(lambda: trusted() == before, f"after firewall-cmd {how} the bridge is in no zone", seconds=60)
            if Path("/run/systemd/system").is_dir():
                subprocess.run(["systemctl", "restart", "firewalld"], check=True)
                eventually(works, "after a restart of firewalld a port or the way out is closed", seconds=60)
        finally:
            server.kill()
    daemon.docker("rm", "-f", "web")
    daemon.docker("network", "rm", "mine")
    daemon.remove()
    assert trusted() == []
