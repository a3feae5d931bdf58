"""Run an untrusted script in twenty branches of one state, each with other input, and compare what each changed.

    python examples/branches.py [--root DIRECTORY] ROOT-FILE-SYSTEM.tar [SCRIPT]

Each branch begins in the same state, has no network and little memory, and is thrown away afterwards; the state itself is never touched.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lamina

BRANCHES = 20
SETUP = "mkdir -p /var/cache /work; echo 'some of your data' > /work/data"
SCRIPT = """\
echo "run $NUMBER" > /var/cache/answer
if [ $((NUMBER % 7)) = 0 ]; then rm /work/data; echo gone > /etc/motd; fi
"""
"""A script that behaves well most of the time."""


def main() -> None:
    """Set up a state, branch it, and print which branches did what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="a tar of a root file system with a shell")
    parser.add_argument("script", type=Path, nargs="?", help="the script to run (one that is careless now and then)")
    parser.add_argument("--root", type=Path, help="the engine's directory (a temporary one)")
    arguments = parser.parse_args()
    script = arguments.script.read_text() if arguments.script else SCRIPT
    with tempfile.TemporaryDirectory() as temporary, lamina.Engine.open(arguments.root or temporary) as engine:
        image = engine.import_tar(arguments.base, "example/branches:1")
        limits = lamina.Limits(memory=256 << 20, pids=64)
        with engine.sandbox(image, limits) as box:
            box.exec("sh", "-c", SETUP)
            show([*run(box, script)])


def run(box: lamina.Sandbox, script: str) -> list[dict[str, str]]:
    """What each branch changed: kinds by path."""
    branches = box.branches(BRANCHES)

    def one(number: int) -> dict[str, str]:
        with branches[number] as branch:
            branch.exec("sh", "-c", script, env={"NUMBER": str(number)}, timeout=30)
            return {change.path: change.kind for change in branch.diff()}

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(BRANCHES)))


def show(found: list[dict[str, str]]) -> None:
    """Print the changes of each branch, then what only some of them changed."""
    for number, changes in enumerate(found):
        print(f"branch {number:2}: {' '.join(f'{kind} {path}' for path, kind in sorted(changes.items()))}")
    counted = Counter(path for changes in found for path in changes)
    for path, count in sorted(counted.items()):
        if count < len(found):
            print(f"{path}: only in {', '.join(str(number) for number, changes in enumerate(found) if path in changes)}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
