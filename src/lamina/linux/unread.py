"""What the other end of a socket has not read yet (TIOCOUTQ: unix(7), tcp(7))."""

from __future__ import annotations

import fcntl
import sys
import termios
import time

_PATIENCE = 2.0
"""Seconds. On a busy machine the other end gets no turn for a while."""


def await_reading(*sockets: int) -> None:
    """Return when all that was sent was read, or after two seconds; what is no socket is not waited for.

    docker-py loses what comes together with the head of a stream: it reads on below the buffer that holds it.
    """
    until, pause = time.monotonic() + _PATIENCE, 0.0001
    while any(_unread(fd) for fd in sockets) and time.monotonic() < until:
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


def _unread(fd: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
