"""Some room on the disk that only removals get: on a full one, what frees space has to be written down first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SIZE = 4 << 20
"""Bytes. A removal writes a few pages of the database and the list of names."""
_PLENTY = 16
"""The reserve is laid aside where this many times its size is free."""


class Reserve:
    """A file that is there to be deleted. Thread-safe; several removals share its room."""

    def __init__(self, path: str, size: int = SIZE) -> None:
        self._path, self._size = path, size

    def lay_aside(self) -> None:
        """Make it, where it is missing and the disk has plenty. What a disk refuses is tried again the next time."""
        if os.path.exists(self._path) or self._free() < _PLENTY * self._size:
            return
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
            except OSError:
                os.unlink(self._path)  # less than all of it would be taken for all
            finally:
                os.close(fd)

    def give_up(self) -> None:
        """Let it go where the disk has no other room of that size."""
        if self._free() < self._size:
            with suppress(OSError):
                os.unlink(self._path)

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """What happens inside has that room, if there is none else."""
        self.give_up()
        try:
            yield
        finally:
            self.lay_aside()

    def _free(self) -> int:
        status = os.statvfs(os.path.dirname(self._path))
        return status.f_bavail * status.f_frsize
