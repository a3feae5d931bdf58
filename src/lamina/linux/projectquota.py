"""Project quotas of ext4 and xfs: quotactl_fd(2), and the project ID of a directory, which what is made in it takes over."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from lamina.linux.libc import syscall

_QUOTACTL_FD = 443
_PROJECT = 2
_GET, _SET = 0x800007 << 8 | _PROJECT, 0x800008 << 8 | _PROJECT
_LIMIT_IS_VALID = 1
_DQBLK = struct.Struct("=8QI4x")
_FSXATTR = struct.Struct("=5I8x")
_GET_XATTR, _SET_XATTR = 0x801C581F, 0x401C5820
_INHERIT = 0x200
_UNIT = 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def available(path: str) -> bool:
    """Whether the file system of a directory is mounted with project quotas."""
    try:
        _quota(path, 0)
    except OSError:
        return False
    return True


def assign(path: str, project: int) -> None:
    """Give an empty directory a project ID; all that is made in it counts for that. Raises OSError."""
    fd = os.open(path, _DIRECTORY)
    try:
        flags, extent, extents, _, copied = _FSXATTR.unpack(fcntl.ioctl(fd, _GET_XATTR, bytes(_FSXATTR.size)))
        fcntl.ioctl(fd, _SET_XATTR, _FSXATTR.pack(flags | _INHERIT, extent, extents, project, copied))
    finally:
        os.close(fd)


def limit(path: str, project: int, size: int) -> None:
    """Cap what a project has on the file system of `path` at `size` bytes; 0: nothing does. Raises OSError."""
    blocks = -(-size // _UNIT)
    _call(path, _SET, project, bytearray(_DQBLK.pack(blocks, 0, 0, 0, 0, 0, 0, 0, _LIMIT_IS_VALID)))


def used(path: str, project: int) -> tuple[int, int]:
    """Bytes that a project has, and its cap. Raises OSError."""
    found = _quota(path, project)
    return found[2], found[0] * _UNIT


def _quota(path: str, project: int) -> tuple[int, ...]:
    buffer = bytearray(_DQBLK.size)
    _call(path, _GET, project, buffer)
    return _DQBLK.unpack(buffer)


def _call(path: str, command: int, project: int, buffer: bytearray) -> None:
    fd = os.open(path, _DIRECTORY)
    try:
        address = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        syscall(_QUOTACTL_FD, "quotactl_fd", fd, command, project, ctypes.byref(address))
    finally:
        os.close(fd)
