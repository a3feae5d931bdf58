"""What shows who touched what: whole commands in units of `lamina version`, the first time and after it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.engines import Engine
from bench.measure import Sample, repeated
from bench.rows import IMAGE, Bench, Row

BASE, BIG = "debian:bench", "big:bench"
LIMITS = {"image diff": 10.0, "blame": 6.0, "image find": 6.0}


def exploring(bench: Bench) -> list[Row]:
    """`image diff`, `blame` and `image find` on the Debian images, 100 of them, and on a layer of 500,000 files."""
    rows: list[Row] = []
    for engine in bench.own:
        with debian(engine, bench):
            commands = {"image diff": ("image", "diff", BASE, IMAGE), "blame": ("blame", IMAGE), "image find": ("image", "find", "emacs*")}
            rows += _rows(bench, engine, "two Debian images, 100 to find in", commands, LIMITS)
        with many_files(engine, bench.work):
            commands = {"image diff": ("image", "diff", BASE, BIG), "blame": ("blame", BIG), "image find": ("image", "find", "*0099.txt")}
            rows += _rows(bench, engine, "a layer of 500,000 files", commands, dict.fromkeys(LIMITS, 20.0))
            engine.docker("rmi", "-f", BASE)
    return rows


def _rows(bench: Bench, engine: Engine, what: str, commands: Mapping[str, Sequence[str]], limits: Mapping[str, float]) -> Iterator[Row]:
    """A row a command: how long it took at first, and then."""
    for title, arguments in commands.items():
        yield Row(f"{title}, the first time: {what}", {engine.name: [_once(engine, arguments)]})
        samples: dict[str, list[Sample]] = {}
        for _ in range(bench.rounds * 5):
            for name, words in (("version", ("version",)), (title, arguments)):
                samples.setdefault(f"{engine.name} {name}", []).append(_once(engine, words))
        yield Row(f"{title}: {what}", samples, {engine.name: limits[title]}, against="version", at_most=True)


def _once(engine: Engine, arguments: Sequence[str]) -> Sample:
    seconds = repeated([*engine.own, *arguments], engine.environment(), 1)[0]
    return Sample(seconds, seconds)


@contextmanager
def debian(engine: Engine, bench: Bench) -> Iterator[None]:
    """The Debian base, the image with emacs and apache, and 98 on top of that, one layer more each."""
    engine.docker("import", str(bench.inputs.base), BASE)
    engine.docker("load", "-q", "-i", str(bench.inputs.image))
    names = [f"many:{number}" for number in range(98)]
    with tempfile.TemporaryDirectory() as context:
        for number, name in enumerate(names):
            Path(context, "file").write_text(f"{number}\n")
            Path(context, "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY file /srv/emacs-{number}\n")
            engine.docker("build", "-q", "-t", name, context)
    yield
    engine.docker("rmi", "-f", *names, IMAGE)


@contextmanager
def many_files(engine: Engine, work: Path) -> Iterator[None]:
    """An image of one layer of 500,000 files in 5,500 directories."""
    tar = work / "many-files.tar"
    if not tar.exists():
        _write_tar(tar)
    engine.docker("import", str(tar), BIG)
    yield
    engine.docker("rmi", "-f", BIG)


def _write_tar(path: Path) -> None:
    script = (
        "import io, sys, tarfile\n"
        "with tarfile.open(sys.argv[1], 'w', format=tarfile.USTAR_FORMAT) as tar:\n"
        "    for number in range(500_000):\n"
        "        info = tarfile.TarInfo(f'srv/set{number // 1000:03}/part{number // 100 % 10}/document-{number % 100:04}.txt')\n"
        "        data = b'%d\\n' % number\n"
        "        info.size = len(data)\n"
        "        tar.addfile(info, io.BytesIO(data))\n"
    )
    subprocess.run(["python3", "-c", script, str(path)], check=True)
