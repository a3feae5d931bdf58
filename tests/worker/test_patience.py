"""Workers that get no turn."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from lamina.linux.scheduling import take_what_is_left, turns
from lamina.worker.patience import Patience, others, wants_share


@pytest.mark.parametrize(
    ("share", "runnable", "has", "wants"),
    [
        (0.0, True, False, True),  # it could work, and never did
        (0.0, False, False, False),  # it sleeps
        (0.1, True, False, False),  # it gets somewhere
        (0.1, True, True, True),  # its share is all that it gets
        (0.9, True, True, False),  # nobody is there any more
        (0.1, False, True, False),
    ],
)
def test_a_share_is_taken_by_who_starves_and_given_back_when_there_is_enough(share: float, runnable: bool, has: bool, wants: bool) -> None:
    assert wants_share(share, runnable, has) is wants


@pytest.fixture
def busy() -> Iterator[int]:
    """A thread that computes, with what is left of the processors."""
    ready, stop, found = threading.Event(), threading.Event(), []
    data = bytes(16 << 20)

    def compute() -> None:
        take_what_is_left()
        found.append(threading.get_native_id())
        ready.set()
        while not stop.is_set():
            hashlib.sha256(data)  # without the interpreter's lock

    thread = threading.Thread(target=compute)
    thread.start()
    ready.wait()
    yield found[0]
    stop.set()
    thread.join()


def within(values: list[float]) -> Callable[[], float]:
    """One value after the other."""
    rest = iter(values)
    return lambda: next(rest)


def test_all_threads_but_the_one_that_looks_change(busy: int) -> None:
    own = turns()
    patience = Patience(used=within([0.0, 0.0, 0.9]), clock=within([0.0, 1.0, 2.0]))
    patience.look()
    assert patience.lost
    assert turns(busy)[0] == os.SCHED_BATCH
    patience.look()
    assert not patience.lost
    assert turns(busy)[0] == os.SCHED_IDLE
    assert turns() == own


def test_the_calling_thread_is_not_among_the_others(busy: int) -> None:
    assert busy in others()
    assert threading.get_native_id() not in others()
