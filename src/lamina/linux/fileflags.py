"""Flags of files that only the file system knows (chattr): ioctl_iflags(2)."""

from __future__ import annotations

import fcntl
import os
import struct

_GET, _SET = 0x80086601, 0x40086602
_TOP_DIRECTORY = 0x00020000


def mark_top_directory(path: str) -> bool:
    """Say that the directories made in `path` have nothing to do with each other (`chattr +T`); whether it is so now.

    Ext4 then spreads them over the disk. Else it puts a new tree where one was deleted a moment
    before, and passes over each inode deleted in the last seconds, one by one, for each file made:
    extracting a layer of 8,700 files right after removing one took 6 s, and takes 0.7 s with this.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("=Q", fcntl.ioctl(fd, _GET, bytes(8)))[0]
        if not flags & _TOP_DIRECTORY:
            fcntl.ioctl(fd, _SET, struct.pack("=Q", flags | _TOP_DIRECTORY))
        return True
    except OSError:
        return False  # not ext4, or not ours: slower at worst
    finally:
        os.close(fd)
