"""Files that are written and will hardly be read: their bytes leave the page cache when they are on the disk (RWF_DONTCACHE, pwritev2(2)).

The disk is not waited for. Since Linux 6.14, where the file system can (ext4 and xfs do); elsewhere such a file is like any other.
What it gains is memory: nothing else is pushed out for these bytes, and the kernel need not find a fresh page for each of them,
which costs more than to copy them where a virtual machine must first get it from its host.
"""

from __future__ import annotations

import errno
import os

_DONTCACHE = 0x80  # linux/fs.h
_PIECE = 1 << 20


class UncachedWriter:
    """Writes to the empty file `fd` from its start on; `finish` writes the last of it. Borrows the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd, self._flags = fd, _DONTCACHE
        self._held: list[bytes] = []
        self._size = self._at = 0

    def write(self, data: bytes) -> None:
        """The next bytes. They are written a megabyte at once: a page that is half full would be on its way to the disk when its rest
        comes."""
        self._held.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            whole = b"".join(self._held)
            stop = len(whole) - len(whole) % _PIECE
            self._out(memoryview(whole)[:stop])
            self._held, self._size = [whole[stop:]], len(whole) - stop

    def finish(self) -> None:
        """All has been given."""
        self._out(memoryview(b"".join(self._held)))
        self._held, self._size = [], 0

    def _out(self, view: memoryview) -> None:
        while view:
            try:
                written = os.pwritev(self._fd, [view], self._at, self._flags)
            except OSError as error:
                if not self._flags or error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._flags = 0
                continue
            self._at, view = self._at + written, view[written:]
