"""Pipes that hold as much at once as a user may have."""

from __future__ import annotations

import fcntl
import os

_SIZE = 1 << 20


def wide_pipe() -> tuple[int, int]:
    """Both ends of a new pipe, reader first, closed on exec; the caller closes them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    widen(writer)
    return reader, writer


def widen(fd: int) -> None:
    """Let a pipe hold a megabyte, if `fd` is one and the user's pipes are not at their limit: else it is slower, not wrong."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _SIZE)
    except OSError:
        pass
