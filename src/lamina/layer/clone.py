"""An exact copy of a directory that nobody writes to: everything overlayfs notes in it too, blocks shared where the file system can.

Names are made and read relative to descriptors of directories; no link is ever followed. So it does not matter who writes to what is
made meanwhile (a volume that is filled may be another container's already): nothing outside of it is reached.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from lamina.layer.apply import disk_errors
from lamina.layer.flatten import FileCopier
from lamina.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from lamina.linux.removing import remove_path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def clone_job(params: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Worker job: make the directory `target`, which is empty or not there, a copy of `source`. Where it fails, `target` is gone."""
    del fds, report
    try:
        with disk_errors(params["target"]):
            os.makedirs(params["target"], exist_ok=True)
            clone(params["source"], params["target"])
    except BaseException:
        remove_path(params["target"])
        raise
    return {}


def clone(source: str, target: str) -> None:
    """Make the empty directory `target` a copy of `source`. Raises OSError."""
    into = os.open(target, _DIRECTORY)
    try:
        copy_tree(os.open(source, _DIRECTORY), into)
    finally:
        os.close(into)


def copy_tree(source: int, target: int) -> None:
    """Make the empty directory that the descriptor `target` is of a copy of `source`, which this closes. Raises OSError."""
    copying = _Cloning(target)
    stack = [_Open(source, os.dup(target), "")]
    try:
        while stack:
            here = stack[-1]
            name = next(here.names, None)
            if name is None:
                # Last: what was made in it has changed its time, and a default ACL would have changed what was made.
                _dress(f"/proc/self/fd/{here.source}", here.target, os.fstat(here.source))
                stack.pop().close()
            elif copying.make(here, name):
                into = (os.open(name, _DIRECTORY, dir_fd=here.source), os.open(name, _DIRECTORY, dir_fd=here.target))
                stack.append(_Open(*into, f"{here.path}{name}/"))
    finally:
        for here in stack:
            here.close()


class _Open:
    """A directory being copied: descriptors of both, which this closes, the path with a slash at its end, and the names left."""

    def __init__(self, source: int, target: int, path: str) -> None:
        self.source, self.target, self.path = source, target, path
        self.names = iter(os.listdir(source))

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


class _Cloning:
    """Makes names; `top` is a descriptor of the copy's top directory."""

    def __init__(self, top: int) -> None:
        self.top = top
        self._files = FileCopier()
        self._links: dict[tuple[int, int], str] = {}

    def make(self, here: _Open, name: str) -> bool:
        """Make one name; whether it is a directory, which is still empty and undressed."""
        status = os.stat(name, dir_fd=here.source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=here.target)
            return True
        # Whiteouts of overlayfs are links to one another, up to the file system's limit; as copies they are apart.
        linked = status.st_nlink > 1 and not stat.S_ISCHR(status.st_mode)
        first = self._links.setdefault((status.st_dev, status.st_ino), here.path + name) if linked else here.path + name
        if first != here.path + name:
            self._link(first, here, name)
            return False
        if stat.S_ISREG(status.st_mode):
            self._copy(here, name, status)
            return False
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=here.source), name, dir_fd=here.target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=here.target)
        made = os.open(name, _PLACE, dir_fd=here.target)
        try:
            _dress(f"/proc/self/fd/{here.source}/{name}", made, status)
        finally:
            os.close(made)
        return False

    def _link(self, first: str, here: _Open, name: str) -> None:
        head, _, tail = first.rpartition("/")
        holder = openat2(self.top, head or ".", os.O_PATH | os.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        try:
            os.link(tail, name, src_dir_fd=holder, dst_dir_fd=here.target, follow_symlinks=False)
        finally:
            os.close(holder)

    def _copy(self, here: _Open, name: str, status: os.stat_result) -> None:
        source = os.open(name, _READ, dir_fd=here.source)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=here.target)
            try:
                self._files.copy(source, fd, status.st_size)
                _dress(f"/proc/self/fd/{source}", fd, status)
            finally:
                os.close(fd)
        finally:
            os.close(source)


def _dress(model: str, made: int, status: os.stat_result) -> None:
    """Owner, mode, attributes and times of what stands at `model`, for what the descriptor `made` is of: by that, since its name may be
    another's by now."""
    path, follow = f"/proc/self/fd/{made}", not stat.S_ISLNK(status.st_mode)
    os.chown(path, status.st_uid, status.st_gid)
    if follow:
        os.chmod(path, stat.S_IMODE(status.st_mode))
    try:
        for name in os.listxattr(model, follow_symlinks=follow):
            os.setxattr(path, name, os.getxattr(model, name, follow_symlinks=follow))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
