"""What the other end of a socket has not read yet (TIOCOUTQ: unix(7), tcp(7))."""

from __future__ import annotations

import fcntl
import sys
import termios
import time

_PATIENCE = 2.0
"""Seconds. On a busy machine the other end gets no turn for a while."""


def await_reading(fd: int) -> None:
    """Return when all that was sent was read, or after two seconds; at once where `fd` is no socket.

    docker-py loses what comes together with the head of a stream: it reads on below the buffer that holds it.
    """
    until, pause = time.monotonic() + _PATIENCE, 0.0001
    try:
        while int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder) and time.monotonic() < until:
            time.sleep(pause)
            pause = min(2 * pause, 0.01)
    except OSError:
        pass
