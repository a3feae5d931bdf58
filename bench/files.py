"""Rows about what containers write and what is copied: volumes, logs, cp."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.engines import Engine, floor
from bench.measure import Sample, timed, whole
from bench.rows import Bench, Row, busybox, wanted

_LINES = 1_000_000
_SIZE = 200 << 20
_FILES = 20_000
_NONE = ("--network", "none")


def volumes(bench: Bench) -> Row:
    """400 MB written to a volume, synced by who writes: what time says it took."""
    script = "time -p sh -c 'dd if=/dev/zero of=/v/file bs=1M count=400 conv=fsync 2> /dev/null' 2>&1; rm /v/file"

    def measure(engine: Engine) -> Sample:
        words = engine.docker("run", "--rm", *_NONE, "-v", "bench-volume:/v", "busybox:bench", "sh", "-c", script).split()
        return whole(float(words[words.index("real") + 1]))

    with busybox(bench.engines, bench.inputs):
        samples = bench.each(measure)
        for engine in bench.engines:
            engine.docker("volume", "rm", "bench-volume")
    return Row("400 MB written to a volume", samples, wanted(1))


def copy_up(bench: Bench) -> Row:
    """The first byte that a container appends to a file of 1 GB in its image: what time says it took."""
    script = "time -p sh -c 'echo x >> /big' 2>&1"
    steps = "FROM busybox:bench\nRUN dd if=/dev/urandom of=/big bs=1M count=1024\n"

    def measure(engine: Engine) -> Sample:
        words = engine.docker("run", "--rm", *_NONE, "big:bench", "sh", "-c", script).split()
        return whole(float(words[words.index("real") + 1]))

    context = bench.work / "big"
    context.mkdir()
    (context / "Dockerfile").write_text(steps)
    with busybox(bench.engines, bench.inputs):
        for engine in bench.engines:
            engine.docker("build", "-q", "--network", "none", "-t", "big:bench", str(context))
        samples = bench.each(measure)
        for engine in bench.engines:
            engine.docker("rmi", "-f", "big:bench")
    return Row("copy-up of a file of 1 GB", samples, wanted(1))


def logs(bench: Bench) -> list[Row]:
    """`logs` of a million lines, and their writing."""
    with busybox(bench.engines, bench.inputs):

        def write(engine: Engine) -> Sample:
            engine.docker("rm", "-f", "talker", check=False)
            begun = timed(lambda: engine.docker("run", "-d", "--name", "talker", *_NONE, "busybox:bench", "seq", str(_LINES)), sync=False)
            return whole(begun.seconds + timed(lambda: engine.docker("wait", "talker"), sync=False).seconds)

        written = bench.each(write)
        read = bench.each(lambda engine: timed(lambda: _swallowed(engine, "docker", "logs", "talker"), sync=False))
        own = bench.each(lambda engine: timed(lambda: _swallowed(engine, *engine.own, "logs", "talker"), sync=False))
        for engine in bench.engines:
            engine.docker("rm", "-f", "talker")
    return [
        Row("a million lines written by a container", written, wanted(1)),
        Row("logs of a million lines, docker CLI", read, wanted(3)),
        Row("logs of a million lines, own CLI", own, wanted(3)),
    ]


def _swallowed(engine: Engine, *command: str) -> None:
    subprocess.run(command, env=engine.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def copies(bench: Bench) -> list[Row]:
    """`cp` of 200 MB in one file and in 20,000, each way, by the docker CLI and by each engine's own; and what the docker CLI alone needs,
    with a server that costs nothing (bench/floor.py)."""
    source, place = bench.work / "copied", bench.work / "taken"
    _one(source / "one")
    _many(source / "many")
    rows = []
    with busybox(bench.engines, bench.inputs), _packed(bench, source) as alone:
        for engine in bench.engines:
            engine.docker("run", "-d", "--name", "holder", *_NONE, "busybox:bench", "sleep", "100000")
        for client, run, served in (("docker CLI", Engine.docker, [*bench.engines, alone]), ("own CLI", Engine.cli, bench.engines)):
            for what, title in (("one", "one file"), ("many", "20,000 files")):
                into = bench.each(partial(_given, run, source / what), served)
                rows.append(Row(f"cp of 200 MB into a container, {title}, {client}", into, wanted(2)))
                out = bench.each(partial(_taken, run, place / what), served)
                rows.append(Row(f"cp of 200 MB out of a container, {title}, {client}", out, wanted(2)))
        for engine in bench.engines:
            engine.docker("rm", "-f", "holder")
    shutil.rmtree(source)
    return rows


@contextmanager
def _packed(bench: Bench, source: Path) -> Iterator[Engine]:
    """The server that costs nothing, with what is in `source`."""
    where = bench.work / "floor"
    where.mkdir()
    for what in ("one", "many"):
        with tarfile.open(where / f"{what}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            tar.add(source / what, what)
    with floor(where, "docker-CLI-alone") as engine:
        yield engine


def _given(run: Callable[..., str], source: Path, engine: Engine) -> Sample:
    """Time a copy into the container by that client."""
    return timed(lambda: run(engine, "cp", str(source), "holder:/"))


def _taken(run: Callable[..., str], target: Path, engine: Engine) -> Sample:
    """Time a copy out of the container by that client."""
    with _new_file_system(target.parent):
        return timed(lambda: run(engine, "cp", f"holder:/{target.name}", str(target)))


@contextmanager
def _new_file_system(place: Path) -> Iterator[None]:
    """An ext4 of its own for each copy: where many files were deleted in the last minutes, ext4 takes up to five times as long to make new ones,
    since it looks for inodes that were not in use lately, and the engines would pay for each other's rests."""
    if not shutil.which("mkfs.ext4"):
        raise SystemExit("bench: copies need mkfs.ext4")
    image = place.with_suffix(".img")
    place.mkdir()
    try:
        with open(image, "wb") as file:
            file.truncate(1 << 30)
        options = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-N", str(2 * _FILES), "-E", options, str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(place)], check=False)
        place.rmdir()
        image.unlink()


def _one(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for _ in range(_SIZE >> 20):
            file.write(bytes(range(256)) * 4096)


def _many(folder: Path) -> None:
    for number in range(_FILES):
        place = folder / f"{number // 200}"
        if number % 200 == 0:
            place.mkdir(parents=True)
        (place / str(number)).write_bytes(b"x" * (_SIZE // _FILES))
