"""Mounting a stack on the host: a job for workers, since old kernels need a process of one thread for it."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any

from lamina.errors import InvalidArgument, Unsupported
from lamina.linux import mount
from lamina.linux.overlay import mount_overlay_anywhere
from lamina.worker import Report

_SAFE = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
_LACKING = (errno.ENODEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def attach(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Mount `lowers` (top first; a path, or None for the next descriptor) at `target`: read-only, without set-user-ID and devices."""
    given = iter(fds)
    lowers = [(next(given), None) if path is None else (None, path) for path in params["lowers"]]
    scratch = tempfile.mkdtemp(dir=params["scratch"])
    try:
        fd = mount_overlay_anywhere(lowers, None, None, scratch)
        try:
            mount.set_attributes(fd, _SAFE)
            mount.move_mount(fd, params["target"])
        finally:
            os.close(fd)
        return {}
    except OSError as error:
        if error.errno in _LACKING:
            raise Unsupported(f"this kernel cannot mount it: {error.strerror or error}") from None
        raise InvalidArgument(f"cannot mount at {params['target'][:300]}: {error.strerror or error}") from None
    finally:
        os.rmdir(scratch)
