"""Rows about networks. Engines of their own, each in a network namespace that stands for its host: their rules stay off this machine, and
no engine's packets go through another's rules."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from bench.engines import Engine, dockerd, lamina, running
from bench.lives import Client
from bench.measure import Sample, repeated, timed, whole
from bench.rows import Bench, Row, busybox, wanted

_CLIENT = "lamina-bench-client"
_PORT = 8000
_INTERNAL = "lamina-bench-internal"
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
    usual = _engines(bench)
    with (
        _apart([engine.name for engine in usual]) as hosts,
        running([_within(hosts, engine) for engine in usual]) as engines,
        busybox(engines, bench.inputs),
    ):
        inner = replace(bench, engines=engines)
        arguments = ["run", "--rm", "busybox:bench", "true"]
        docker = inner.each(lambda engine: _command(["docker", *arguments], engine), rounds=bench.rounds * 3)
        own = inner.each(lambda engine: _command([*engine.own, *arguments], engine), rounds=bench.rounds * 3)
        lives = inner.each(_life, rounds=bench.rounds * 5)
        with _sinks(engines) as addresses:
            often = bench.rounds * 3  # From one to the next they differ by a fifth.
            outside = inner.each(lambda engine: _sent(_in(_CLIENT), hosts[engine.name].address, _PORT), rounds=often)
            local = inner.each(lambda engine: _sent(_in(hosts[engine.name].namespace), "127.0.0.1", _PORT), rounds=often)
            between, apart = (
                inner.each(
                    lambda engine, network=network: _sent(["-t", _pid(engine, "other"), "-n"], addresses[engine.name][network], 80),  # type: ignore[misc]
                    rounds=often,
                )
                for network in ("bridge", _INTERNAL)
            )
    return [
        Row("run --rm true on a bridge, docker CLI", docker, wanted(3.5)),
        Row("run --rm true on a bridge, own CLI", own, wanted(6)),
        Row("create+start+wait+remove on a bridge, API", lives, wanted(6)),
        Row("1 GB to a published port, from outside", outside, wanted(1)),
        Row("1 GB to a published port, by 127.0.0.1", local, wanted(1)),
        Row("1 GB from container to container", between, wanted(1)),
        Row("1 GB from container to container, internal network", apart, wanted(1)),
    ]


def _life(engine: Engine) -> Sample:
    client = Client(engine.socket)
    return timed(lambda: client.live("bridge"), sync=False)


def _engines(bench: Bench) -> Sequence[Engine]:
    work = bench.work / "n"
    peer = dockerd(work)
    found = [lamina(work, "erofs")]
    if peer is not None:
        plain = [word for word in peer.command if word not in ("--bridge=none", "--iptables=false")]
        found.insert(0, replace(peer, command=[*plain, "--bip", "10.236.0.1/24"]))
    return found


class _Host(NamedTuple):
    """What stands for an engine's host, and where the client finds it."""

    namespace: str
    address: str


def _in(namespace: str) -> list[str]:
    return [f"--net=/run/netns/{namespace}"]


def _within(hosts: Mapping[str, _Host], engine: Engine) -> Engine:
    return replace(engine, command=["nsenter", *_in(hosts[engine.name].namespace), *engine.command])


def _command(command: list[str], engine: Engine) -> Sample:
    return whole(repeated(command, engine.environment(), 1)[0])


@contextmanager
def _apart(names: Sequence[str]) -> Iterator[dict[str, _Host]]:
    """A host for each engine, 10.235.NUMBER.1, and one client, 10.235.NUMBER.2."""
    if not shutil.which("ip"):
        raise SystemExit("bench: rows of networks need ip(8)")
    hosts = {name: _Host(f"lamina-bench-host{number}", f"10.235.{number}.1") for number, name in enumerate(names)}
    commands = [f"ip netns add {_CLIENT}", f"ip -n {_CLIENT} link set lo up"]
    for number, host in enumerate(hosts.values()):
        other, name = f"10.235.{number}.2", host.namespace
        commands += [
            f"ip netns add {name}",
            f"ip -n {name} link add eth0 type veth peer name eth{number} netns {_CLIENT}",
            f"ip -n {name} addr add {host.address}/24 dev eth0",
            f"ip -n {_CLIENT} addr add {other}/24 dev eth{number}",
            *(f"ip -n {where} link set {link} up" for where, link in ((name, "lo"), (name, "eth0"), (_CLIENT, f"eth{number}"))),
            f"ip -n {name} route add default via {other}",
        ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield hosts
    finally:
        for name in (_CLIENT, *(host.namespace for host in hosts.values())):
            subprocess.run(["ip", "netns", "del", name], check=False)


@contextmanager
def _sinks(engines: Sequence[Engine]) -> Iterator[dict[str, dict[str, str]]]:
    """In each engine a container that swallows what comes to its port, and another one, both on two networks; addresses of the first by
    engine and network."""
    sinks, addresses = [], {}
    try:
        for engine in engines:
            engine.docker("run", "-d", "--name", "sink", "-p", f"{_PORT}:80", "busybox:bench", "sleep", "100000")
            engine.docker("run", "-d", "--name", "other", "busybox:bench", "sleep", "100000")
            engine.docker("network", "create", "--internal", _INTERNAL)
            for container in ("sink", "other"):
                engine.docker("network", "connect", _INTERNAL, container)
            command = ["nsenter", "-t", _pid(engine, "sink"), "-n", sys.executable, "-c", _SINK]
            sinks.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            assert sinks[-1].stdout is not None and sinks[-1].stdout.readline() == b"ready\n"
            shown = engine.docker(
                "inspect", "-f", "{{range $name, $on := .NetworkSettings.Networks}}{{$name}} {{$on.IPAddress}} {{end}}", "sink"
            )
            addresses[engine.name] = dict(zip(shown.split()[::2], shown.split()[1::2], strict=True))
        yield addresses
    finally:
        for sink in sinks:
            sink.kill()
            sink.wait()
        for engine in engines:
            engine.docker("rm", "-f", "sink", "other", check=False)
            engine.docker("network", "rm", _INTERNAL, check=False)


def _pid(engine: Engine, container: str) -> str:
    return engine.docker("inspect", "-f", "{{.State.Pid}}", container).strip()


def _sent(place: list[str], address: str, port: int) -> Sample:
    """Seconds that a gigabyte takes from a namespace to an address, both ends Python's."""
    command = ["nsenter", *place, sys.executable, "-c", _SOURCE, address, str(port), str(_AMOUNT)]
    return whole(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
