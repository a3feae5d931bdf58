"""Networks through the real docker CLI."""

from __future__ import annotations

import json
import socket

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon, eventually

SERVE = "echo hello from $(hostname) > /tmp/said; while true; do nc -l -p 80 < /tmp/said; done"


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def read(port: int, host: str = "127.0.0.1") -> str:
    """What a server on the host says first; empty where there is none."""
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            connection.settimeout(3)
            return connection.recv(100).decode()
    except OSError:
        return ""


def test_a_container_is_on_the_default_bridge(daemon: Daemon) -> None:
    shown = daemon.docker("run", "--rm", BASE, "ip", "-4", "addr", "show", "eth0").stdout
    network = json.loads(daemon.docker("network", "inspect", "bridge").stdout)[0]
    subnet = network["IPAM"]["Config"][0]["Subnet"]
    assert subnet.rpartition("/")[2] == "16"
    assert f"inet {subnet.split('.')[0]}.{subnet.split('.')[1]}." in shown
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    assert f"default via {gateway} dev eth0" in daemon.docker("run", "--rm", BASE, "ip", "route").stdout


@pytest.mark.covers("cli:run --publish", "cli:port", "cli:create --publish")
def test_a_published_port_leads_into_the_container(daemon: Daemon, name: str) -> None:
    port = free_port()
    daemon.docker("run", "-d", "--name", name, "-p", f"{port}:80", BASE, "sh", "-c", SERVE)
    eventually(lambda: "hello" in read(port), "nobody answered on the published port")
    assert daemon.docker("port", name, "80").stdout.splitlines()[0] == f"0.0.0.0:{port}"
    assert f"0.0.0.0:{port}->80/tcp" in daemon.docker("ps", "--filter", f"name={name}").stdout
    facts = json.loads(daemon.docker("inspect", name).stdout)[0]["NetworkSettings"]
    assert facts["Ports"]["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": str(port)}
    assert facts["IPAddress"] == facts["Networks"]["bridge"]["IPAddress"] != ""
    daemon.docker("rm", "-f", name)
    eventually(lambda: not read(port), "the port still leads somewhere")


def test_a_port_that_is_taken_is_said_and_nothing_is_left(daemon: Daemon, name: str) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        failed = daemon.docker("run", "--name", name, "-p", f"{port}:80", BASE, "true", code=125)
        assert f"failed to bind host port for 0.0.0.0:{port}" in failed.stderr
        assert "address already in use" in failed.stderr
    daemon.docker("start", "-a", name)
