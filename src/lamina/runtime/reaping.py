"""A monitor's children that are not the process it stays with."""

from __future__ import annotations

import os


class Ending:
    """A child that is about to end: not reaped it would be a zombie for the monitor's whole life. `fd` is readable once it has, and -1 where
    there is nothing to wait for."""

    __slots__ = ("_pid", "fd")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self.fd = os.pidfd_open(pid)
        except OSError:
            self.fd = -1  # no descriptor is left: then it stays one

    def reap(self, _fd: int, _events: int) -> None:
        """It has ended."""
        os.waitpid(self._pid, 0)
        os.close(self.fd)
        self.fd = -1


def reap_all() -> None:
    """Of an exec that failed a dead process is left, which would be the container's first process's then: that need not reap what it never
    knew."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
