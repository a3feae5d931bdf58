"""Pipes, and sockets of this machine, that hold as much at once as a user may have."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Sequence

_SIZE = 1 << 20
_MOST_PIECES = 1024  # IOV_MAX
_SO_SNDBUFFORCE = 32


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


def widen_way_out(fd: int) -> None:
    """Let a unix socket take a megabyte of what is written to it, if `fd` is one: so the writer works on while the reader does.

    Root may, above the system's limit for all; others get that limit. What is not a unix socket stays as it is: the kernel sizes
    those of networks itself.
    """
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return
    with socket.socket(fileno=os.dup(fd)) as found:
        if found.family == socket.AF_UNIX:
            try:
                found.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SIZE)
            except PermissionError:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SIZE)


def write_gathered(fd: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write all of them, by as few calls as it takes."""
    begin = 0
    while begin < len(pieces):
        written = os.writev(fd, pieces[begin : begin + _MOST_PIECES])
        while begin < len(pieces) and written >= len(pieces[begin]):
            written -= len(pieces[begin])
            begin += 1
        if written:
            pieces = [memoryview(pieces[begin])[written:], *pieces[begin + 1 :]]
            begin = 0
