"""fanotify: what comes into being in a file system, by the handle of its directory and its name (Linux 5.9, CAP_SYS_ADMIN)."""

from __future__ import annotations

import ctypes
import os
import struct

from lamina.linux.libc import machine, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_INIT, _MARK, _OPEN_BY_HANDLE = {"x86_64": (300, 301, 304), "aarch64": (262, 263, 265)}[machine]
_CLOEXEC_NONBLOCK, _REPORT_DIRECTORY_AND_NAME = 0x3, 0xC00
_ADD_TO_FILE_SYSTEM = 0x101
_MOVED_HERE, _CREATED, _DIRECTORIES_TOO = 0x80, 0x100, 0x40000000
_HEAD = struct.Struct("=IBBHQii")
_DIRECTORY_AND_NAME = 2
_BATCH = 256 << 10


def arrivals(path: str) -> int:
    """A descriptor whose events tell of all that is made in, or moved within, the file system that `path` is on, wherever it is mounted.

    Raises:
        OSError: this kernel, or this file system, cannot.
    """
    fd = syscall(_INIT, "fanotify_init", _CLOEXEC_NONBLOCK | _REPORT_DIRECTORY_AND_NAME, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mask = ctypes.c_ulong(_CREATED | _MOVED_HERE | _DIRECTORIES_TOO)
        syscall(_MARK, "fanotify_mark", fd, _ADD_TO_FILE_SYSTEM, mask, -100, os.fsencode(path))
        return fd
    except OSError:
        os.close(fd)
        raise


def told(fd: int, top: int) -> Iterator[tuple[str, bytes, bool]]:
    """What arrived since, in order: the directory's path, the name, and whether that is a directory. Never waits.

    `top` is a descriptor of a directory in that file system. What is in a directory that is gone by now is left out.
    """
    known: dict[bytes, str] = {}
    while data := _read(fd):
        at = 0
        while at < len(data):
            size, _, _, head, mask, _, _ = _HEAD.unpack_from(data, at)
            handle, name = _record(data[at + head : at + size])
            if handle not in known:
                known[handle] = _path(top, handle)
            if known[handle]:
                yield known[handle], name, bool(mask & _DIRECTORIES_TOO)
            at += size


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _BATCH)
    except BlockingIOError:
        return b""


def _record(data: bytes) -> tuple[bytes, bytes]:
    """The directory's handle as the kernel takes it back, and the name; empty where the queue has overflowed."""
    if len(data) < 20 or data[0] != _DIRECTORY_AND_NAME:
        return b"", b""
    # Kind, padding, length; the file system; then the handle: length, kind, bytes.
    end = 20 + int.from_bytes(data[12:16], "little")
    return data[12:end], data[end:].partition(b"\0")[0]


def _path(top: int, handle: bytes) -> str:
    """Where a directory is, "" if it is gone."""
    if not handle:
        return ""
    try:
        fd = syscall(_OPEN_BY_HANDLE, "open_by_handle_at", top, handle, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")
        return "" if found.endswith(" (deleted)") else found
    finally:
        os.close(fd)
