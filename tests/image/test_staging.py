"""How many layers of an archive are on their way in at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lamina.image.archive.source import StageJob
from lamina.layer.staged import TarSource
from lamina.spec.framing import Sized
from lamina.worker.incoming import Loan


class SlowLayers:
    """Stages nothing, but not before it is told; knows how many wait at once."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.enough = threading.Lock(), 0, 0, threading.Event()

    def stage(self, *_arguments: object) -> object:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == 3:
                self.enough.set()
        self.enough.wait(120)
        with self.lock:
            self.now -= 1
        return object()


def test_jobs_of_one_gate_wait_for_each_other() -> None:
    layers: Any = SlowLayers()
    gate = threading.Semaphore(3)
    jobs = [StageJob(layers, "", None, gate) for _ in range(20)]
    for job in jobs:
        job.start(TarSource(-1))
    assert [job.result() for job in jobs]
    assert layers.most == 3


def test_who_lent_a_connection_does_not_wait_for_a_job_that_never_began() -> None:
    class NoLayers:
        def stage(self, *_arguments: object) -> object:
            raise OSError("no scratch directory")

    layers: Any = NoLayers()
    job, loan = StageJob(layers, "", None), Loan(-1, Sized(10), b"", b"", 10)
    job.start(TarSource(-1, length=10, lent=loan))
    loan.wait()
    assert loan.returned() is None
    with pytest.raises(OSError, match="no scratch"):
        job.result()
