"""The work: one function a row. Each takes the engines and inputs and gives samples by engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.engines import Engine, floor
from bench.inputs import Inputs
from bench.measure import Sample, disk_bytes, percentile, pss_kib, repeated, timed, whole

IMAGE = "debian-apps:bench"
# Seconds of rest before each measurement.
PAUSE = 0.25


@dataclass(frozen=True)
class Row:
    """What was measured. `wanted` is the least ratio (peer / Lamina), or the most (Lamina / unit) where `at_most`."""

    title: str
    samples: dict[str, list[Sample]]
    wanted: dict[str, float] = field(default_factory=dict)
    against: str = "dockerd"
    at_most: bool = False
    unit: str = "s"


@dataclass(frozen=True)
class Bench:
    """What every row needs. `rounds` is how often each slow command is measured."""

    engines: Sequence[Engine]
    inputs: Inputs
    work: Path
    rounds: int

    @property
    def own(self) -> list[Engine]:
        return [engine for engine in self.engines if engine.name.startswith("lamina")]

    def each(
        self, measure: Callable[[Engine], Sample], engines: Sequence[Engine] | None = None, rounds: int = 0
    ) -> dict[str, list[Sample]]:
        """Measure every engine in turn, round after round, so that drift hits all alike.

        What an engine still does after its command returned (dockerd takes a container's rests down for some 100 ms) must not
        burden the next one: each round begins with another engine, and each measurement with a pause.
        """
        turns = deque(engines or self.engines)
        samples: dict[str, list[Sample]] = {engine.name: [] for engine in turns}
        for _ in range(rounds or self.rounds):
            for engine in turns:
                time.sleep(PAUSE)
                samples[engine.name].append(measure(engine))
            turns.rotate(-1)
        return samples


def wanted(erofs: float, overlay: float | None = None) -> dict[str, float]:
    """The least ratio by driver."""
    return {"lamina-erofs": erofs, "lamina-overlay": erofs if overlay is None else overlay}


def bring_tar(bench: Bench) -> Row:
    """`import` of the Debian tar."""

    def measure(engine: Engine) -> Sample:
        sample = timed(lambda: engine.docker("import", str(bench.inputs.base), "imported:bench"))
        engine.docker("rmi", "-f", "imported:bench")
        return sample

    return Row("import, Debian tar", bench.each(measure), wanted(5, 1.5))


def load(bench: Bench) -> Row:
    """`load` of the Debian image with emacs and apache."""

    def measure(engine: Engine) -> Sample:
        sample = timed(lambda: engine.docker("load", "-q", "-i", str(bench.inputs.image)))
        engine.docker("rmi", "-f", IMAGE)
        return sample

    return Row("load, Debian image", bench.each(measure), wanted(5, 1.5))


def save(bench: Bench) -> Row:
    """`save` of that image."""
    target = bench.work / "saved.tar"

    def measure(engine: Engine) -> Sample:
        sample = timed(lambda: engine.docker("save", "-o", str(target), IMAGE))
        target.unlink()
        return sample

    with loaded(bench.engines, bench.inputs):
        return Row("save, Debian image", bench.each(measure), wanted(6))


def remove(bench: Bench) -> Row:
    """`rmi` of that image."""

    def measure(engine: Engine) -> Sample:
        engine.docker("load", "-q", "-i", str(bench.inputs.image))
        return timed(lambda: engine.docker("rmi", IMAGE))

    return Row("rmi, Debian image", bench.each(measure), wanted(10))


def commit(bench: Bench) -> Row:
    """`commit` of 380 MB of changes."""
    script = "i=0; while [ $i -lt 38 ]; do dd if=/dev/urandom of=/data.$i bs=1M count=10 2>/dev/null; i=$((i+1)); done"

    def measure(engine: Engine) -> Sample:
        sample = timed(lambda: engine.docker("commit", "changed", "committed:bench"))
        engine.docker("rmi", "-f", "committed:bench")
        return sample

    with busybox(bench.engines, bench.inputs):
        for engine in bench.engines:
            engine.docker("run", "--network", "none", "--name", "changed", "busybox:bench", "sh", "-c", script)
        samples = bench.each(measure)
        for engine in bench.engines:
            engine.docker("rm", "changed")
    return Row("commit of 380 MB", samples, wanted(3))


def push(bench: Bench) -> Row:
    """`push` of the Debian image, compressed to gzip."""

    def measure(engine: Engine) -> Sample:
        with registry(bench.work / "push-registry") as address:
            engine.docker("load", "-q", "-i", str(bench.inputs.image))
            name = f"{address}/apps:bench"
            engine.docker("tag", IMAGE, name)
            sample = timed(lambda: engine.docker("push", "-q", name))
            engine.docker("rmi", "-f", name, IMAGE)
        return sample

    return Row("push, compressing to gzip", bench.each(measure), wanted(9))


def pull(bench: Bench) -> list[Row]:
    """`pull` of the Debian image as gzip layers; the bytes it then takes; the reference pipeline on the same layers."""
    sizes: dict[str, list[Sample]] = {}
    with registry(bench.work / "pull-registry") as address:
        name = f"{address}/apps:bench"
        source = bench.engines[0]
        source.docker("load", "-q", "-i", str(bench.inputs.image))
        source.docker("tag", IMAGE, name)
        source.docker("push", "-q", name)
        source.docker("rmi", "-f", name, IMAGE)

        def measure(engine: Engine) -> Sample:
            before = disk_bytes(str(engine.root / "data"))
            sample = timed(lambda: engine.docker("pull", "-q", name))
            grown = float(disk_bytes(str(engine.root / "data")) - before)
            sizes.setdefault(engine.name, []).append(whole(grown))
            engine.docker("rmi", "-f", name)
            return sample

        samples = bench.each(measure)
        reference = [reference_pipeline(address, bench.work) for _ in range(bench.rounds)]
    relative = {engine.name: samples[engine.name] for engine in bench.own} | {"reference": reference}
    return [
        Row("pull, gzip layers", samples, wanted(4)),
        Row("pull against the reference pipeline", relative, wanted(1.3), against="reference", at_most=True),
        Row("bytes on disk after the pull", sizes, wanted(1.4), at_most=True, unit="B"),
    ]


def reference_pipeline(address: str, work: Path) -> Sample:
    """Fetch, hash, inflate, hash, write with the same libraries and no parsing: see bench/reference.py."""
    target = work / "reference"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    command = [sys.executable, "-m", "bench.reference", address, "apps", "bench", str(target)]
    sample = timed(lambda: subprocess.run(command, check=True, cwd=Path(__file__).parent.parent))
    shutil.rmtree(target)
    return sample


def build(bench: Bench) -> list[Row]:
    """Twenty trivial RUN steps without network: new, then from the cache."""
    context = bench.work / "steps"
    context.mkdir(exist_ok=True)
    counter = iter(range(10**6))
    cached: dict[str, list[Sample]] = {}

    def measure(engine: Engine) -> Sample:
        steps = "".join(f"RUN echo {next(counter)} > /step{number}\n" for number in range(20))
        (context / "Dockerfile").write_text(f"FROM busybox:bench\n{steps}")
        command = ("build", "-q", "--network", "none", "-t", "steps:bench", str(context))
        sample = timed(lambda: engine.docker(*command))
        cached.setdefault(engine.name, []).append(timed(lambda: engine.docker(*command)))
        return sample

    with busybox(bench.engines, bench.inputs):
        samples = bench.each(measure)
    return [Row("build, 20 RUN steps, new", samples, wanted(8)), Row("build, 20 RUN steps, cached", cached, wanted(1))]


def run(bench: Bench) -> list[Row]:
    """`run --rm … true` and `exec … true`, by the docker CLI and by each engine's own."""
    arguments = ["run", "--rm", "--network", "none", "busybox:bench", "true"]
    with busybox(bench.engines, bench.inputs):
        by_docker = bench.each(lambda engine: _short(["docker", *arguments], engine), rounds=bench.rounds * 5)
        by_own = bench.each(lambda engine: _short([*engine.own, *arguments], engine), rounds=bench.rounds * 5)
        for engine in bench.engines:
            engine.docker("run", "-d", "--network", "none", "--name", "sleeper", "busybox:bench", "sleep", "100000")
        by_api = bench.each(lambda engine: timed(lambda: exec_by_api(engine, "sleeper"), sync=False), rounds=bench.rounds * 5)
        own_exec = bench.each(lambda engine: _short([*engine.own, "exec", "sleeper", "true"], engine), rounds=bench.rounds * 5)
        for engine in bench.engines:
            engine.docker("rm", "-f", "sleeper")
    return [
        Row("run --rm true, docker CLI", by_docker, wanted(3.5)),
        Row("run --rm true, own CLI", by_own, wanted(6)),
        Row("exec true, API", by_api, wanted(3)),
        Row("exec true, own CLI", own_exec, wanted(2.5)),
    ]


def _short(command: list[str], engine: Engine) -> Sample:
    return whole(repeated(command, engine.environment(), 1)[0])


def exec_by_api(engine: Engine, container: str) -> None:
    """Create an exec, start it attached, read it to its end and ask for its exit code."""
    import docker

    client = docker.APIClient(base_url=f"unix://{engine.socket}", version="1.41")
    created = client.exec_create(container, ["true"])
    client.exec_start(created["Id"])
    if client.exec_inspect(created["Id"])["ExitCode"] != 0:
        raise SystemExit(f"bench: {engine.name}: exec of true failed")
    client.close()


def latency(bench: Bench) -> Row:
    """p99 of /_ping: idle, and while a pull, a load and a build run at once; of the pings of all rounds. And what a server answers in that
    does nothing else, pinged in turn: what the busy machine takes by itself."""
    samples: dict[str, list[Sample]] = {}
    with (
        busybox(bench.engines, bench.inputs),
        registry(bench.work / "latency-registry") as address,
        floor(bench.work / "latency-floor", "floor") as alone,
    ):
        name = f"{address}/apps:bench"
        for engine in bench.engines:
            engine.docker("load", "-q", "-i", str(bench.inputs.image))
            engine.docker("tag", IMAGE, name)
            engine.docker("push", "-q", name)
            engine.docker("rmi", "-f", name, IMAGE)
            idle, busy = ([], []), ([], [])
            for _ in range(bench.rounds):
                time.sleep(1)
                pings((engine, alone), idle, until=_after(3))
                pings((engine, alone), busy, until=_while_busy(engine, bench, name))
                engine.docker("rmi", "-f", name, IMAGE)
            for who, quiet, loud in zip((engine.name, f"floor-beside-{engine.name}"), idle, busy, strict=True):
                samples[who] = [whole(percentile(loud, 0.99))]
                samples[f"{who} idle"] = [whole(percentile(quiet, 0.99))]
    return Row("p99 of /_ping while a pull, a load and a build run", samples, wanted(3), against="idle", at_most=True)


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def _while_busy(engine: Engine, bench: Bench, name: str) -> Callable[[], bool]:
    context = bench.work / "latency"
    context.mkdir(exist_ok=True)
    steps = "".join(f"RUN echo {number} > /x{number}\n" for number in range(10))
    (context / "Dockerfile").write_text(f"FROM busybox:bench\nRUN echo {time.time()}\n{steps}")
    work = [("pull", "-q", name), ("load", "-q", "-i", str(bench.inputs.image)), ("build", "-q", "--network", "none", str(context))]
    threads = [threading.Thread(target=engine.docker, args=arguments) for arguments in work]
    for thread in threads:
        thread.start()
    return lambda: not any(thread.is_alive() for thread in threads)


def pings(engines: Sequence[Engine], taken: Sequence[list[float]], until: Callable[[], bool]) -> None:
    """Add to what was `taken` by each engine: seconds of each /_ping on one kept connection, in turn, a hundred a second of each."""
    with ExitStack() as opened:
        connections = [opened.enter_context(socket.socket(socket.AF_UNIX)) for _ in engines]
        for engine, connection in zip(engines, connections, strict=True):
            connection.connect(str(engine.socket))
        while not until():
            for connection, times in zip(connections, taken, strict=True):
                begin = time.perf_counter()
                connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: bench\r\n\r\n")
                answer = b""
                while not answer.endswith(b"OK"):
                    answer += connection.recv(65536)
                times.append(time.perf_counter() - begin)
                time.sleep(0.01 / len(engines))


def seeing(bench: Bench) -> Row:
    """What shows layers, and listings, in units of `lamina version`."""
    samples: dict[str, list[Sample]] = {}
    for engine in bench.own:
        engine.docker("load", "-q", "-i", str(bench.inputs.image))
        many_images(engine, bench.work)
        commands = {
            "version": ("version",),
            "which": ("which", IMAGE, "/usr/bin/emacs"),
            "layers": ("layers", IMAGE),
            "ls": ("ls", f"{IMAGE}:/usr/bin"),
            "images --tree": ("images", "--tree"),
            "images (1,000)": ("images",),
        }
        for _ in range(bench.rounds * 5):
            for title, arguments in commands.items():
                seconds = repeated([*engine.own, *arguments], engine.environment(), 1)[0]
                samples.setdefault(f"{engine.name} {title}", []).append(whole(seconds))
        engine.docker("image", "prune", "-a", "-f")  # No other row is to be about a thousand images.
    return Row("whole commands that show layers", samples, wanted(4), against="version", at_most=True)


def many_images(engine: Engine, work: Path, count: int = 1000) -> None:
    """A thousand distinct images of three layers each, by one docker-archive."""
    archive = work / "many.tar"
    if not archive.exists():
        from bench.many import write_archive

        write_archive(archive, count)
    engine.docker("load", "-q", "-i", str(archive))


def memory(bench: Bench) -> list[Row]:
    """PSS of the idle daemon with all its helpers, and of one more container's monitor."""
    daemon: dict[str, list[Sample]] = {}
    monitor: dict[str, list[Sample]] = {}
    with busybox(bench.engines, bench.inputs):
        for engine in bench.engines:
            engine.stop()
            engine.start()
            time.sleep(15)  # helpers that idle away have done so
            idle = pss_kib(engine.processes()) * 1024.0
            daemon[engine.name] = [whole(idle)]
            names = [f"idle{number}" for number in range(8)]
            for name in names:
                engine.docker("run", "-d", "--network", "none", "--name", name, "busybox:bench", "sleep", "100000")
            grown = (pss_kib(without_containers(engine.processes())) * 1024.0 - idle) / len(names)
            monitor[engine.name] = [whole(grown)]
            engine.docker("rm", "-f", *names)
    return [
        Row("memory (PSS), idle daemon with its helpers", daemon, wanted(1.5), unit="B"),
        Row(
            "memory (PSS), one more idle container",
            monitor,
            dict.fromkeys(wanted(0), 2 * 1024 * 1024),
            against="",
            at_most=True,
            unit="B",
        ),
    ]


def without_containers(pids: Sequence[int]) -> list[int]:
    """Leave out the containers' own processes (`sleep`)."""
    kept = []
    for pid in pids:
        try:
            if b"sleep\0" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                kept.append(pid)
        except OSError:
            continue
    return kept


@contextmanager
def loaded(engines: Sequence[Engine], inputs: Inputs) -> Iterator[None]:
    """With the Debian image present."""
    for engine in engines:
        engine.docker("load", "-q", "-i", str(inputs.image))
    yield
    for engine in engines:
        engine.docker("rmi", "-f", IMAGE)


@contextmanager
def busybox(engines: Sequence[Engine], inputs: Inputs) -> Iterator[None]:
    """With a small image present."""
    for engine in engines:
        engine.docker("import", str(inputs.busybox), "busybox:bench")
    yield
    for engine in engines:
        engine.docker("rmi", "-f", "busybox:bench", check=False)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """A registry on this machine, empty at first; gives its address."""
    shutil.rmtree(folder, ignore_errors=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "lamina.registry", "--root", str(folder), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if time.monotonic() > deadline:
                raise SystemExit("bench: the registry did not start")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
