"""Terminals: a pty of a given devpts, sizes, the controlling terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_UNLOCK, _PEER, _SIZE, _CONTROL = 0x40045431, 0x5441, 0x5414, 0x540E


def open_pty(devpts: int) -> tuple[int, int]:
    """Master and slave of a new pty of the devpts whose root `devpts` is; no path of it is looked up twice."""
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts)
    fcntl.ioctl(master, _UNLOCK, struct.pack("i", 0))
    return master, fcntl.ioctl(master, _PEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_size(fd: int, height: int, width: int) -> None:
    """The terminal's size in characters; its foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, _SIZE, struct.pack("4H", height & 0xFFFF, width & 0xFFFF, 0, 0))


def make_controlling(fd: int) -> None:
    """Make a terminal this session's."""
    fcntl.ioctl(fd, _CONTROL, 0)


def make_raw(fd: int) -> Callable[[], None]:
    """Pass every key on as it is, cfmakeraw(3); gives what undoes it. Nothing where `fd` is not a terminal."""
    try:
        before = termios.tcgetattr(fd)
    except termios.error:
        return lambda: None
    raw = [*before[:6], list(before[6])]
    raw[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(fd, termios.TCSAFLUSH, raw)
    return lambda: termios.tcsetattr(fd, termios.TCSAFLUSH, before)
