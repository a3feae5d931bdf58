"""Where init mounts: paths below the root that is being set up, which images and users choose."""

from __future__ import annotations

import errno
import os
import stat

from lamina.linux import mount
from lamina.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

SAFE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
STRICT = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS


def place(root: int, path: str, resolve: int, *, directory: bool = True) -> int:
    """A descriptor of where to mount; what is missing of it is made."""
    try:
        return openat2(root, path, os.O_PATH, resolve)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    above, _, name = path.rstrip("/").rpartition("/")
    parent = place(root, above or "/", resolve)
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        # Through a link that dangles, as long as it leads to somewhere inside: many images have /etc/resolv.conf so.
        os.close(openat2(root, path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, resolve, 0o755))
    os.close(parent)
    return openat2(root, path, os.O_PATH, resolve)


def attach_at(root: int, fd: int, target: str, resolve: int, *, directory: bool = True) -> None:
    """Mount what is attached nowhere at `target`, made where missing. `directory` says whether it is one."""
    where = place(root, target, resolve, directory=directory)
    try:
        mount.move_mount(fd, "", directory=where)
    except OSError as error:
        # The kernel says no more than that it is invalid.
        if error.errno == errno.EINVAL and stat.S_ISDIR(os.fstat(where).st_mode) != directory:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        raise
    os.close(where)
