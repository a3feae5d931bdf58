"""openat2(2): opening below a directory as if it were the root, so that no symlink leads out of it."""

from __future__ import annotations

import ctypes
import os
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
    fd = _libc.syscall(
        ctypes.c_long(_CALL), ctypes.c_long(directory), ctypes.c_char_p(encoded), ctypes.c_char_p(how), ctypes.c_long(len(how))
    )
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), os.fsdecode(encoded))
    return int(fd)


def open_in_root(root: int, path: str | bytes, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open `path` as a process with the directory `root` as its root would, magic links (of /proc) refused."""
    for _ in range(_PATIENCE):
        try:
            return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode)
        except BlockingIOError:
            # openat2(2): EAGAIN where a rename or mount anywhere on the machine met a `..` of the path.
            continue
    return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode)
