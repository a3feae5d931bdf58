"""Long jobs take what is left of the processors (`lamina.linux.scheduling`); where that is little, they get a small share after all.

Where everything else sleeps now and then, what is left is all they need, and nobody waits for them. Beside something that computes without
end they would stand still, perhaps with a lock of the kernel's held.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from lamina.linux.scheduling import turns, work_in_the_background

PERIOD = 0.2
"""Seconds between two looks."""
_LITTLE = 0.3


class Patience:
    """Looks at what this process got since the last look. The calling thread stays as it is."""

    def __init__(self, used: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic) -> None:
        self._used, self._clock = used, clock
        self._last = used(), clock()

    def look(self) -> None:
        """To be called every PERIOD. A thread that could work, and hardly did, gets a share for the rest of the job."""
        used, now = self._used(), self._clock()
        share = (used - self._last[0]) / max(now - self._last[1], 1e-3)
        self._last = used, now
        if share >= _LITTLE:
            return
        for thread in _others():
            if _waits(thread):
                work_in_the_background(thread)


def _others() -> list[int]:
    """This process's threads but the calling one; none where they cannot be seen."""
    try:
        threads = os.listdir("/proc/self/task")
    except OSError:
        return []
    return [thread for thread in map(int, threads) if thread != threading.get_native_id()]


def _waits(thread: int) -> bool:
    """Whether it takes what is left, and runs or waits for a processor: proc_pid_stat(5)."""
    try:
        if turns(thread)[0] != os.SCHED_IDLE:
            return False
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read().rpartition(b")")[2][1:2] == b"R"
    except OSError:
        return False
