"""What containers are told of names, and what reaches them: one daemon, since storage drivers make no difference here."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.docker.conftest import BASE, serving
from tests.docker.test_networks import read
from tests.harness import Daemon, eventually, free_port, is_free

_numbers = count(1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


@pytest.fixture
def network(daemon: Daemon) -> Iterator[str]:
    """A network of two subnets of its own."""
    name = f"traffic{next(_numbers)}"
    daemon.docker("network", "create", "--ipv6", "--subnet", "10.231.0.0/24", "--subnet", "fd31::/64", name)
    yield name
    daemon.docker("network", "rm", name, code=None)


def ran(daemon: Daemon, way: str, name: str, flags: list[str], *command: str) -> str:
    """What a command says in a container made by `run` or by `create` and `start`, by either CLI ("lamina run")."""
    cli: Callable[..., subprocess.CompletedProcess[str]] = daemon.lamina if way.startswith("lamina") else daemon.docker
    if way.endswith("run"):
        return cli("run", "--name", name, *flags, BASE, *command).stdout
    cli("create", "--name", name, *flags, BASE, *command)
    return cli("start", "-a", name).stdout


@pytest.mark.covers(
    "cli:run --add-host", "cli:create --add-host", "cli:run --dns", "cli:create --dns", "cli:run --dns-option", "cli:create --dns-option",
    "cli:run --dns-search", "cli:create --dns-search",
)  # fmt: skip
@pytest.mark.docker_cli(25)
@pytest.mark.parametrize("way", ["docker run", "docker create", "lamina run", "lamina create"])
def test_names_servers_and_domains_are_as_they_were_asked_for(daemon: Daemon, name: str, way: str) -> None:
    gateway = json.loads(daemon.docker("network", "inspect", "bridge").stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    flags = ["--add-host", "db:10.9.8.7", "--add-host", "me=host-gateway", "--dns", "10.9.9.9", "--dns", "10.9.9.10", "--dns-option", "ndots:3",
             "--dns-search", "a.example", "--dns-search", "b.example"]  # fmt: skip
    said = ran(daemon, way, name, flags, "cat", "/etc/hosts", "/etc/resolv.conf")
    assert "10.9.8.7\tdb" in said and f"{gateway}\tme" in said
    lines = [line for line in said.splitlines() if line.startswith(("nameserver", "search", "options"))]
    assert sorted(lines) == ["nameserver 10.9.9.10", "nameserver 10.9.9.9", "options ndots:3", "search a.example b.example"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_on_the_containers_own_loopback_is_asked(daemon: Daemon, address: str) -> None:
    shown = daemon.docker("run", "--rm", "--dns", address, BASE, "cat", "/etc/resolv.conf").stdout
    assert [line for line in shown.splitlines() if line.startswith("nameserver")] == [f"nameserver {address}"]


def test_on_networks_with_names_the_engine_is_asked_first(daemon: Daemon, network: str, name: str) -> None:
    flags = ["--network", network, "--dns", "10.9.9.9", "--dns-search", "x.example"]
    said = daemon.docker("run", "--name", name, *flags, BASE, "cat", "/etc/resolv.conf").stdout
    assert [line for line in said.splitlines() if line.startswith("nameserver")] == ["nameserver 127.0.0.11"]
    assert "search x.example" in said


@pytest.mark.parametrize(
    ("flags", "reason"),
    [(["--add-host", "nonsense"], "bad format for add-host"),
     pytest.param(["--dns", "nobody"], "IP address is not correctly formatted", marks=pytest.mark.docker_cli(23)),
     (["--mac-address", "02:42"], "mac address")],
)  # fmt: skip
def test_what_is_no_address_is_refused(daemon: Daemon, flags: list[str], reason: str) -> None:
    for cli in (daemon.docker, daemon.lamina):
        refused = cli("create", *flags, BASE, "true", code=None)
        assert refused.returncode != 0 and reason.lower() in refused.stderr.lower(), refused


@pytest.mark.covers("cli:run --mac-address", "cli:create --mac-address", "cli:run --link-local-ip", "cli:create --link-local-ip")
@pytest.mark.parametrize("way", ["docker run", "docker create", "lamina run", "lamina create"])
def test_hardware_and_link_local_addresses_can_be_chosen(daemon: Daemon, network: str, name: str, way: str) -> None:
    flags = [
        "--network",
        network,
        "--mac-address",
        "02:42:0a:0b:0c:0d",
        "--link-local-ip",
        "169.254.7.7",
        "--link-local-ip",
        "fe80::77",
        "--ip6",
        "fd31::55",
    ]
    said = ran(daemon, way, name, flags, "ip", "addr", "show", "eth0")
    for words in ("ether 02:42:0a:0b:0c:0d", "inet 169.254.7.7/16", "inet6 fe80::77/64", "inet6 fd31::55/64"):
        assert words in said
    facts = json.loads(daemon.docker("inspect", name).stdout)[0]["NetworkSettings"]["Networks"][network]
    assert facts["IPAMConfig"]["LinkLocalIPs"] == ["169.254.7.7", "fe80::77"]


@pytest.mark.covers("cli:network connect --ip6", "cli:network connect --link-local-ip")
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_a_running_container_gets_the_addresses_that_were_chosen(daemon: Daemon, network: str, name: str, cli: str) -> None:
    daemon.docker("run", "-d", "--name", name, BASE, "sleep", "1000")
    run = daemon.docker if cli == "docker" else daemon.lamina
    run("network", "connect", "--ip6", "fd31::66", "--link-local-ip", "169.254.8.8", network, name)
    said = daemon.docker("exec", name, "ip", "addr", "show", "eth1").stdout
    assert "inet6 fd31::66/64" in said and "inet 169.254.8.8/16" in said


SERVERS = """
import socket, sys, threading
def tcp(port):
    listener = socket.create_server(("", port))
    while True:
        connection, peer = listener.accept()
        connection.sendall(f"{port} to {peer[0]}\\n".encode()); connection.close()
def udp(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("", port))
    while True:
        data, peer = server.recvfrom(1000)
        server.sendto(f"{port} to {peer[0]}: {data.decode()}".encode(), peer)
threads = [threading.Thread(target={"tcp": tcp, "udp": udp}[kind], args=(int(port),)) for kind, port in (word.split(":") for word in sys.argv[1:])]
[thread.start() for thread in threads]
"""


@pytest.fixture
def serve(daemon: Daemon) -> Iterator[Callable[..., None]]:
    """Servers that run in a container's network, as `tcp:80` and the like: they say which port they have, and to whom."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *servers: str) -> None:
        pid = daemon.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
        started.append(subprocess.Popen(["nsenter", "-t", pid, "-n", sys.executable, "-c", SERVERS, *servers]))

    yield start
    for server in started:
        server.kill()
        server.wait()


def asked(port: int, text: bytes = b"x") -> str:
    """What comes back for a datagram to a port of this host; empty where nothing does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        try:
            client.sendto(text, ("127.0.0.1", port))
            return client.recv(1000).decode()
        except OSError:
            return ""


def test_a_published_udp_port_answers(daemon: Daemon, name: str, serve: Callable[..., None]) -> None:
    port = free_port()
    daemon.docker("run", "-d", "--name", name, "-p", f"{port}:90/udp", BASE, "sleep", "1000")
    serve(name, "udp:90")
    eventually(lambda: asked(port, b"over udp").endswith(": over udp"), "nobody answered")
    assert daemon.docker("port", name).stdout.splitlines()[0] == f"90/udp -> 0.0.0.0:{port}"


def test_who_goes_on_sending_reaches_no_container_that_has_the_address_next(daemon: Daemon, name: str, serve: Callable[..., None]) -> None:
    def address() -> str:
        return daemon.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()

    def answer(client: socket.socket, host: str, port: int) -> str:
        try:
            client.sendto(b"x", (host, port))
            return client.recv(1000).decode()
        except OSError:
            return ""

    port = free_port()
    daemon.docker("run", "-d", "--name", name, "-p", f"{port}:90/udp", BASE, "sleep", "1000")
    serve(name, "udp:90")
    before = address()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for sock in (client, other):
            sock.settimeout(0.5)
        eventually(lambda: answer(client, "127.0.0.1", port), "nobody answered")
        daemon.docker("rm", "-f", name)
        daemon.docker("run", "-d", "--name", name, BASE, "sleep", "1000")
        serve(name, "udp:90")
        assert address() == before
        eventually(lambda: answer(other, before, 90), "nobody answered")
        assert not [said for said in (answer(client, "127.0.0.1", port) for _ in range(3)) if said]


def test_each_port_of_a_range_leads_to_its_own(daemon: Daemon, name: str, serve: Callable[..., None]) -> None:
    first = next(port for port in iter(free_port, 0) if is_free(port + 1) and is_free(port + 2))
    daemon.docker(
        "run", "-d", "--name", name, "-p", f"{first}-{first + 2}:80-82", "-p", f"{first}-{first + 2}:80-82/udp", BASE, "sleep", "1000"
    )
    serve(name, *(f"{kind}:{80 + number}" for kind in ("tcp", "udp") for number in range(3)))
    for number in range(3):
        for ask in (read, asked):
            eventually(
                lambda ask=ask, number=number: ask(first + number).startswith(f"{80 + number} to "),
                f"port {first + number} does not answer",
            )


@pytest.fixture
def outside() -> Iterator[str]:
    """A network namespace as another machine, 10.232.0.2; this one is 10.232.0.1 to it."""
    name = f"out{os.getpid()}n{next(_numbers)}"
    commands = [
        f"ip netns add {name}", f"ip link add {name}h type veth peer name eth0 netns {name}", f"ip addr add 10.232.0.1/24 dev {name}h",
        f"ip link set {name}h up", f"ip -n {name} addr add 10.232.0.2/24 dev eth0", f"ip -n {name} link set eth0 up",
        f"ip -n {name} route add default via 10.232.0.1",
    ]  # fmt: skip
    if not Path("/usr/sbin/ip").exists() and not Path("/sbin/ip").exists():
        pytest.skip("no ip(8) here")
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield name
    finally:
        # The pair first: the kernel is free to destroy the namespace, and with it this address, later.
        subprocess.run(["ip", "link", "del", f"{name}h"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=False)


def test_a_client_outside_is_seen_under_its_own_address(daemon: Daemon, name: str, outside: str, serve: Callable[..., None]) -> None:
    port = free_port()
    daemon.docker("run", "-d", "--name", name, "-p", f"{port}:80", "-p", f"{port}:80/udp", BASE, "sleep", "1000")
    serve(name, "tcp:80", "udp:80")
    script = """
import socket, sys
kind, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM); client.settimeout(1)
client.connect(("10.232.0.1", port)); kind == "udp" and client.send(b"x"); print(client.recv(100).decode())
"""

    def seen(kind: str) -> str:
        asking = ["ip", "netns", "exec", outside, sys.executable, "-c", script, kind, str(port)]
        return subprocess.run(asking, capture_output=True, text=True, check=False).stdout

    for kind in ("tcp", "udp"):
        eventually(lambda kind=kind: seen(kind).startswith("80 to 10.232.0.2"), f"the client was seen as {seen(kind)!r}")


HEARD = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("10.232.0.2", 9))
said = b""
while said != b"that is all":
    said, client = server.recvfrom(100)
    print(said.decode(), flush=True)
    server.sendto(said, client)
"""
SAY = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.settimeout(1)
client.bind((sys.argv[1], 5000)); client.sendto(sys.argv[2].encode(), ("10.232.0.2", 9)); client.recv(100)
"""


def test_nothing_leaves_an_internal_network_by_a_connection_from_before(daemon: Daemon, network: str, name: str, outside: str) -> None:
    """What the container sends looks like its own old flow of datagrams, which the kernel still knows."""
    daemon.docker("network", "create", "--internal", "--subnet", "10.233.0.0/24", f"{network}-internal")
    daemon.docker("run", "-d", "--name", name, "--network", network, "--ip", "10.231.0.5", BASE, "sleep", "1000")
    entered = ["nsenter", "-n", "-t", daemon.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()]
    say = [sys.executable, "-c", SAY]
    server = subprocess.Popen(["ip", "netns", "exec", outside, sys.executable, "-c", HEARD], stdout=subprocess.PIPE, text=True)
    try:
        known = [*entered, *say, "10.231.0.5"]
        eventually(lambda: subprocess.run([*known, "once"], check=False).returncode == 0, "nobody outside answers")
        daemon.docker("network", "connect", f"{network}-internal", name)
        daemon.docker("network", "disconnect", network, name)
        for command in ("ip addr add 10.231.0.5 dev lo", "ip route add default via 10.233.0.1"):
            subprocess.run([*entered, *command.split()], check=True)
        assert subprocess.run([*known, "from inside"], check=False).returncode
        subprocess.run([*say, "10.232.0.1", "that is all"], check=True)
        assert "from inside" not in server.communicate()[0]
    finally:
        server.kill()
        server.wait()
        daemon.docker("rm", "-f", name)
        daemon.docker("network", "rm", f"{network}-internal")


SENT = """
import hashlib, socket, sys
address = sys.argv[1], 7777
if sys.argv[2:] == ["hear"]:
    with socket.create_server(address) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
        digest = hashlib.sha256()
        while data := connection.recv(1 << 20):
            digest.update(data)
        print(digest.hexdigest())
else:
    with socket.create_connection(address) as connection:
        for number in range(64):
            connection.sendall(bytes([number]) * (1 << 20))
"""


LARGEST = """
import sys
from lamina.linux import links, netlink
with netlink.Netlink() as kernel:
    print(*(link.segments for link in links.links(kernel) if link.name == sys.argv[1]))
"""


@pytest.mark.parametrize("internal", [True, False], ids=["internal", "with a way outside"])
def test_large_packets_go_where_nothing_leads_outside(daemon: Daemon, name: str, internal: bool) -> None:
    """Half a megabyte of TCP goes from container to container as one packet, and arrives as it was; an interface outside would have it cut."""
    net, names = f"{name}-net", (f"{name}-1", f"{name}-2")
    daemon.docker("network", "create", *(["--internal"] if internal else []), "--subnet", "10.234.0.0/24", net)
    try:
        for each in names:
            daemon.docker("run", "-d", "--name", each, "--network", net, BASE, "sleep", "1000")
        inside = [["nsenter", "-n", "-t", daemon.docker("inspect", "-f", "{{.State.Pid}}", each).stdout.strip()] for each in names]
        hearer = subprocess.Popen([*inside[0], sys.executable, "-c", SENT, "10.234.0.2", "hear"], stdout=subprocess.PIPE, text=True)
        assert hearer.stdout is not None and hearer.stdout.readline() == "ready\n"
        subprocess.run([*inside[1], sys.executable, "-c", SENT, "10.234.0.2"], check=True, timeout=60)
        whole = hashlib.sha256(b"".join(bytes([number]) * (1 << 20) for number in range(64))).hexdigest()
        assert hearer.communicate(timeout=60)[0].strip() == whole
        endpoint = daemon.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.EndpointID}}{{end}}", names[0]).stdout.strip()
        told = [subprocess.run([*where, sys.executable, "-c", LARGEST, interface], capture_output=True, text=True, check=True).stdout
                for where, interface in ((inside[0], "eth0"), ([], f"veth{endpoint[:7]}"))]  # fmt: skip
        # Kernels before 6.3 have one size for all.
        assert told in (["524280\n"] * 2 if internal else ["65536\n"] * 2, ["0\n"] * 2)
    finally:
        daemon.docker("rm", "-f", *names)
        daemon.docker("network", "rm", net)
