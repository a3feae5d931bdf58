"""Descriptors held in this process: for tests, and for the library where nothing outlives it."""

from __future__ import annotations

import fcntl
import threading

from lamina.linux.owned import Owned


class MemoryFdStore:
    """See `protocol.FdStore`. What it holds ends with the process."""

    def __init__(self) -> None:
        self._held: dict[str, Owned] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> int | None:
        """See `FdStore.get`."""
        return self._held.get(name)

    def hold(self, name: str, fd: int) -> None:
        """See `FdStore.hold`."""
        duplicate = Owned(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
        with self._lock:
            self._held[name] = duplicate

    def drop(self, name: str) -> None:
        """See `FdStore.drop`."""
        with self._lock:
            self._held.pop(name, None)

    def names(self) -> list[str]:
        """See `FdStore.names`."""
        return sorted(self._held)

    def close(self) -> None:
        """Let go of everything."""
        for name in self.names():
            self.drop(name)
