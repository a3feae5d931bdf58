"""What the daemon's settings give to containers, builds and networks that do not say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon

SETTINGS = {
    "dns": ["10.9.8.7"],
    "dns-search": ["corp.test"],
    "dns-opts": ["timeout:3"],
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 100, "Hard": 200}},
    "default-shm-size": "1M",
    "default-address-pools": [{"base": "10.213.0.0/16", "size": 24}],
    "no-new-privileges": True,
    "cgroup-parent": "/lamina-test",
    "max-concurrent-downloads": 3,
}
GROUP = "/lamina-test/"
SHOW = "cat /etc/resolv.conf; ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    file = tmp_path_factory.mktemp("settings") / "daemon.json"
    file.write_text(json.dumps(SETTINGS))
    with serving(tmp_path_factory, options=("--config-file", str(file))) as daemon:
        yield daemon


def test_a_container_has_what_it_does_not_say(daemon: Daemon) -> None:
    shown = daemon.docker("run", "--rm", BASE, "sh", "-c", SHOW).stdout
    assert shown.startswith("nameserver 10.9.8.7\nsearch corp.test\noptions timeout:3\n100\n200\n")
    assert "1024" in shown.splitlines()[-1].split()
    own = ("--dns", "10.1.1.1", "--dns-search", "own.test", "--ulimit", "nofile=50:60", "--shm-size", "2m")
    shown = daemon.docker("run", "--rm", *own, BASE, "sh", "-c", SHOW).stdout
    assert shown.startswith("nameserver 10.1.1.1\nsearch own.test\noptions timeout:3\n50\n60\n")
    assert "2048" in shown.splitlines()[-1].split()


def test_privileges_and_the_control_group_are_as_said(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, BASE, "sleep", "1000")
    pid = daemon.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
    assert GROUP in Path(f"/proc/{pid}/cgroup").read_text()
    status = ("grep", "NoNewPrivs", "/proc/self/status")
    assert daemon.docker("run", "--rm", BASE, *status).stdout.split()[1] == "1"
    assert daemon.docker("run", "--rm", "--security-opt", "no-new-privileges=false", BASE, *status).stdout.split()[1] == "0"


def test_who_shares_a_network_has_that_ones_servers(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, "--dns", "10.1.1.1", BASE, "sleep", "1000")
    assert "nameserver 10.1.1.1\n" in daemon.docker("run", "--rm", "--network", f"container:{name}", BASE, "sh", "-c", SHOW).stdout


def test_a_build_asks_the_same_servers(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN cat /etc/resolv.conf > /seen\n")
    daemon.docker("build", "-q", "-t", tag, str(context))
    seen = daemon.docker("run", "--rm", tag, "cat", "/seen").stdout
    assert seen == "nameserver 10.9.8.7\nsearch corp.test\noptions timeout:3\n"


def test_automatic_subnets_come_from_the_pools(daemon: Daemon) -> None:
    daemon.docker("network", "create", "pooled")
    subnets = [
        daemon.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name).stdout.strip() for name in ("bridge", "pooled")
    ]
    daemon.docker("network", "rm", "pooled")
    assert len(set(subnets)) == 2
    assert all(subnet.startswith("10.213.") and subnet.endswith(".0/24") for subnet in subnets)
    assert "Base: 10.213.0.0/16, Size: 24" in daemon.docker("info").stdout
