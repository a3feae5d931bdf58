"""Worker side: files below a directory descriptor written as a tar (pax). Every step is relative to a descriptor: nothing leads out."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from typing import BinaryIO

_SMALL = 1 << 18
_BLOCK = 512
_SKIPPED_XATTRS = ("trusted.", "system.nfs4", "user.overlay.", "security.selinux")

Skip = Callable[[str], bool]
"""Whether a path (relative to what is packed, "" for itself) is left out with everything below."""


class Packer:
    """Writes one tar into a descriptor. Hard links among what is packed stay hard links."""

    def __init__(self, out: int, skip: Skip = lambda path: False) -> None:
        self._out: BinaryIO = open(out, "wb", buffering=1 << 20, closefd=False)
        self._skip = skip
        self._links: dict[tuple[int, int], str] = {}

    def add(self, directory: int, name: str, archived: str, path: str = "") -> None:
        """Write the entry `name` of `directory` under the name `archived`, and what is below it."""
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISSOCK(status.st_mode) or self._skip(path):
            return
        if stat.S_ISDIR(status.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                self.add_directory(fd, archived, path)
            finally:
                os.close(fd)
        elif stat.S_ISREG(status.st_mode):
            self._add_file(directory, name, archived)
        else:
            self._write(self._special(directory, name, archived, status))

    def add_directory(self, fd: int, archived: str, path: str = "", *, itself: bool = True) -> None:
        """Write an open directory, and what is below it; the caller closes it."""
        if itself:
            info = _header(os.fstat(fd), archived.rstrip("/") + "/" if archived != "/" else "/", _xattrs(fd))
            info.type = tarfile.DIRTYPE
            self._write(info)
        prefix = "" if archived in ("", ".") and not itself else archived.rstrip("/") + "/"
        for name in sorted(os.listdir(fd)):
            self.add(fd, name, prefix + name, f"{path}/{name}" if path else name)

    def finish(self) -> None:
        """Write the end."""
        self._out.write(bytes(_BLOCK * 2))
        self._out.flush()

    def _add_file(self, directory: int, name: str, archived: str) -> None:
        # O_NONBLOCK: what was a file a moment ago may be a fifo now.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(fd)
            info = _header(status, archived, _xattrs(fd))
            first = self._links.setdefault((status.st_dev, status.st_ino), archived) if status.st_nlink > 1 else archived
            if first != archived:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
                self._write(info)
                return
            info.size = status.st_size
            self._write(info)
            self._data(fd, status.st_size)
        finally:
            os.close(fd)

    def _data(self, fd: int, size: int) -> None:
        """Exactly `size` bytes: a file that shrinks meanwhile is filled up, one that grows is cut."""
        left = size
        if size > _SMALL:
            self._out.flush()
            left -= _copy(fd, self._out.fileno(), size)
        while left:
            data = os.read(fd, min(left, _SMALL)) or bytes(min(left, _SMALL))
            self._out.write(data)
            left -= len(data)
        self._out.write(bytes(-size % _BLOCK))

    def _special(self, directory: int, name: str, archived: str, status: os.stat_result) -> tarfile.TarInfo:
        info = _header(status, archived, {})
        if stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=directory)
        elif stat.S_ISFIFO(status.st_mode):
            info.type = tarfile.FIFOTYPE
        else:
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return info

    def _write(self, info: tarfile.TarInfo) -> None:
        self._out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def _header(status: os.stat_result, archived: str, xattrs: dict[str, str]) -> tarfile.TarInfo:
    info = tarfile.TarInfo(archived)
    info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    info.mtime = seconds
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in xattrs.items()}
    if nanoseconds:
        info.pax_headers["mtime"] = f"{seconds}.{nanoseconds:09d}"
    return info


def _xattrs(fd: int) -> dict[str, str]:
    try:
        names = [name for name in os.listxattr(fd) if not name.startswith(_SKIPPED_XATTRS)]
        return {name: os.getxattr(fd, name).decode("utf-8", "surrogateescape") for name in names}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM):
            return {}
        raise


def _copy(source: int, out: int, size: int) -> int:
    """Bytes that the kernel copied from file to file, pipe or socket."""
    done = 0
    while done < size:
        try:
            count = os.sendfile(out, source, None, min(size - done, 1 << 24))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                break
            raise
        if count == 0:
            break
        done += count
    return done
