"""GET /containers/{id}/attach/ws: a container's streams for browsers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.api.websocket import Websocket
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers change nothing here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


def _connected(engine: Daemon, path: str) -> Websocket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(120)
    sock.connect(str(engine.socket))
    return Websocket(sock, path)


@pytest.mark.covers("api:GET /containers/{id}/attach/ws")
@pytest.mark.parametrize("terminal", [(), ("-t",)])
def test_a_browser_types_and_reads(engine: Daemon, terminal: tuple[str, ...]) -> None:
    made = engine.docker(
        "create", "-i", *terminal, BASE, "sh", "-c", "read x; echo out $x; echo err >&2; head -c 300000 /dev/zero | tr '\\0' a"
    ).stdout.strip()
    client = _connected(engine, f"/containers/{made}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
    engine.docker("start", made)
    client.send(b"are you there", kind=9)
    assert client.receive() == (10, b"are you there")
    client.send(b"typed\n")
    output = client.output()
    assert b"out typed" in output and b"err" in output and output.count(b"a") == 300_000  # the other stream comes anywhere between
    assert b"\x00" not in output, "Docker's frames are not for browsers"
    logged = _connected(engine, f"/containers/{made}/attach/ws?logs=1&stdout=1")
    assert b"out typed" in logged.output()
    engine.docker("rm", "-f", made)


def test_what_breaks_the_protocol_is_told_so(engine: Daemon) -> None:
    made = engine.docker("run", "-d", "-i", BASE, "cat").stdout.strip()
    client = _connected(engine, f"/containers/{made}/attach/ws?stream=1&stdin=1&stdout=1")
    client.send(b"", kind=5)
    kind, data = client.receive()
    assert (kind, int.from_bytes(data)) == (8, 1002)
    assert engine.docker("inspect", "--format", "{{.State.Running}}", made).stdout == "true\n"
    engine.docker("rm", "-f", made)
