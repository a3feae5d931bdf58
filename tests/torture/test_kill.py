"""SIGKILL of the daemon at random points of every operation that changes the store."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Daemon, docker_cli, eventually
from tests.system.conftest import started
from tests.torture.checking import check_store, names

NONE = ("--network", "none")
BASE = "busybox:test"


@pytest.fixture
def daemon(driver: str, tmp_path: Path, base: Path) -> Iterator[Daemon]:
    daemon = started(tmp_path / "d", driver)
    daemon.docker("import", str(base), BASE)
    yield daemon
    if daemon.process is None or daemon.process.poll() is not None:
        daemon.start()
    daemon.remove()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on this machine; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "lamina.registry", "--root", str(tmp_path / "registry"), "--listen", f"127.0.0.1:{port}"]
    )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers, "the registry did not start", alive=server)
    yield f"127.0.0.1:{port}"
    server.terminate()
    server.wait(10)


@pytest.fixture
def operations(daemon: Daemon, base: Path, tmp_path: Path, registry: str) -> dict[str, Callable[[int], list[str]]]:
    """Docker command lines by operation, for a round's number."""
    saved = tmp_path / "saved.tar"
    (tmp_path / "context").mkdir()
    daemon.docker("run", "--name", "changed", *NONE, BASE, "sh", "-c", "dd if=/dev/urandom of=/data bs=1M count=20")
    daemon.docker("commit", "changed", "kept:0")
    daemon.docker("save", "-o", str(saved), "kept:0")
    pulled = f"{registry}/pulled:0"
    daemon.docker("tag", "kept:0", pulled)
    daemon.docker("push", "-q", pulled)
    daemon.docker("rmi", pulled)

    def build(number: int) -> list[str]:
        (tmp_path / "context/Dockerfile").write_text(f"FROM {BASE}\nRUN echo {number} > /a\nCOPY . /b\nRUN echo {number} > /c\n")
        return ["build", "-q", *NONE, "-t", f"built:{number}", str(tmp_path / "context")]

    return {
        "import": lambda number: ["import", str(base), f"imported:{number}"],
        "load": lambda number: ["load", "-q", "-i", str(saved)],
        "build": build,
        "commit": lambda number: ["commit", "changed", f"committed:{number}"],
        "pull": lambda number: ["pull", "-q", pulled],
        "rmi": lambda number: ["rmi", "-f", "kept:0"],
        "run": lambda number: ["run", "--rm", *NONE, BASE, "sh", "-c", "echo written > /x"],
    }


@pytest.mark.parametrize("operation", ["pull", "import", "load", "build", "commit", "rmi", "run"])
def test_a_kill_loses_nothing_reported_done(
    daemon: Daemon, operations: dict[str, Callable[[int], list[str]]], operation: str, rounds: int
) -> None:
    rng = random.Random(operation)
    begin = time.monotonic()
    daemon.docker(*operations[operation](10**6))
    length = time.monotonic() - begin
    expected = names(daemon)
    for number in range(rounds):
        if operation == "rmi":
            daemon.docker(*operations["load"](number))
            expected = names(daemon)
        if operation == "pull":
            # Its own layer must come from the registry each time, so nothing here may refer to it.
            daemon.docker("rm", "-f", "changed", code=None)
            daemon.docker("rmi", "-f", *[name for name in names(daemon) if name.startswith("kept:") or "/pulled:" in name], code=None)
            expected = names(daemon)
        command = operations[operation](number)
        client = subprocess.Popen([docker_cli(), *command], env=daemon.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client.wait(rng.uniform(0, length * 1.2))
        except subprocess.TimeoutExpired:
            pass
        daemon.kill()
        done = client.wait(30) == 0
        daemon.start()
        now = names(daemon)
        if operation != "rmi":
            lost = {name: identity for name, identity in expected.items() if now.get(name) != identity}
            assert not lost, f"round {number}: lost {lost}"
        if done and operation in ("import", "build", "commit"):
            assert command[-1] in now or any(name.endswith(f":{number}") for name in now), f"round {number}: {command} was reported done"
        if done and operation == "pull":
            assert any("/pulled:0" in name for name in now), f"round {number}: {command} was reported done"
        if done and operation == "rmi":
            assert "kept:0" not in now
        expected = now
    check_store(daemon)
