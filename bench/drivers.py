"""`python -m bench.drivers`: the three storage drivers on the same work, one column each: the table of docs/layers.md."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from bench import engines, inputs
from bench.engines import Engine
from bench.measure import disk_bytes, timed
from bench.rows import IMAGE, registry

DRIVERS = ("erofs", "overlay", "native")
_CHANGES = "i=0; while [ $i -lt 10 ]; do dd if=/dev/urandom of=/data.$i bs=1M count=10 2>/dev/null; i=$((i+1)); done"


class Table:
    """What was measured, work by work, each time with all drivers in turn."""

    def __init__(self, own: Sequence[Engine], rounds: int) -> None:
        self._own, self._rounds = own, rounds
        self._found: dict[tuple[str, str], dict[str, list[float]]] = {}

    def note(self, what: str, unit: str, engine: Engine, value: float) -> None:
        """One measurement: seconds (`s`) or bytes (`B`)."""
        self._found.setdefault((what, unit), {}).setdefault(engine.name, []).append(value)

    def lines(self) -> Iterator[str]:
        """Markdown, medians."""
        yield "| work | " + " | ".join(engine.name.removeprefix("lamina-") for engine in self._own) + " |"
        yield "|---|" + "---|" * len(self._own)
        for (what, unit), samples in self._found.items():
            yield f"| {what} | " + " | ".join(_shown(median(samples[engine.name]), unit) for engine in self._own) + " |"


def _shown(value: float, unit: str) -> str:
    if unit == "B":
        return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.drivers", description="Lamina's storage drivers beside each other.")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3)")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/lamina-bench", help="folder of the inputs")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="lamina-bench."))
    own = [engines.lamina(work, driver) for driver in DRIVERS]
    table = Table(own, arguments.rounds)
    try:
        with engines.running(own):
            given = inputs.prepare(arguments.cache, own[0])
            with registry(work / "registry") as address:
                name = _pushed(own[0], given, address)
                for _ in range(arguments.rounds):
                    for engine in own:
                        measure(engine, name, table)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("\n".join(table.lines()))


def _pushed(engine: Engine, given: inputs.Inputs, address: str) -> str:
    name = f"{address}/apps:bench"
    engine.docker("load", "-q", "-i", str(given.image))
    engine.docker("tag", IMAGE, name)
    engine.docker("push", "-q", name)
    engine.docker("rmi", "-f", name, IMAGE)
    return name


def measure(engine: Engine, name: str, table: Table) -> None:
    """The life of an image and of containers on it."""
    data = str(engine.root / "data")

    def took(what: str, action: Callable[[], object]) -> None:
        table.note(what, "s", engine, timed(action).seconds)

    def grew(what: str, before: int) -> None:
        table.note(what, "B", engine, max(disk_bytes(data) - before, 0))

    empty = disk_bytes(data)
    took("pull, three gzip layers", lambda: engine.docker("pull", "-q", name))
    grew("bytes on disk: the image", empty)
    first = disk_bytes(data)
    took("create, the first container", lambda: engine.docker("create", "--name", "first", "--network", "none", name, "true"))
    grew("bytes on disk: one container more", first)
    took("run --rm true", lambda: engine.docker("run", "--rm", "--network", "none", name, "true"))
    took(
        "read all files of a container", lambda: engine.docker("run", "--rm", "--network", "none", name, "tar", "-cf", "/dev/null", "/usr")
    )
    engine.docker("run", "--name", "changed", "--network", "none", name, "sh", "-c", _CHANGES)
    before = disk_bytes(data)
    took("commit of 100 MB", lambda: engine.docker("commit", "changed", "committed:bench"))
    grew("bytes on disk: the committed layer", before)
    took("rm of that container", lambda: engine.docker("rm", "changed", "first"))
    took("save", lambda: engine.docker("save", "-o", str(engine.root / "saved.tar"), name))
    took("system check", lambda: engine.cli("system", "check"))
    took("rmi", lambda: engine.docker("rmi", "-f", "committed:bench", name))
    subprocess.run(["sync"], check=True)
    (engine.root / "saved.tar").unlink()


if __name__ == "__main__":
    main()
