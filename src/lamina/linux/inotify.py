"""inotify(7): being told that files changed."""

from __future__ import annotations

import os

from lamina.linux.libc import check, libc

IN_MODIFY, IN_ATTRIB, IN_MOVE_SELF, IN_CREATE, IN_MOVED_TO, IN_DELETE_SELF = 0x2, 0x4, 0x800, 0x100, 0x80, 0x400


def instance() -> int:
    """A new inotify descriptor, which does not block; the caller closes it."""
    return check(int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)), "inotify_init1")


def add(fd: int, path: str, mask: int) -> None:
    """Watch a path as well. Raises OSError where it is not there."""
    check(int(libc.inotify_add_watch(fd, os.fsencode(path), mask)), "inotify_add_watch")


def watching(path: str) -> int:
    """A descriptor that becomes readable when the file's content changes; the caller closes it."""
    fd = instance()
    try:
        add(fd, path, IN_MODIFY)
    except OSError:
        os.close(fd)
        raise
    return fd
