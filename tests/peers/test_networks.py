"""A dockerd beside, with its own rules and bridges: both have working ports, and neither takes away what the other has.

Everything runs in a network namespace that stands for the host, so that nothing of this machine's networks is touched; another one is a client.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.test_traffic import SERVERS
from tests.harness import Daemon, eventually
from tests.peers.conftest import Dockerd, needs

_HOST, _CLIENT = "lamina-peer-host", "lamina-peer-client"
_ASK = "import socket; print(socket.create_connection(('{address}', {port}), 2).recv(99).decode())"
BASE = "busybox:test"


@pytest.fixture
def apart() -> Iterator[None]:
    """The host's namespace, 10.233.0.1, and the client's, 10.233.0.2."""
    needs("ip")
    commands = [
        f"ip netns add {_HOST}", f"ip netns add {_CLIENT}", f"ip -n {_HOST} link add eth0 type veth peer name eth0 netns {_CLIENT}",
        f"ip -n {_HOST} addr add 10.233.0.1/24 dev eth0", f"ip -n {_CLIENT} addr add 10.233.0.2/24 dev eth0",
        *(f"ip -n {name} link set {link} up" for name in (_HOST, _CLIENT) for link in ("lo", "eth0")),
        f"ip -n {_HOST} route add default via 10.233.0.2",
    ]  # fmt: skip
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield
    finally:
        for name in (_HOST, _CLIENT):
            subprocess.run(["ip", "netns", "del", name], check=False)


def inside(name: str, *command: str) -> list[str]:
    """A command in a namespace; the mounts stay the host's, other than with `ip netns exec`."""
    return ["nsenter", f"--net=/run/netns/{name}", *command]


class Lamina(Daemon):
    def command(self) -> list[str]:
        return inside(_HOST, *super().command())

    def remove(self) -> None:
        """See Daemon.remove. What it has of networks is in the namespace."""
        ids = self.docker("ps", "-aq", code=None).stdout.split()
        self.docker("rm", "-f", *ids, code=None)
        self.stop()
        code = f"from lamina.network.networks import erase; erase({str(self.data)!r})"
        subprocess.run(inside(_HOST, sys.executable, "-c", code), check=True)
        super().remove()


class Docker(Dockerd):
    def command(self) -> list[str]:
        plain = [word for word in super().command() if word not in ("--bridge=none", "--iptables=false")]
        return inside(_HOST, *plain, "--bip", "10.234.0.1/24")


@pytest.fixture
def engines(apart: None, tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """dockerd, then Lamina. Paths are short: containerd's sockets need that."""
    folder = tmp_path_factory.mktemp("n")
    made = (Docker(folder / "d"), Lamina(folder / "l"))
    running: list[Daemon] = []
    try:
        for engine in made:
            engine.start()
            running.append(engine)
            engine.docker("import", str(base), BASE)
        yield made
    finally:
        for engine in running:
            if engine.process is not None and engine.process.poll() is None:
                engine.remove()


@pytest.fixture
def serve() -> Iterator[Callable[[Daemon, str, int], None]]:
    """Publishes a container's port 80 and answers there."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(engine: Daemon, name: str, port: int) -> None:
        engine.docker("run", "-d", "--name", name, "-p", f"{port}:80", BASE, "sleep", "1000")
        pid = engine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
        servers.append(subprocess.Popen(["nsenter", "-t", pid, "-n", sys.executable, "-c", SERVERS, "tcp:80"]))

    yield start
    for server in servers:
        server.kill()
        server.wait()


def answered(where: str, address: str, port: int) -> str:
    """What a server says to a client in a namespace."""
    asking = inside(where, sys.executable, "-c", _ASK.format(address=address, port=port))
    return subprocess.run(asking, capture_output=True, text=True, check=False).stdout


def works(port: int) -> bool:
    """Whether a port is reached from outside, under the client's address, and from the host itself."""
    return "to 10.233.0.2" in answered(_CLIENT, "10.233.0.1", port) and "80 to" in answered(_HOST, "127.0.0.1", port)


def rules(program: str = "iptables-save") -> list[str]:
    """The host's rules by iptables, without counters and Lamina's two for each bridge in the chain for others."""
    shown = subprocess.run(inside(_HOST, needs(program)), capture_output=True, text=True, check=True).stdout
    lines = [line.partition(" [")[0] for line in shown.splitlines() if not line.startswith("#")]
    return sorted(line for line in lines if "lamina" not in line)


def test_both_have_working_ports_and_neither_takes_away_what_the_other_has(
    engines: tuple[Daemon, Daemon], serve: Callable[[Daemon, str, int], None]
) -> None:
    dockerd, lamina = engines
    serve(dockerd, "theirs", 8001)
    before = rules()
    serve(lamina, "ours", 8002)
    eventually(lambda: works(8001) and works(8002), "a port does not answer")
    assert rules() == before
    # Their filter made anew, as a reload of the host's firewall has them do.
    for chain in ("DOCKER-USER", "FORWARD"):
        subprocess.run(inside(_HOST, "iptables", "-F", chain), check=True)
    dockerd.stop()
    dockerd.start()
    eventually(lambda: works(8002), "Lamina's port does not answer after dockerd made its rules anew")
    dockerd.docker("start", "theirs", code=None)
    lamina.docker("network", "create", "mine")
    lamina.docker("run", "--rm", "--network", "mine", BASE, "true")
    lamina.docker("network", "rm", "mine")
    lamina.docker("rm", "-f", "ours")
    lamina.remove()
    left = subprocess.run(inside(_HOST, needs("iptables-save")), capture_output=True, text=True, check=True).stdout
    assert "lamina" not in left
    serve(dockerd, "again", 8003)
    eventually(lambda: works(8003), "dockerd's port does not answer after Lamina went")
