"""Rows about whole lives of containers by the API, one after the other and many at once, and about listing stopped ones."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.engines import Engine
from bench.measure import Sample, repeated, whole
from bench.rows import Bench, Row, busybox, wanted

_STOPPED = 1000
_LIVES = 32


class Client:
    """One kept connection to an engine, with nothing in it that takes time of its own."""

    def __init__(self, path: Path) -> None:
        self._connection = http.client.HTTPConnection("engine", timeout=120)
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(str(path))

    def ask(self, method: str, path: str, document: object = None) -> object:
        """One request; its answer's document, nothing where it has none. Ends the bench where it fails."""
        body = None if document is None else json.dumps(document)
        self._connection.request(method, f"/v1.41{path}", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"bench: {method} {path}: {answer.status} {data.decode(errors='replace')}")
        return json.loads(data) if data else None

    def create(self, network: str = "none") -> str:
        """A container of `true`; its ID."""
        asked = {"Image": "busybox:bench", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
        made = self.ask("POST", "/containers/create", asked)
        assert isinstance(made, dict)
        return str(made["Id"])

    def live(self, network: str = "none") -> None:
        """create, start, wait, remove."""
        made = self.create(network)
        self.ask("POST", f"/containers/{made}/start")
        self.ask("POST", f"/containers/{made}/wait")
        self.ask("DELETE", f"/containers/{made}")


def lives(bench: Bench) -> list[Row]:
    """create+start+wait+remove of `true` without network: one after the other, and 4 and 16 at once (seconds for each container)."""
    with busybox(bench.engines, bench.inputs):
        alone = bench.each(lambda engine: _at_once(engine, 1, 1), rounds=bench.rounds * 5)
        few = bench.each(lambda engine: _at_once(engine, 4, _LIVES))
        many = bench.each(lambda engine: _at_once(engine, 16, _LIVES))
    return [
        Row("create+start+wait+remove, API", alone, wanted(6)),
        Row("the same, 4 at once, each", few, wanted(10)),
        Row("the same, 16 at once, each", many, wanted(10)),
    ]


def bare(bench: Bench) -> list[Row]:
    """`run --rm` without network by the own CLI, beside `runc run` of a bundle that lies ready; nothing where runc is not installed."""
    if not shutil.which("runc"):
        return []
    bundle = bench.work / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    subprocess.run(["tar", "-xf", bench.inputs.busybox, "-C", bundle / "rootfs"], check=True)
    subprocess.run(["runc", "spec", "--bundle", bundle], check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["true"], "terminal": False}
    (bundle / "config.json").write_text(json.dumps(config))

    def measure(engine: Engine) -> Sample:
        own = [*engine.own, "run", "--rm", "--network", "none", "busybox:bench", "true"]
        command = ["runc", "run", "--bundle", str(bundle), "lamina-bench"] if engine.name == "runc" else own
        return whole(repeated(command, engine.environment(), 1)[0])

    with busybox(bench.own, bench.inputs):
        samples = bench.each(measure, [replace(bench.own[0], name="runc"), *bench.own], rounds=bench.rounds * 5)
    return [Row("run --rm true without network, own CLI, beside bare runc run", samples, wanted(1), against="runc")]


def _at_once(engine: Engine, clients: int, count: int) -> Sample:
    """Seconds for each of `count` lives that so many clients share."""
    connected = [Client(engine.socket) for _ in range(clients)]

    def some(client: Client) -> None:
        for _ in range(count // clients):
            client.live()

    with ThreadPoolExecutor(clients) as pool:
        begin = time.perf_counter()
        list(pool.map(some, connected))
        return whole((time.perf_counter() - begin) / count)


def listing(bench: Bench) -> list[Row]:
    """`ps` and `ps -a` with a thousand stopped containers, in units of the same with none."""
    commands = {"ps": ("ps",), "ps -a": ("ps", "-a")}
    samples: dict[str, dict[str, list[Sample]]] = {name: {} for name in commands}
    with busybox(bench.own, bench.inputs):
        for engine in bench.own:

            def measure(title: str, engine: Engine = engine) -> None:
                for name, words in commands.items():
                    seconds = repeated([*engine.own, *words], engine.environment(), bench.rounds * 5)
                    samples[name][title] = [whole(value) for value in seconds]

            measure(f"{engine.name} none")
            client = Client(engine.socket)
            made = [client.create() for _ in range(_STOPPED)]
            measure(engine.name)
            for container in made:
                client.ask("DELETE", f"/containers/{container}")
    return [Row(f"{name} with {_STOPPED:,} stopped containers", found, wanted(3), "none", at_most=True) for name, found in samples.items()]
