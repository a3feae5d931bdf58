"""openat2(2): opening below a directory as if it were the root, so that no symlink leads out of it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
_CALL = 437
_PATIENCE = 1000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def openat2(directory: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` below the descriptor `directory`; the caller closes what comes back.

    Raises:
        OSError: as open(2); EXDEV or ELOOP where `resolve` forbids the way.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    for _ in range(_PATIENCE):
        fd = _libc.syscall(
            ctypes.c_long(_CALL), ctypes.c_long(directory), ctypes.c_char_p(encoded), ctypes.c_char_p(how), ctypes.c_long(len(how))
        )
        # openat2(2): EAGAIN where a rename or mount anywhere on the machine met a `..` of the path. A container may rename all day.
        if fd >= 0 or (found := ctypes.get_errno()) != errno.EAGAIN:
            break
    if fd < 0:
        raise OSError(found, os.strerror(found), os.fsdecode(encoded))
    return int(fd)


def open_in_root(root: int, path: str | bytes, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open `path` as a process with the directory `root` as its root would, magic links (of /proc) refused."""
    return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode)


def open_regular_in_root(root: int, path: str | bytes, *, follow: bool = True) -> int:
    """The same for reading what is a regular file, see `open_regular`. Without `follow` the last step follows no link."""
    return _reopened(open_in_root(root, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW)))


def open_regular(name: str | bytes, directory: int) -> int:
    """Open a regular file of a directory for reading; no link is followed, and nothing else is opened at all: opening alone does something
    to many a device (a watchdog begins to count), and whoever may exchange the name may make a node.

    Raises:
        FileNotFoundError: there is none, or it is not a regular file.
        OSError: as open(2).
    """
    return _reopened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))


def _reopened(place: int) -> int:
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
