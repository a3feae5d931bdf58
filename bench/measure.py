"""Timing of whole commands: until they return, and until sync has written what they left."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """Seconds until the command returned, and until sync has written the rest."""

    seconds: float
    synced: float


def timed(action: Callable[[], object], *, sync: bool = True) -> Sample:
    """Time one action that starts on clean disks."""
    if sync:
        os.sync()
    begin = time.perf_counter()
    action()
    seconds = time.perf_counter() - begin
    if sync:
        os.sync()
    return Sample(seconds, time.perf_counter() - begin)


def whole(value: float) -> Sample:
    """A figure with nothing left to sync."""
    return Sample(value, value)


def repeated(command: Sequence[str], env: dict[str, str], times: int) -> list[float]:
    """Seconds of each of several runs of one short command."""
    out = []
    for _ in range(times):
        begin = time.perf_counter()
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        out.append(time.perf_counter() - begin)
        if done.returncode:
            raise SystemExit(f"bench: {' '.join(command)}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
    return out


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def spread(values: Sequence[float]) -> str:
    """`median (min to max)` in seconds or milliseconds."""
    unit, factor = ("ms", 1000) if median(values) < 1 else ("s", 1)
    low, mid, high = (value * factor for value in (min(values), median(values), max(values)))
    return f"{mid:.3g} {unit} ({low:.3g}–{high:.3g})"


def pss_kib(pids: Sequence[int]) -> int:
    """Proportional set size of processes, KiB."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def disk_bytes(folder: str) -> int:
    """Allocated bytes below a folder, each inode once."""
    return int(subprocess.run(["du", "-s", "-x", "-B1", folder], capture_output=True, text=True, check=False).stdout.split()[0])
