"""What a probe's result means, and when the next one is due."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from lamina.container.health import Check, Result, after, begun, check_of, delay
from lamina.container.model import Container

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
