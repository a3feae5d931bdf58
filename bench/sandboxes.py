"""Rows about `Engine.sandbox`: how many start in a second, and how many branches of one state are made in one. No peer has such."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import lamina
from bench.measure import Sample, whole
from bench.rows import Bench, Row

_COUNT, _THREADS = 100, 2
_MOST = 0.01
"""Seconds for each: a hundred a second."""


def sandboxes(bench: Bench) -> list[Row]:
    """Seconds for each of a hundred: a sandbox made, a command run in it, removed; a branch made and removed. Goal: 10 ms."""
    starts: dict[str, list[Sample]] = {}
    branches: dict[str, list[Sample]] = {}
    for engine in bench.own:
        driver = engine.name.removeprefix("lamina-")
        with lamina.Engine.open(bench.work / f"sandbox-{driver}", storage_driver=driver) as own:
            image = own.import_tar(bench.inputs.busybox, "box")
            starts[engine.name] = _rounds(bench, lambda own=own, image=image: _start(own, image))  # type: ignore[misc]
            with own.sandbox(image) as box:
                box.exec("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64")
                branches[engine.name] = _rounds(bench, lambda box=box: box.branch().close())  # type: ignore[misc]
    goals = dict.fromkeys(starts, _MOST)
    return [
        Row("sandbox: made, true run, removed", starts, goals, "", at_most=True),
        Row("branch of a sandbox of 64 MB: made, removed", branches, goals, "", at_most=True),
    ]


def _start(engine: lamina.Engine, image: lamina.Image) -> None:
    with engine.sandbox(image) as box:
        assert box.exec("true").exit_code == 0


def _rounds(bench: Bench, act: Callable[[], None]) -> list[Sample]:
    """Seconds for each, of a hundred that two threads share, round after round."""
    act()
    return [_round(act) for _ in range(bench.rounds)]


def _round(act: Callable[[], None]) -> Sample:
    with ThreadPoolExecutor(_THREADS) as pool:
        begin = time.perf_counter()
        list(pool.map(lambda _: act(), range(_COUNT)))
        return whole((time.perf_counter() - begin) / _COUNT)
