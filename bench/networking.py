"""Rows about networks. Engines of their own, in a network namespace that stands for the host: dockerd's rules stay off this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bench.engines import Engine, dockerd, lamina, running
from bench.measure import Sample, repeated, whole
from bench.rows import Bench, Row, busybox, wanted

_HOST, _CLIENT = "lamina-bench-host", "lamina-bench-client"
_AMOUNT = 1 << 30
"""Bytes sent for each measurement of throughput."""
_SINK = """
import socket

listener = socket.create_server(("", 80))
print("ready", flush=True)
buffer = bytearray(1 << 20)
while True:
    connection, _ = listener.accept()
    while connection.recv_into(buffer):
        pass
    connection.sendall(b"done")
    connection.close()
"""
_SOURCE = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
data, left = bytes(1 << 20), int(sys.argv[3])
begin = time.perf_counter()
while left > 0:
    connection.sendall(data)
    left -= len(data)
connection.shutdown(socket.SHUT_WR)
assert connection.recv(10) == b"done"
print(time.perf_counter() - begin)
"""


def networking(bench: Bench) -> list[Row]:
    """`run --rm` on a bridge, and bytes through published ports and between containers (seconds for a gigabyte)."""
    with _apart(), running(_engines(bench)) as engines, busybox(engines, bench.inputs):
        inner = replace(bench, engines=engines)
        arguments = ["run", "--rm", "busybox:bench", "true"]
        docker = inner.each(lambda engine: _command(["docker", *arguments], engine), rounds=bench.rounds * 3)
        own = inner.each(lambda engine: _command([*engine.own, *arguments], engine), rounds=bench.rounds * 3)
        ports = {engine.name: 8000 + number for number, engine in enumerate(engines)}
        with _sinks(engines, ports) as addresses:
            outside = inner.each(lambda engine: _sent(["--net=/run/netns/" + _CLIENT], "10.235.0.1", ports[engine.name]))
            local = inner.each(lambda engine: _sent(["--net=/run/netns/" + _HOST], "127.0.0.1", ports[engine.name]))
            between = inner.each(lambda engine: _sent(["-t", _pid(engine, "other"), "-n"], addresses[engine.name], 80))
    return [
        Row("run --rm true on a bridge, docker CLI", docker, wanted(3.5)),
        Row("run --rm true on a bridge, own CLI", own, wanted(6)),
        Row("1 GB to a published port, from outside", outside, wanted(1)),
        Row("1 GB to a published port, by 127.0.0.1", local, wanted(1)),
        Row("1 GB from container to container", between, wanted(1)),
    ]


def _engines(bench: Bench) -> Sequence[Engine]:
    work = bench.work / "n"
    peer = dockerd(work)
    found = [lamina(work, "erofs")]
    if peer is not None:
        plain = [word for word in peer.command if word not in ("--bridge=none", "--iptables=false")]
        found.insert(0, replace(peer, command=[*plain, "--bip", "10.236.0.1/24"]))
    return [replace(engine, command=["nsenter", f"--net=/run/netns/{_HOST}", *engine.command]) for engine in found]


def _command(command: list[str], engine: Engine) -> Sample:
    return whole(repeated(command, engine.environment(), 1)[0])


@contextmanager
def _apart() -> Iterator[None]:
    """The host's namespace, 10.235.0.1, and a client's, 10.235.0.2."""
    if not shutil.which("ip"):
        raise SystemExit("bench: rows of networks need ip(8)")
    commands = [
        f"ip netns add {_HOST}",
        f"ip netns add {_CLIENT}",
        f"ip -n {_HOST} link add eth0 type veth peer name eth0 netns {_CLIENT}",
        f"ip -n {_HOST} addr add 10.235.0.1/24 dev eth0",
        f"ip -n {_CLIENT} addr add 10.235.0.2/24 dev eth0",
        *(f"ip -n {name} link set {link} up" for name in (_HOST, _CLIENT) for link in ("lo", "eth0")),
        f"ip -n {_HOST} route add default via 10.235.0.2",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield
    finally:
        for name in (_HOST, _CLIENT):
            subprocess.run(["ip", "netns", "del", name], check=False)


@contextmanager
def _sinks(engines: Sequence[Engine], ports: dict[str, int]) -> Iterator[dict[str, str]]:
    """In each engine a container that swallows what comes to its port, and another one; addresses of the first by engine."""
    sinks, addresses = [], {}
    try:
        for engine in engines:
            engine.docker("run", "-d", "--name", "sink", "-p", f"{ports[engine.name]}:80", "busybox:bench", "sleep", "100000")
            engine.docker("run", "-d", "--name", "other", "busybox:bench", "sleep", "100000")
            command = ["nsenter", "-t", _pid(engine, "sink"), "-n", sys.executable, "-c", _SINK]
            sinks.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            assert sinks[-1].stdout is not None and sinks[-1].stdout.readline() == b"ready\n"
            addresses[engine.name] = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "sink").strip()
        yield addresses
    finally:
        for sink in sinks:
            sink.kill()
            sink.wait()
        for engine in engines:
            engine.docker("rm", "-f", "sink", "other", check=False)


def _pid(engine: Engine, container: str) -> str:
    return engine.docker("inspect", "-f", "{{.State.Pid}}", container).strip()


def _sent(place: list[str], address: str, port: int) -> Sample:
    """Seconds that a gigabyte takes from a namespace to an address, both ends Python's."""
    command = ["nsenter", *place, sys.executable, "-c", _SOURCE, address, str(port), str(_AMOUNT)]
    return whole(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
