"""Workers take what is left of the processors; one that gets nothing of them for a while takes a small share instead.

Where everything else of the session sleeps now and then, what is left is all they need, and nobody waits for them. Where something
computes without end (beside a library's engine, say), they would stand still, perhaps with a lock of the kernel's held.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from lamina.linux.scheduling import take_what_is_left, work_in_the_background

PERIOD = 1.0
"""Seconds between two looks."""
_STARVING, _ENOUGH = 0.03, 0.5


class Patience:
    """Changes how this process's threads are scheduled by what they got since the last look. The calling thread stays as it is."""

    def __init__(self, used: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic) -> None:
        self._used, self._clock = used, clock
        self._last = used(), clock()
        self.lost = False

    def look(self) -> None:
        """To be called every PERIOD."""
        used, now = self._used(), self._clock()
        share = (used - self._last[0]) / max(now - self._last[1], 1e-3)
        self._last = used, now
        threads = others()
        lost = wants_share(share, any(map(_runnable, threads)), self.lost)
        if lost != self.lost:
            self.lost = lost
            for thread in threads:
                (work_in_the_background if lost else take_what_is_left)(thread)


def wants_share(share: float, runnable: bool, has: bool) -> bool:
    """Whether a process takes a share of its own: `share` of one processor is what it got, `has` what it has now."""
    return share < _ENOUGH and runnable if has else share < _STARVING and runnable


def others() -> list[int]:
    """This process's threads but the calling one."""
    return [thread for thread in map(int, os.listdir("/proc/self/task")) if thread != threading.get_native_id()]


def _runnable(thread: int) -> bool:
    """Whether it runs or waits for a processor: proc_pid_stat(5)."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read().rpartition(b")")[2][1:2] == b"R"
    except OSError:
        return False
