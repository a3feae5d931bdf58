"""Device nodes of this host."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

_SKIPPED = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
_OWN = {"console", "ptmx", "tty", "null", "zero", "full", "random", "urandom"}
"""What every container has of its own."""


def host_devices(directory: str = "/dev") -> list[dict[str, Any]]:
    """All device nodes below /dev as OCI `linux.devices`, sorted by path: what a privileged container sees."""
    return sorted(_devices(directory), key=lambda device: str(device["path"]))


def _devices(directory: str) -> Iterator[dict[str, Any]]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink() or entry.name in _SKIPPED or (directory == "/dev" and entry.name in _OWN):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _devices(entry.path)
        else:
            yield from _device(entry.path)


def _device(path: str) -> Iterator[dict[str, Any]]:
    try:
        found = os.lstat(path)
    except OSError:
        return
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if kind:
        numbers = {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}
        yield {"path": path, "type": kind, **numbers, "fileMode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
