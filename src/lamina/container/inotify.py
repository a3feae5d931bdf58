"""Being told of changes to a file: inotify(7) by ctypes, waited for together with an eventfd that stops the wait."""

from __future__ import annotations

import ctypes
import os
import select

IN_MODIFY, IN_ATTRIB, IN_MOVE_SELF, IN_CREATE, IN_MOVED_TO, IN_DELETE_SELF = 0x2, 0x4, 0x800, 0x100, 0x80, 0x400
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC


class Watch:
    """Waits for changes of files. `stop` may be called from another thread; everything else belongs to one thread."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(_NONBLOCK | _CLOEXEC))
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._stop, select.POLLIN)
        self.stopped = False

    def add(self, path: str, mask: int) -> None:
        """Watch a path as well. Raises OSError where it is not there."""
        self._checked(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask))

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

    def _checked(self, result: int) -> int:
        if result < 0:
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))
        return result
