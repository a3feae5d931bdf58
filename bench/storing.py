"""What keeps and checks: archives of the other layouts beside docker's own, and a look at every byte beside sha256sum's."""

from __future__ import annotations

import heapq
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.engines import Engine
from bench.measure import Sample, timed
from bench.rows import IMAGE, Bench, Row, loaded

FORMS = ("oci", "v1")
LIMIT, CHECK_LIMIT = 1.2, 1.3
_DOCKER = "docker-archive"


def archives(bench: Bench) -> list[Row]:
    """`save` and `load` of the Debian image as an OCI archive and in the layout before Docker 1.10, beside docker's own layout."""
    target = bench.work / "form.tar"
    saves: dict[str, dict[str, list[Sample]]] = {form: {} for form in FORMS}
    loads: dict[str, dict[str, list[Sample]]] = {form: {} for form in FORMS}

    def saved(engine: Engine, form: str) -> Sample:
        target.unlink(missing_ok=True)  # To truncate a large file takes time of its own.
        return timed(lambda: engine.cli("save", "--format", form, "-o", str(target), IMAGE))

    def brought(engine: Engine, archive: Path) -> Sample:
        sample = timed(lambda: engine.cli("load", "-q", "-i", str(archive)))
        engine.cli("rmi", "-f", IMAGE)
        return sample

    for engine in bench.own:
        with archived(engine, bench) as made:
            for _ in range(bench.rounds):
                with loaded([engine], bench.inputs):
                    usual = saved(engine, "docker")
                    for form in FORMS:
                        _add(saves[form], engine, saved(engine, form), usual)
                usual = brought(engine, made["docker"])
                for form in FORMS:
                    _add(loads[form], engine, brought(engine, made[form]), usual)
            target.unlink()
    limits = {engine.name: LIMIT for engine in bench.own}
    return [
        Row(f"{work}, {_called(form)}", samples[form], limits, against=_DOCKER, at_most=True)
        for work, samples in (("load", loads), ("save", saves))
        for form in FORMS
    ]


def _add(samples: dict[str, list[Sample]], engine: Engine, sample: Sample, usual: Sample) -> None:
    samples.setdefault(engine.name, []).append(sample)
    samples.setdefault(f"{engine.name} {_DOCKER}", []).append(usual)


def _called(form: str) -> str:
    return "OCI archive" if form == "oci" else "layout before Docker 1.10"


@contextmanager
def archived(engine: Engine, bench: Bench) -> Iterator[dict[str, Path]]:
    """Archives of the Debian image in all layouts, made by the engine itself."""
    made = {form: bench.work / f"{form}.tar" for form in ("docker", *FORMS)}
    with loaded([engine], bench.inputs):
        for form, path in made.items():
            engine.cli("save", "--format", form, "-o", str(path), IMAGE)
    yield made
    for path in made.values():
        path.unlink()


def check(bench: Bench) -> Row:
    """`system check` of a root with the Debian image, beside sha256sum over the same files on all processors."""
    samples: dict[str, list[Sample]] = {}
    with loaded(bench.own, bench.inputs):
        for engine in bench.own:
            engine.cli("system", "check")  # With extracted trees the first one makes their checksums.
        for _ in range(bench.rounds):
            for engine in bench.own:
                shares = shared_out(engine.root / "data")
                samples.setdefault(engine.name, []).append(timed(lambda engine=engine: engine.cli("system", "check")))  # type: ignore[misc]
                samples.setdefault(f"{engine.name} sha256sum", []).append(timed(lambda shares=shares: hash_all(shares)))  # type: ignore[misc]
    limits = {engine.name: CHECK_LIMIT for engine in bench.own}
    return Row("system check", samples, limits, against="sha256sum", at_most=True)


def shared_out(root: Path) -> list[list[str]]:
    """The files of all blobs and layers, one list a processor, as even as their sizes allow."""
    files = [path for folder in ("content", "layers", "images") for path in _files(root / folder)]
    shares: list[tuple[int, int, list[str]]] = [(0, number, []) for number in range(os.cpu_count() or 1)]
    for size, path in sorted(((os.lstat(path).st_size, path) for path in files), reverse=True):
        total, number, share = heapq.heappop(shares)
        share.append(path)
        heapq.heappush(shares, (total + size, number, share))
    return [share for _, _, share in shares]


def _files(folder: Path) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        yield from (f"{path}/{name}" for name in names if os.path.isfile(f"{path}/{name}") and not os.path.islink(f"{path}/{name}"))


def hash_all(shares: Sequence[Sequence[str]]) -> None:
    """sha256sum over each list, all at once."""
    started: list[Callable[[], int]] = []
    for share in shares:
        command = ["xargs", "-0", "sha256sum", "--"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin is not None
        process.stdin.write(b"\0".join(os.fsencode(path) for path in share))
        process.stdin.close()
        started.append(process.wait)
    for wait in started:
        wait()
