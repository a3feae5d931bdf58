"""Long jobs that get no turn."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from lamina.linux.scheduling import WhatIsLeft, turns, work_in_the_background
from lamina.worker.patience import Patience


@pytest.fixture
def busy() -> Iterator[int]:
    """A thread that computes, with what is left of the processors."""
    ready, stop, found = threading.Event(), threading.Event(), []
    data = bytes(16 << 20)

    def compute() -> None:
        work_in_the_background()
        with WhatIsLeft():
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


def test_who_hardly_gets_a_turn_has_a_share_from_then_on(busy: int) -> None:
    own = turns()
    patience = Patience(used=within([0.0, 0.5, 0.6]), clock=within([0.0, 1.0, 2.0]))
    patience.look()
    assert turns(busy)[0] == os.SCHED_IDLE
    patience.look()
    assert turns(busy)[0] == os.SCHED_BATCH
    assert turns() == own
