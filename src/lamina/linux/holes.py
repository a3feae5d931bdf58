"""Long runs of zeros take no room on the disk: where they would be written, a file gets a hole, which reads the same."""

from __future__ import annotations

import os

from lamina.linux.channel import write_all
from lamina.linux.pieces import PIECE

_LEAST = 1 << 16


def hollow(data: bytes | bytearray | memoryview) -> bool:
    """Whether it is nothing but zeros, and enough of them for a hole."""
    size = len(data)
    return size >= _LEAST and not data[0] and not data[size // 2] and not data[-1] and bytes(data) == bytes(size)


class HollowWriter:
    """Writes to the empty file `fd` from its start on; `finish` gives it its length. Borrows the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        if hollow(data):
            os.lseek(self._fd, len(data), os.SEEK_CUR)
        else:
            view = memoryview(data)
            for start in range(0, len(view), PIECE):
                write_all(self._fd, view[start : start + PIECE])

    def finish(self) -> None:
        """All has been given."""
        os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR))
