"""Builds in the large: a context of 10,000 files, and many stages that need nothing of each other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.engines import Engine
from bench.measure import Sample, timed
from bench.rows import Bench, Row, busybox, wanted

FILES, STEPS, STAGES = 10_000, 20, 20
SECONDS = 2


def build_context(bench: Bench) -> Row:
    """A build of a context of 10,000 files with 20 steps, all of them cached; half of the steps copy."""
    context = context_of_files(bench.work / "context")

    def measure(engine: Engine) -> Sample:
        return timed(lambda: engine.docker("build", "-q", "--network", "none", "-t", "context:bench", str(context)), sync=False)

    with busybox(bench.engines, bench.inputs):
        for engine in bench.engines:
            measure(engine)
        samples = bench.each(measure, rounds=bench.rounds * 3)
        for engine in bench.engines:
            engine.docker("rmi", "-f", "context:bench")
    shutil.rmtree(context)
    return Row(f"build, context of {FILES:,} files with {STEPS} steps, cached", samples, wanted(2))


def context_of_files(context: Path) -> Path:
    """100 folders of 100 files of 1 to 4 KiB, and a Dockerfile that copies all of them and some again."""
    for folder in range(FILES // 100):
        place = context / f"d{folder:02}"
        place.mkdir(parents=True)
        for number in range(100):
            (place / f"f{number:02}.txt").write_bytes(f"{folder}/{number}\n".encode() * (100 + number * 4))
    steps = [
        "COPY . /all/",
        *(f"COPY d{number:02} /d{number:02}/" for number in range(9)),
        *(f"RUN echo {number} > /r" for number in range(9)),
    ]
    (context / "Dockerfile").write_text("FROM busybox:bench\n" + "\n".join(steps) + "\nENV A=b\n")
    return context


def build_stages(bench: Bench) -> Row:
    """Twenty independent stages of 2 s each and one that copies from all, beside the longest path of it: one such stage and the copies."""
    wide, path = bench.work / "wide", bench.work / "path"

    def measure(engine: Engine, context: Path) -> Sample:
        return timed(lambda: engine.docker("build", "-q", "--no-cache", "--network", "none", str(context)), sync=False)

    with busybox(bench.own, bench.inputs):
        stages(wide, STAGES)
        stages(path, 1)
        samples = bench.each(lambda engine: measure(engine, wide), bench.own)
        samples |= {f"{name} longest path": times for name, times in bench.each(lambda engine: measure(engine, path), bench.own).items()}
    return Row(f"build of {STAGES} independent stages of {SECONDS} s", samples, wanted(1.25), against="longest path", at_most=True)


def stages(context: Path, count: int) -> None:
    """A Dockerfile of `count` stages that wait for something, and a last one with twenty copies of what they made."""
    context.mkdir(exist_ok=True)
    text = "".join(f"FROM busybox:bench AS s{number}\nRUN sleep {SECONDS}; echo {number} > /made\n" for number in range(count))
    text += "FROM scratch\n" + "".join(f"COPY --from=s{number % count} /made /made{number}\n" for number in range(STAGES))
    (context / "Dockerfile").write_text(text)
    os.sync()
