"""What a probe's result means, and when the next one is due."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.container import health
from lamina.container.health import Check, Result, after, begun, check_of, delay
from lamina.container.model import Container
from lamina.runtime.launch import CommandNotFound
from tests.container.fakes import World, world
from tests.harness import eventually

__all__ = ["world"]
SECOND = 10**9
CHECK = Check(("true",), interval=10 * SECOND, start_period=60 * SECOND, start_interval=SECOND, retries=2)


def result(code: int) -> Result:
    return Result(1, 2, code, "said")


def test_failures_in_a_row_make_it_unhealthy_and_one_success_well_again() -> None:
    health = after(begun(None), CHECK, result(0), 0)
    assert (health["Status"], health["FailingStreak"]) == ("healthy", 0)
    health = after(health, CHECK, result(1), 0)
    assert (health["Status"], health["FailingStreak"]) == ("healthy", 1)
    health = after(health, CHECK, result(-1), 0)
    assert (health["Status"], health["FailingStreak"]) == ("unhealthy", 2)
    assert after(health, CHECK, result(0), 0)["Status"] == "healthy"


@pytest.mark.parametrize(("ran", "streak"), [(59, 0), (60, 1)])
def test_failures_within_the_start_period_do_not_count(ran: int, streak: int) -> None:
    assert after(begun(None), CHECK, result(1), ran * SECOND)["FailingStreak"] == streak


def test_the_last_five_results_are_kept_over_starts() -> None:
    health = begun(None)
    for code in range(7):
        health = after(health, CHECK, result(code), 0)
    assert [entry["ExitCode"] for entry in begun(health)["Log"]] == [2, 3, 4, 5, 6]
    assert begun(health)["Status"] == "starting"


def test_probes_come_faster_while_it_starts() -> None:
    starting, well = begun(None), after(begun(None), CHECK, result(0), 0)
    assert [delay(starting, CHECK, 0), delay(starting, CHECK, 61 * SECOND), delay(well, CHECK, 0)] == [SECOND, 10 * SECOND, 10 * SECOND]


def test_a_check_is_a_command_or_a_line_for_the_shell_or_none() -> None:
    record = Container("i" * 64, "n", 0, "x", "x", "", "c", (), "/d", {}, {})
    assert check_of(record) is None
    for test, command in ((["NONE"], None), ([], None), (["CMD", "a", "b"], ("a", "b")), (["CMD-SHELL", "a b"], ("/bin/sh", "-c", "a b"))):
        found = check_of(replace(record, config={"Healthcheck": {"Test": test, "Retries": 5}}))
        assert (found.command if found else None) == command
        assert found is None or (found.retries, found.interval, found.start_interval) == (5, 30 * SECOND, 5 * SECOND)


def test_times_that_nobody_can_wait_for_or_that_leave_no_time_are_kept_in_bounds() -> None:
    """An image says them, and one thread waits for the checks of all containers."""
    record = Container("i" * 64, "n", 0, "x", "x", "", "c", (), "/d", {}, {})
    found = check_of(replace(record, config={"Healthcheck": {"Test": ["CMD", "a"], "Interval": 10**40, "Timeout": 1}}))
    assert found is not None and found.interval / SECOND < threading.TIMEOUT_MAX and found.timeout == 10**6


def test_a_probe_for_which_there_is_no_thread_comes_a_moment_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_NO_ROOM", 0.01)
    begin, refused = threading.Thread.start, threading.Event()

    def full(thread: threading.Thread) -> None:
        if thread.name == "probe" and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", full)
    world.run(Healthcheck={"Test": ["CMD", "true"], "Interval": 10**6})
    eventually(lambda: any(action.startswith("exec_start") for action in world.actions()))
    assert refused.is_set()
    world.containers.close()


def test_a_container_runs_though_there_is_no_thread_for_its_checks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start

    def full(thread: threading.Thread) -> None:
        if thread.name == "health":
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        process = world.run(Healthcheck={"Test": ["CMD", "true"], "Interval": 10**6})
    with world.containers.wait("it") as waiter:
        process.end(2)
        assert waiter.result(10) is not None
    world.run("other", Healthcheck={"Test": ["CMD", "true"], "Interval": 10**6})
    eventually(lambda: any(action.startswith("exec_start") for action in world.actions()))
    world.containers.close()


def test_the_start_period_does_not_end_when_the_clock_is_set_forward(tmp_path: Path) -> None:
    world = World(tmp_path, clock=itertools.count(10**18, 3600 * SECOND).__next__)
    world.run(Healthcheck={"Test": ["CMD", "nosuch"], "StartPeriod": 1800 * SECOND, "StartInterval": 10**6, "Retries": 1})
    world.runtime.failure = CommandNotFound("nosuch")
    eventually(lambda: len((world.containers.get("it").state.health or {}).get("Log", ())) == 5)
    found = world.containers.get("it").state.health
    assert found is not None
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    world.containers.close()


def test_a_paused_container_is_unhealthy_and_what_froze_with_it_is_no_failure(world: World) -> None:
    world.run(Healthcheck={"Test": ["CMD", "true"], "Interval": 10**6, "Retries": 1})
    eventually(lambda: len(world.runtime.processes) == 2)
    probe = world.runtime.processes[1]
    world.containers.pause("it")
    assert world.containers.get("it").health == "unhealthy"
    probe.end(1)
    eventually(lambda: all(thread.name != "probe" for thread in threading.enumerate()))
    world.containers.unpause("it")
    eventually(lambda: len(world.runtime.processes) == 3)
    assert world.containers.get("it").health == "unhealthy"
    world.runtime.processes[2].end(0)
    eventually(lambda: world.containers.get("it").health == "healthy")
    world.containers.close()
