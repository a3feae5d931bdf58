"""Solves by their refs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lamina.buildkit import tree
from lamina.buildkit.solving import Solves
from lamina.buildkit.status import Log
from tests.harness import eventually


def test_a_solve_that_is_over_before_its_client_asks_is_told_all_the_same() -> None:
    solves = Solves()
    for number in range(40):
        with solves.begun(f"ref{number}", "") as solve:
            solve.log.work("step").done()
    assert [vertex.name for told in solves.log("ref39").follow() for vertex in told.vertexes] == ["step", "step"]


def test_a_solve_may_be_asked_for_before_it_begins() -> None:
    solves, found = Solves(), list[str]()
    asking = threading.Thread(target=lambda: found.extend(vertex.name for told in solves.log("ref").follow() for vertex in told.vertexes))
    asking.start()
    with solves.begun("ref", "") as solve:
        solve.log.work("step")
    asking.join(120)
    assert found == ["step"]


def test_output_that_is_heard_slowly_is_waited_for_and_nothing_of_it_is_lost() -> None:
    log, piece, written = Log("ref"), "x" * (1 << 20), list[int]()
    work = log.work("step")
    heard = log.follow()
    next(heard)

    def write() -> None:
        for number in range(20):
            work.output(piece)
            written.append(number)
        log.close()

    writing = threading.Thread(target=write)
    writing.start()
    eventually(lambda: len(written) >= 4, "nothing is kept")
    sizes = [sum(len(each.msg) for each in told.logs) for told in heard]
    writing.join(30)
    assert sum(sizes) == 20 << 20 and max(sizes) <= 5 << 20


def test_output_is_written_on_when_who_heard_it_has_gone() -> None:
    log = Log("ref")
    work = log.work("step")
    heard = log.follow()
    next(heard)
    writing = threading.Thread(target=lambda: [work.output("x" * (1 << 20)) for _ in range(20)])
    writing.start()
    heard.close()
    writing.join(30)
    assert not writing.is_alive()


def test_a_disk_that_takes_a_part_of_what_is_written_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, data, place: pwrite(fd, data[: len(data) // 2 + 1], place))
    with open(tmp_path / "tar", "w+b", buffering=0) as file:
        tree._write(file.fileno(), b"0123456789", 3)
        assert file.read() == bytes(3) + b"0123456789"
