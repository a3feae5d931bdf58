"""Threads that are kept for more work."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.harness import eventually

from lamina.linux import crew
from lamina.linux.crew import Crew


def done_by(hands: Crew) -> int:
    """Which thread did a piece of work."""
    done: list[int] = []
    told = threading.Event()

    def work() -> None:
        done.append(threading.get_ident())
        told.set()

    hands.start(work)
    assert told.wait(60)
    return done[0]


def waiting(hands: Crew) -> int:
    return len(hands._idle)


def test_a_thread_whose_work_is_done_takes_the_next() -> None:
    hands = Crew("x")
    first = done_by(hands)
    eventually(lambda: waiting(hands) == 1)
    assert done_by(hands) == first


def test_work_does_not_wait_for_other_work() -> None:
    hands, barrier = Crew("many"), threading.Barrier(21, timeout=60)
    for _ in range(20):
        hands.start(barrier.wait)
    barrier.wait()
    eventually(lambda: waiting(hands) == crew._KEPT)
    eventually(lambda: sum(thread.name == "many" for thread in threading.enumerate()) == crew._KEPT)


def test_a_thread_without_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_PATIENCE", 0.05)
    hands = Crew("short")
    done_by(hands)
    eventually(lambda: waiting(hands) == 0 and all(thread.name != "short" for thread in threading.enumerate()))


def test_no_work_is_lost_where_threads_end_at_every_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_PATIENCE", 0.0001)
    hands, counted = Crew("x"), threading.Semaphore(0)

    def start(_number: int) -> None:
        hands.start(counted.release)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(2000)))
    for _ in range(2000):
        assert counted.acquire(timeout=60)


def test_what_work_raises_is_told_and_the_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, told = Crew("x"), list[str]()
    monkeypatch.setattr(threading, "excepthook", lambda failed: told.append(f"{failed.thread.name}: {failed.exc_value}"))

    def fail() -> None:
        raise ValueError("why")

    hands.start(fail)
    eventually(lambda: waiting(hands) == 1)
    assert told == ["x: why"]
    done_by(hands)


def test_a_fork_has_threads_of_its_own() -> None:
    hands = Crew("x")
    done_by(hands)
    eventually(lambda: waiting(hands) == 1)
    pid = os.fork()
    if not pid:
        try:
            done_by(hands)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
