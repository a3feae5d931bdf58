"""Solves by their refs."""

from __future__ import annotations

import threading

from lamina.buildkit.solving import Solves


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
