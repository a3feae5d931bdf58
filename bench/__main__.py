"""`python -m bench [ROW ...]`: measure, print the table, write it to bench/RESULTS.md when every row ran, or with --write."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import builds, engines, exploring, files, inputs, lives, networking, report, rows, sandboxes, storing
from bench.rows import Bench, Row

RESULTS = Path(__file__).parent / "RESULTS.md"
ROWS: dict[str, Callable[[Bench], Row | list[Row]]] = {
    "import": rows.bring_tar,
    "load": rows.load,
    "pull": rows.pull,
    "push": rows.push,
    "save": rows.save,
    "archives": storing.archives,
    "check": storing.check,
    "commit": rows.commit,
    "rmi": rows.remove,
    "build": rows.build,
    "context": builds.build_context,
    "stages": builds.build_stages,
    "run": rows.run,
    "lives": lives.lives,
    "bare": lives.bare,
    "latency": rows.latency,
    "seeing": rows.seeing,
    "exploring": exploring.exploring,
    "listing": lives.listing,
    "memory": rows.memory,
    "sandboxes": sandboxes.sandboxes,
    "networking": networking.networking,
    "volumes": files.volumes,
    "copyup": files.copy_up,
    "logs": files.logs,
    "copies": files.copies,
}


def main() -> None:
    """Run the rows named, or all."""
    parser = argparse.ArgumentParser(prog="bench", description="Lamina beside Debian's dockerd on the same work.")
    parser.add_argument("rows", nargs="*", help=f"which rows (all): {' '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each slow command is measured (3)")
    parser.add_argument("--drivers", default="erofs,overlay", help="Lamina's storage drivers (erofs,overlay)")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/lamina-bench", help="folder of the inputs")
    parser.add_argument("--work", type=Path, help="folder of the engines' roots (a temporary one)")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md also when only some rows ran")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {' '.join(sorted(unknown))}; there are {' '.join(ROWS)}")
    work = arguments.work or Path(tempfile.mkdtemp(prefix="lamina-bench."))
    try:
        lines = measure(work, arguments)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if arguments.write or not arguments.rows:
        RESULTS.write_text("# Results\n\nWritten by `./dev bench`.\n\n" + "\n".join(lines) + "\n")


def measure(work: Path, arguments: argparse.Namespace) -> list[str]:
    """Start the engines, run the rows, print as they come."""
    peer = engines.dockerd(work)
    own = [engines.lamina(work, driver) for driver in arguments.drivers.split(",")]
    present = ([peer] if peer else []) + own
    lines = list(report.heading(present))
    print("\n".join(lines), flush=True)
    done: list[Row] = []
    with engines.running(present):
        bench = Bench(present, inputs.prepare(arguments.cache, present[0]), work, arguments.rounds)
        for name in arguments.rows or ROWS:
            measured = ROWS[name](bench)
            new = measured if isinstance(measured, list) else [measured]
            done += new
            print("\n".join(list(report.table(new))[2:]), flush=True)
    return lines + list(report.table(done))


if __name__ == "__main__":
    main()
