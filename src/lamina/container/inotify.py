"""Waiting for changes of files, together with an eventfd that stops the wait."""

from __future__ import annotations

import os
import select

from lamina.linux import inotify
from lamina.linux.inotify import IN_ATTRIB, IN_CREATE, IN_DELETE_SELF, IN_MODIFY, IN_MOVE_SELF, IN_MOVED_TO

__all__ = ["IN_ATTRIB", "IN_CREATE", "IN_DELETE_SELF", "IN_MODIFY", "IN_MOVED_TO", "IN_MOVE_SELF", "Watch"]


class Watch:
    """Waits for changes of files. `stop` may be called from another thread; everything else belongs to one thread."""

    def __init__(self) -> None:
        self._fd = inotify.instance()
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._stop, select.POLLIN)
        self.stopped = False

    def add(self, path: str, mask: int) -> None:
        """Watch a path as well. Raises OSError where it is not there."""
        inotify.add(self._fd, path, mask)

    def wait(self, timeout: float) -> bool:
        """Wait until something changed or `stop` was called; False after `timeout` seconds."""
        ready = self._poll.poll(int(timeout * 1000))
        for fd, _ in ready:
            if fd == self._stop:
                self.stopped = True
        try:
            os.read(self._fd, 65536)
        except BlockingIOError:
            pass
        return bool(ready)

    def stop(self) -> None:
        """Wake whoever waits, for good."""
        try:
            os.eventfd_write(self._stop, 1)
        except OSError:
            pass

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)
        fd, self._stop = self._stop, -1
        os.close(fd)
