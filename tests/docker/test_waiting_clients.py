"""`lamina` where it waits and somebody interrupts or watches it: one daemon."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, eventually, script


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers change nothing here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


def test_the_third_interrupt_leaves_a_container_that_heeds_none(daemon: Daemon, name: str) -> None:
    command = [*script("lamina"), "run", "--name", name, BASE, "sh", "-c", "trap '' INT; echo deaf; exec sleep 602"]
    client = subprocess.Popen(command, env=daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout and client.stderr and client.stdout.readline() == b"deaf\n"

    def ended() -> bool:
        client.send_signal(signal.SIGINT)
        return client.poll() is not None

    eventually(ended, "the client stays")
    assert client.returncode == 130 and b"interrupted three times" in client.stderr.read()
    assert daemon.docker("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"
    daemon.docker("rm", "-f", name)


def test_stats_shows_what_begins_and_ends_meanwhile(daemon: Daemon, name: str) -> None:
    command = [*script("lamina"), "stats", "--format", "{{.Name}}"]
    client = subprocess.Popen(command, env=daemon.environment(), stdout=subprocess.PIPE)
    try:
        daemon.docker("run", "-d", "--name", name, BASE, "sleep", "603")
        assert client.stdout and client.stdout.readline().strip().decode() in (name, "--")
        daemon.docker("rm", "-f", name)
        daemon.docker("run", "-d", "--name", f"{name}b", BASE, "sleep", "604")
        while client.stdout.readline().strip().decode() != f"{name}b":
            pass
        client.send_signal(signal.SIGINT)
        assert client.wait(120) == 130
    finally:
        client.kill()
        daemon.docker("rm", "-f", f"{name}b")
