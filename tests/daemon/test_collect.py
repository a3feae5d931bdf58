"""Collection goes on whatever happens, and ends when it is told."""

from __future__ import annotations

import threading

from lamina.daemon.collect import Collection
from lamina.errors import Corrupt


def test_a_failure_does_not_end_it_and_closing_does() -> None:
    twice = threading.Semaphore(0)

    def collect() -> None:
        twice.release()
        raise Corrupt("something is damaged")

    collection = Collection(collect, 0.001)
    assert twice.acquire(timeout=60)
    assert twice.acquire(timeout=60)
    collection.close()
    collection.close()
