"""Worker side: files below a directory descriptor written as a tar. Every step is relative to a descriptor: nothing leads out."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from lamina.container.refusals import TooDeep
from lamina.layer.diff import stored_runs
from lamina.layer.tar.member import HARDLINK, Member
from lamina.layer.tarwrite import END, header, padding, sparse_header
from lamina.worker.outgoing import Outgoing

_SMALL = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 4096
_MAPPED, _NOBODY = 1 << 16, 65534
_LEFT_OUT = ("trusted.", "user.overlay.", "security.selinux")


class Packer:
    """Writes one tar into a descriptor. Hard links among what is packed stay hard links, sockets are left out.

    `devices` are those (st_dev) of the file systems to descend into; a directory on another one is written without its content:
    /proc of a running container. Files are not asked, since overlayfs shows them with the device of their layer.
    """

    def __init__(self, out: Outgoing, devices: frozenset[int], first: int = 0) -> None:
        """`out` is written to its end by `finish`. `first`: the host's id that is 0 in the user namespace whose view is packed; 0 where there is none."""
        self._first = first
        self._out = out
        self._devices = devices
        self._links: dict[tuple[int, int], bytes] = {}

    def add(self, directory: int, name: str, archived: bytes) -> None:
        """Write the entry `name` of `directory` under the name `archived`, and what is below it.

        Raises:
            TooDeep: directories lie in one another deeper than can be followed.
        """
        below = self._entry(directory, name, archived)
        if below >= 0:
            self._below(below, archived)

    def add_directory(self, fd: int, archived: bytes, *, itself: bool = True) -> None:
        """Write an open directory, and what is below it; the caller closes it. Its entries' names begin with `archived` and a slash,
        or stand alone where that is empty. Raises as `add`."""
        if itself:
            self._write_directory(fd, archived)
        self._below(os.dup(fd), archived)

    def _entry(self, directory: int, name: str, archived: bytes) -> int:
        """Write one entry; a descriptor of a directory, of which nothing but itself is written yet, otherwise -1.

        What the name means is settled once, by opening it for nothing but that: whoever may exchange the name may make a device, and
        opening that would do something to it.
        """
        place = os.open(name, _PLACE, dir_fd=directory)
        try:
            status = os.fstat(place)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG:
                self._add_file(place, status, archived)
            elif kind == stat.S_IFDIR:
                return self._opened(place, archived)
            elif kind != stat.S_IFSOCK:
                link = os.fsencode(os.readlink("", dir_fd=place)) if kind == stat.S_IFLNK else b""
                self._out.write(header(_member(status, archived, self._first, link=link)))
            return -1
        finally:
            os.close(place)

    def _opened(self, place: int, archived: bytes) -> int:
        fd = os.open(".", _DIRECTORY, dir_fd=place)
        try:
            self._write_directory(fd, archived)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _write_directory(self, fd: int, archived: bytes) -> None:
        self._out.write(header(_member(os.fstat(fd), archived, self._first, xattrs=_xattrs(fd))))

    def _below(self, fd: int, archived: bytes) -> None:
        """Write all that is below an open directory, which this closes. A container makes directories as deep as it likes: no recursion."""
        stack = [(fd, *self._names(fd, archived))]
        try:
            while stack:
                here, names, prefix = stack[-1]
                name = next(names, None)
                if name is None:
                    os.close(stack.pop()[0])
                    continue
                inside = prefix + os.fsencode(name)
                try:
                    below = self._entry(here, name, inside)
                except FileNotFoundError:  # deleted between listing and looking, by the container
                    continue
                if below >= 0:
                    stack.append((below, iter(()), b""))
                    if len(stack) > _DEEPEST:
                        raise TooDeep(f"directories are nested deeper than {_DEEPEST} levels")
                    stack[-1] = (below, *self._names(below, inside))
        finally:
            for here, _, _ in stack:
                os.close(here)

    def _names(self, fd: int, archived: bytes) -> tuple[Iterator[str], bytes]:
        """The names in a directory that is to be descended into, and what comes before them in the archive."""
        names = sorted(os.listdir(fd)) if os.fstat(fd).st_dev in self._devices else []
        return iter(names), archived.rstrip(b"/") + b"/" if archived else b""

    def finish(self) -> None:
        """Write the end."""
        self._out.write(END)
        self._out.finish()

    def _add_file(self, place: int, status: os.stat_result, archived: bytes) -> None:
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), archived)
            if first != archived:
                member = _member(status, archived, self._first, link=first)
                self._out.write(header(member._replace(mode=HARDLINK | stat.S_IMODE(status.st_mode))))
                return
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            member = _member(status, archived, self._first, size=status.st_size, xattrs=_xattrs(fd))
            runs = stored_runs(fd, status.st_size) if _mostly_holes(status) else None
            if runs is None or runs == [(0, status.st_size)]:
                self._out.write(header(member))
                self._out.copy(fd, status.st_size)
                self._out.write(padding(status.st_size))
            else:
                self._sparse(fd, member, runs)
        finally:
            os.close(fd)

    def _sparse(self, fd: int, member: Member, runs: Sequence[tuple[int, int]]) -> None:
        """A file that is mostly holes: what is stored of it, and where."""
        head, stored = sparse_header(member, runs)
        self._out.write(head)
        for start, length in runs:
            while length:
                data = os.pread(fd, min(length, _SMALL), start) or bytes(min(length, _SMALL))
                self._out.write(data)
                start, length = start + len(data), length - len(data)
        self._out.write(padding(stored))


def _mostly_holes(status: os.stat_result) -> bool:
    return status.st_size > _SMALL and status.st_blocks * 1024 < status.st_size


def _member(
    status: os.stat_result, archived: bytes, first: int, *, size: int = 0, link: bytes = b"", xattrs: tuple[tuple[bytes, bytes], ...] = ()
) -> Member:
    uid, gid, device = _inside(status.st_uid, first), _inside(status.st_gid, first), status.st_rdev
    numbers = (os.major(device), os.minor(device)) if device else (0, 0)
    return Member(archived, status.st_mode, uid, gid, size, status.st_mtime_ns, 0, link, *numbers, xattrs=xattrs)


def _xattrs(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    try:
        if not (found := os.listxattr(fd)):
            return ()
        names = sorted(name for name in found if not name.startswith(_LEFT_OUT))
        return tuple((os.fsencode(name), os.getxattr(fd, name)) for name in names)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES):
            return ()
        raise


def _inside(number: int, first: int) -> int:
    """An id as a user namespace that begins at `first` sees it; of others it sees nobody's."""
    if not first:
        return number
    return number - first if first <= number < first + _MAPPED else _NOBODY
