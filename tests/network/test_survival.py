"""What containers have of networks when the daemon is killed, and what is left when they are gone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lamina.linux import nftables
from lamina.linux.netlink import NETFILTER, Netlink
from lamina.network.firewall import table_of, tag_of
from tests.docker.test_networks import SERVE, read
from tests.harness import Daemon, busybox_tar, docker_cli, end, eventually, free_port, helpers

pytestmark = [pytest.mark.root, pytest.mark.skipif(not os.path.exists(docker_cli()), reason="no docker CLI here")]
BASE = "busybox:test"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon to be killed."""
    daemon = Daemon(tmp_path / "d").start()
    try:
        daemon.docker("import", str(busybox_tar(tmp_path / "busybox.tar")), BASE)
        yield daemon
    finally:
        daemon.remove()


def tables() -> set[str]:
    """Names of all nftables tables of this host."""
    with Netlink(NETFILTER) as connection:
        return {name for _, name in nftables.tables(connection)}


def test_ports_names_and_addresses_outlive_the_daemon_and_are_found_again(daemon: Daemon) -> None:
    port = free_port()
    daemon.docker("network", "create", "mine")
    daemon.docker("run", "-d", "--name", "web", "--network", "mine", "-p", f"{port}:80", BASE, "sh", "-c", SERVE)
    daemon.docker("run", "-d", "--name", "other", "--network", "mine", BASE, "sleep", "1000")
    eventually(lambda: "hello" in read(port), "nobody answered")
    before = json.loads(daemon.docker("inspect", "web").stdout)[0]["NetworkSettings"]
    daemon.kill()
    eventually(lambda: "hello" in read(port), "nobody answered without a daemon")
    daemon.start()
    after = json.loads(daemon.docker("inspect", "web").stdout)[0]["NetworkSettings"]
    assert (after["Networks"], after["Ports"]) == (before["Networks"], before["Ports"])
    eventually(lambda: "hello" in read(port), "nobody answered to the next daemon")
    eventually(lambda: before["Networks"]["mine"]["IPAddress"] in asked(daemon, "web"), "nobody answers names to the next daemon")
    taken = daemon.docker("run", "--rm", "-p", f"{port}:80", BASE, "true", code=125)
    assert "port is already allocated" in taken.stderr
    daemon.docker("rm", "-f", "web")
    eventually(lambda: not read(port), "the port still leads somewhere")
    daemon.docker("run", "--rm", "-p", f"{port}:80", BASE, "true")


def test_a_killed_switchboard_is_replaced_by_one_that_knows_all(daemon: Daemon) -> None:
    daemon.docker("network", "create", "mine")
    for name in ("web", "other"):
        daemon.docker("run", "-d", "--name", name, "--network", "mine", BASE, "sleep", "1000")
    kill_switchboard(daemon)
    daemon.docker("run", "-d", "--name", "third", "--network", "mine", BASE, "sleep", "1000")
    for name in ("web", "third"):
        eventually(lambda name=name: "Address" in asked(daemon, name).partition(name)[2], f"nobody knows {name}")


def test_a_killed_switchboard_is_replaced_although_nothing_asks_for_it(daemon: Daemon) -> None:
    daemon.docker("network", "create", "mine")
    for name in ("web", "other"):
        daemon.docker("run", "-d", "--name", name, "--network", "mine", BASE, "sleep", "1000")
    for _ in range(2):
        kill_switchboard(daemon)
        eventually(lambda: "Address" in asked(daemon, "web").partition("web")[2], "nobody answered names any more")


def asked(daemon: Daemon, name: str) -> str:
    """What is said of a name in the container `other`."""
    return daemon.docker("exec", "other", "nslookup", name, "127.0.0.11", code=None).stdout


def kill_switchboard(daemon: Daemon) -> None:
    """End it as the kernel would for want of memory."""
    for pid in helpers(daemon.root):
        with suppress(OSError):
            if b"lamina.network.switchboard" in Path(f"/proc/{pid}/cmdline").read_bytes():
                end(pid)


def test_a_flushed_table_is_made_again_and_other_tables_are_left_alone(daemon: Daemon) -> None:
    port = free_port()
    table = table_of(tag_of(str(daemon.data)))
    daemon.docker("run", "-d", "--name", "first", BASE, "sleep", "1000")
    others = tables() - {table}
    with Netlink(NETFILTER) as connection:
        nftables.commit(connection, [nftables.delete_table(table)])
    daemon.docker("run", "-d", "--name", "web", "-p", f"{port}:80", BASE, "sh", "-c", SERVE)
    assert table in tables()
    eventually(lambda: "hello" in read(port), "nobody answered")
    assert {name for name in others if not name.startswith("lamina")} <= tables()


def test_a_flushed_table_is_made_again_at_once(daemon: Daemon) -> None:
    port = free_port()
    table = table_of(tag_of(str(daemon.data)))
    daemon.docker("run", "-d", "--name", "web", "-p", f"{port}:80", BASE, "sh", "-c", SERVE)
    eventually(lambda: "hello" in read(port), "nobody answered")
    for _ in range(2):
        with Netlink(NETFILTER) as connection:
            nftables.commit(connection, [nftables.delete_table(table)])
        eventually(lambda: table in tables(), "the rules did not come back")
        eventually(lambda: "hello" in read(port), "nobody answered")


def test_an_engine_that_is_erased_leaves_no_bridge_and_no_table(daemon: Daemon) -> None:
    made = daemon.docker("network", "create", "mine").stdout.strip()
    bridges = [f"br-{made[:12]}", f"lamina-{tag_of(str(daemon.data))}"]
    daemon.docker("run", "--rm", BASE, "true")
    assert all(os.path.exists(f"/sys/class/net/{bridge}") for bridge in bridges)
    daemon.remove()
    shown = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert not any(bridge in shown for bridge in bridges)
    assert table_of(tag_of(str(daemon.data))) not in tables()
