"""What trees take on disk, while somebody may write to them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 4096
"""Directories that lie deeper are not looked into: one is open for each level."""


def bytes_on_disk(path: str, *, itself: bool = True) -> int:
    """Bytes that a directory takes with all that is below it, or without `itself`, each inode once.

    By descriptors: a path below it may be longer than PATH_MAX. What goes away meanwhile is not counted.

    Raises:
        OSError: the directory itself cannot be read.
    """
    blocks, linked = os.lstat(path).st_blocks if itself else 0, set[int]()
    levels: list[tuple[int, list[str]]] = []
    try:
        levels.append((os.open(path, _DIRECTORY), [""]))
        while levels:
            here, names = levels[-1]
            if not names:
                os.close(levels.pop()[0])
                continue
            with suppress(OSError):
                below = os.dup(here) if not (name := names.pop()) else os.open(name, _DIRECTORY, dir_fd=here)
                levels.append((below, []))
                more, directories = _within(below, linked)
                blocks += more
                levels[-1][1].extend(directories if len(levels) < _DEEP else ())
    finally:
        for fd, _ in levels:
            os.close(fd)
    return blocks * 512


def _within(fd: int, linked: set[int]) -> tuple[int, list[str]]:
    """Blocks of a directory's entries, and the directories among them; files of several names are counted once, in `linked`."""
    total, directories = 0, []
    with os.scandir(fd) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    directories.append(entry.name)
                elif status.st_nlink > 1:
                    if status.st_ino in linked:
                        continue
                    linked.add(status.st_ino)
                total += status.st_blocks
    return total, directories
