"""The table: medians, spread, ratios, and where a figure falls short."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from statistics import median

from bench.engines import Engine
from bench.measure import Sample, spread
from bench.rows import Row


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown lines; a ratio is the median of the rounds' own ratios, peer over Lamina, bigger is better."""
    yield "| work | engine | until it returns | until synced | ratio | ratio synced | wanted | |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        for name, samples in row.samples.items():
            yield _line(row, name, samples)


def _line(row: Row, name: str, samples: Sequence[Sample]) -> str:
    plain, synced = [sample.seconds for sample in samples], [sample.synced for sample in samples]
    ratio, ratio_synced = _ratio(row, name, plain, "seconds"), _ratio(row, name, synced, "synced")
    goal = row.wanted.get(name.split()[0])
    cells = [
        row.title,
        name,
        _show(row, plain),
        _show(row, synced) if plain != synced else "",
        _times(ratio) if row.against else "",
        _times(ratio_synced) if plain != synced else "",
    ]
    if goal is None or ratio is None:
        return "| " + " | ".join([*cells, "", ""]) + " |"
    if row.at_most:
        return "| " + " | ".join([*cells, f"≤ {_most(row, goal)}", "ok" if ratio <= goal else "**short**"]) + " |"
    met = ratio >= goal and (ratio_synced is None or plain == synced or ratio_synced >= goal / 2)
    return "| " + " | ".join([*cells, f"≥ {goal:g}×", "ok" if met else "**short**"]) + " |"


def _most(row: Row, goal: float) -> str:
    if row.against:
        return f"{goal:g}"
    return f"{goal / 1048576:.0f} MiB" if row.unit == "B" else f"{goal * 1000:g} ms"


def _ratio(row: Row, name: str, values: Sequence[float], which: str) -> float | None:
    if row.against == "":
        return median(values)
    other = row.samples.get(f"{name.split()[0]} {row.against}", row.samples.get(row.against))
    if other is None or name.endswith(row.against):
        return None
    pairs = list(zip(values, [getattr(sample, which) for sample in other], strict=False))
    return median(mine / theirs for mine, theirs in pairs) if row.at_most else median(theirs / mine for mine, theirs in pairs)


def _show(row: Row, values: Sequence[float]) -> str:
    return f"{median(values) / 1e6:.1f} MB" if row.unit == "B" else spread(values)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}×" if ratio < 1000 else ""


def heading(engines: Sequence[Engine]) -> Iterator[str]:
    """What was measured on what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    yield f"Machine: {os.cpu_count()} cores, {memory} GiB, Linux {platform.release()}, Python {platform.python_version()}."
    yield ""
    for engine in engines:
        yield f"- {engine.name}: {engine.version}"
    yield ""
