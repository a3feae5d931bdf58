"""Worker side: files of a container that may be written over, because nobody could tell it from a new file in their place.

A file system that has just freed an inode looks long for another one (ext4 passes over those of the last minutes), so whoever copies the
same tree again and again is served by keeping them. What a file was stays whole for whoever has it open, and for other names of it: then
it is replaced.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from lamina.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_regular, openat2

_PLACE = os.O_PATH | os.O_CLOEXEC
# Whoever opens the file in this moment may get a lease on it, and an open that waits would wait 45 s for its end.
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
_PERMISSIONS = 0o777
_OVERLAYS = frozenset(("trusted.overlay.origin",))
"""What overlayfs notes of a file that it copied up, and what changes nothing for its content."""


class Looks(NamedTuple):
    """Whose a file is on the host, and its mode without the kind."""

    uid: int
    gid: int
    bits: int


class Reuse:
    """Files of an overlay, `root` being its root, which writes to `upper`; both are descriptors of directories.

    Whether anybody uses a file is asked by leases: of the one below the overlay, since overlayfs maps that one and does not tell, and then
    of the overlay's own.
    """

    def __init__(self, root: int, upper: int) -> None:
        self._device, self._upper = os.fstat(root).st_dev, upper
        self._last: tuple[tuple[int, int, int], int | None] | None = None

    def close(self) -> None:
        """Let go of the last directory."""
        if self._last is not None and self._last[1] is not None:
            os.close(self._last[1])
        self._last = None

    def opened(self, parent: int, name: str, looks: Looks) -> int | None:
        """The file `name` in the directory `parent`, open for writing at its start; None unless it is a regular file in the upper directory
        with these looks and nothing more, has no other name, and nobody has it open or mapped. The caller closes it, and cuts it."""
        below = self._below(parent)
        if below is None or looks.bits > _PERMISSIONS:
            return None
        try:
            place = os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=parent)
        except OSError:
            return None
        try:
            found = os.fstat(place)
            if not stat.S_ISREG(found.st_mode) or (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) != looks:
                return None
            return _alone(os.open(f"/proc/self/fd/{place}", _WRITE)) if _idle(below, name, found) else None
        except OSError:
            return None
        finally:
            os.close(place)

    def _below(self, parent: int) -> int | None:
        """The directory's part in the upper directory, kept for the next file; None where it has none."""
        seen = os.fstat(parent)
        key = parent, seen.st_dev, seen.st_ino
        if self._last is None or self._last[0] != key:
            self.close()
            self._last = key, self._found(parent) if seen.st_dev == self._device else None
        return self._last[1]

    def _found(self, parent: int) -> int | None:
        with suppress(OSError):  # its path may be longer than a path can be told
            path = os.readlink(f"/proc/self/fd/{parent}").lstrip("/")
            return openat2(self._upper, path or ".", _PLACE | os.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        return None


def _idle(below: int, name: str, seen: os.stat_result) -> bool:
    """Whether the file that the overlay shows as `seen` is in that upper directory, and free."""
    fd = open_regular(name, below)
    try:
        real = os.fstat(fd)
        if (real.st_size, real.st_mtime_ns, real.st_ctime_ns, real.st_nlink) != (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, 1):
            return False
        if not _OVERLAYS.issuperset(os.listxattr(fd)):
            return False
        _lease(fd)
        return True
    finally:
        os.close(fd)


def _alone(fd: int) -> int | None:
    """The file of the overlay, open for writing, unless somebody else has it open there: then it is closed.

    Whoever opened it before it was copied up holds the layer's file, yet reads what is copied; another job may be about to write over it too.
    """
    try:
        _lease(fd)
    except OSError:
        os.close(fd)
        return None
    return fd


def _lease(fd: int) -> None:
    """Raises OSError where anybody else has the file open, and a mapping keeps it open: fcntl(2), leases."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@contextmanager
def reusing(root: int, writes: str) -> Iterator[Reuse | None]:
    """For a container's root, as a descriptor, and the host directory it writes to; None unless it is an overlay on that. Main thread only."""
    upper = os.open(writes, _PLACE | os.O_DIRECTORY)
    # Whoever opens a file in the moment of its lease has this sent to us.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        if os.path.samestat(os.fstat(root), os.fstat(upper)):
            yield None
            return
        reuse = Reuse(root, upper)
        try:
            yield reuse
        finally:
            reuse.close()
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(upper)
