"""Turns on a processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from lamina.linux import scheduling

LINUX = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
SETS_LENGTHS = LINUX >= (6, 12)


def after(*calls: Callable[[], None]) -> tuple[int, int, int]:
    """The turns of a thread that made these calls."""
    found: list[tuple[int, int, int]] = []

    def run() -> None:
        for call in calls:
            call()
        found.append(scheduling.turns())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def usual() -> tuple[int, int, int]:
    return scheduling.turns()


@pytest.fixture
def allowed() -> None:
    """Only who may raise priorities goes ahead."""

    def ahead() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)

    try:
        after(ahead)
    except IndexError:  # the thread ended by PermissionError
        pytest.skip("not allowed to raise a priority")


@pytest.mark.usefixtures("allowed")
def test_a_thread_that_answers_goes_ahead_and_has_the_shortest_turns(usual: tuple[int, int, int]) -> None:
    policy, nice, length = after(scheduling.take_short_turns)
    assert policy == os.SCHED_OTHER
    assert nice < usual[1]
    assert not SETS_LENGTHS or length < usual[2]


def test_a_thread_that_moves_bytes_keeps_its_share_and_gives_way(usual: tuple[int, int, int]) -> None:
    policy, nice, length = after(scheduling.take_long_turns)
    assert (policy, nice) == (os.SCHED_BATCH, usual[1])
    assert not SETS_LENGTHS or length > usual[2]


@pytest.mark.usefixtures("allowed")
def test_nobody_goes_further_ahead_by_asking_twice() -> None:
    once = after(scheduling.take_short_turns)
    assert after(scheduling.take_short_turns, scheduling.take_short_turns) == once


@pytest.mark.usefixtures("allowed")
def test_what_a_thread_ahead_starts_is_not_ahead(usual: tuple[int, int, int]) -> None:
    found: list[int] = []

    def start() -> None:
        scheduling.take_short_turns()
        found.append(after()[1])
        ours, theirs = os.pipe()
        child = os.posix_spawn(
            "/bin/sh", ["sh", "-c", "cut -d' ' -f19 /proc/self/stat"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1)]
        )
        os.close(theirs)
        with open(ours, "rb") as said:
            found.append(int(said.read()))
        os.waitpid(child, 0)

    after(start)
    assert found == [max(0, usual[1])] * 2 or usual[1] > 0


def test_who_may_not_go_ahead_has_its_turns_all_the_same(usual: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    real = scheduling.syscall

    def guarded(number: int, name: str, *arguments: object) -> int:
        if name == "sched_setattr" and scheduling._ATTRIBUTES.unpack(arguments[1])[3] < usual[1]:  # type: ignore[arg-type]
            raise PermissionError
        return real(number, name, *arguments)

    monkeypatch.setattr(scheduling, "syscall", guarded)
    policy, nice, length = after(scheduling.take_short_turns)
    assert (policy, nice) == (os.SCHED_OTHER, usual[1])
    assert not SETS_LENGTHS or length < usual[2]


def test_work_in_the_background_has_a_smaller_share(usual: tuple[int, int, int]) -> None:
    policy, nice, length = after(scheduling.work_in_the_background)
    assert policy == os.SCHED_BATCH
    assert nice >= max(usual[1], 1)
    assert not SETS_LENGTHS or length > usual[2]


def test_who_works_in_the_background_may_take_what_is_left_for_a_while() -> None:
    seen: list[int] = []

    def work() -> None:
        with scheduling.WhatIsLeft():
            seen.append(scheduling.turns()[0])

    assert after(scheduling.work_in_the_background, work)[0] == os.SCHED_BATCH
    assert after(work)[0] == os.SCHED_OTHER
    assert seen == [os.SCHED_IDLE, os.SCHED_OTHER]


def test_who_was_put_before_others_stays_there() -> None:
    def ahead() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, -7)

    try:
        before = after(ahead)[1]
    except PermissionError:
        pytest.skip("not allowed to raise a priority")
    assert before == -7
    for turns in (scheduling.take_long_turns, scheduling.take_usual_turns):
        assert after(ahead, turns)[1] == -7
    assert after(ahead, scheduling.take_short_turns)[1] <= -7


def test_a_thread_can_be_like_any_other_again(usual: tuple[int, int, int]) -> None:
    assert after(scheduling.take_short_turns, scheduling.take_usual_turns) == usual


def test_a_refusal_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(scheduling, "syscall", refuse)
    scheduling.take_short_turns()
    with scheduling.WhatIsLeft():
        pass
