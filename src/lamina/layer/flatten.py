"""What a stack of layers shows, made in one directory: plain copies (shared blocks where the file system can), or hard links.

Names are made relative to descriptors of directories made here a moment before, and read relative to the layers' trees, in which
nothing on the way is a link: none is ever followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence

from lamina.layer.diff import stored_runs
from lamina.layer.errors import LayerDamaged
from lamina.layer.extract import copy_extent
from lamina.layer.index import Entry
from lamina.layer.tar.member import Extent
from lamina.layer.union import Hit, Union

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FICLONE = 0x40049409
_NOT_HERE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


def flatten(union: Union, trees: Sequence[str], directory: str, *, link: bool = False) -> None:
    """Fill the empty `directory` with what `union` shows; the files lie in `trees`, one per layer, base first.

    `link`: files are hard links to the layers' own, so nobody may write to what is made.

    Raises:
        OSError: the disk is full, or a tree lacks what its index lists.
        LayerDamaged: an index has names that no file can have.
    """
    _Flattening(union, trees, directory, link=link).run()


class FileCopier:
    """Copies contents of files between two file systems, or within one: shared blocks where it can, and holes stay holes."""

    def __init__(self) -> None:
        self._clones = True

    def copy(self, source: int, fd: int, size: int) -> None:
        """Fill the empty file `fd` with `size` bytes of `source`."""
        if not size or self._cloned(source, fd):
            return
        runs = [(0, size)]
        if os.fstat(source).st_blocks * 512 < size:
            os.ftruncate(fd, size)
            runs = stored_runs(source, size)
        for start, length in runs:
            copy_extent(source, Extent(start, length, start), fd)

    def _cloned(self, source: int, fd: int) -> bool:
        if self._clones:
            try:
                fcntl.ioctl(fd, _FICLONE, source)
                return True
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                self._clones = False
        return False


class _Flattening:
    def __init__(self, union: Union, trees: Sequence[str], directory: str, *, link: bool) -> None:
        self._union, self._trees, self._link = union, trees, link
        self._top = os.open(directory, _DIRECTORY)
        self._opened: dict[int, int] = {}
        self._links: dict[tuple[int, int], bytes] = {}
        self._files = FileCopier()

    def run(self) -> None:
        made: list[tuple[bytes, Entry]] = []
        pending = [b""]
        try:
            while pending:
                path = pending.pop()
                for hit in self._fill(path):
                    made.append((hit[1].path, hit[1]))
                    pending.append(hit[1].path)
            # Backwards: what is made in a directory changes its time, and its default ACL what is made.
            for path, entry in reversed(made):
                self._dress(path, entry)
        except ValueError as error:
            raise LayerDamaged(
                f"a layer of this image is damaged: what is stored of it names no file ({error})", hint="`lamina system check` says which"
            ) from None
        finally:
            for fd in (self._top, *self._opened.values()):
                os.close(fd)

    def _fill(self, path: bytes) -> list[Hit]:
        """Make what is in a directory; the directories among it, still empty."""
        here = os.open(path or b".", _DIRECTORY, dir_fd=self._top)
        directories = []
        try:
            for level, entry in self._union.listdir(path):
                name = entry.path.rpartition(b"/")[2]
                if entry.directory:
                    os.mkdir(name, 0o700, dir_fd=here)
                    directories.append((level, entry))
                elif entry.type == "file" and self._link:
                    os.link(entry.path, name, src_dir_fd=self._tree(level), dst_dir_fd=here, follow_symlinks=False)
                elif (first := self._links.get((level, entry.inode))) is not None:
                    os.link(first, name, src_dir_fd=self._top, dst_dir_fd=here, follow_symlinks=False)
                else:
                    self._links[level, entry.inode] = entry.path
                    self._make(here, name, level, entry)
        finally:
            os.close(here)
        return directories

    def _make(self, here: int, name: bytes, level: int, entry: Entry) -> None:
        if entry.type == "file":
            self._make_file(here, name, level, entry)
            return
        if entry.type == "symlink":
            os.symlink(entry.link, name, dir_fd=here)
        else:
            os.mknod(name, stat.S_IFMT(entry.mode) | 0o600, os.makedev(*entry.rdev), dir_fd=here)
        os.chown(name, entry.uid, entry.gid, dir_fd=here, follow_symlinks=False)
        if entry.type != "symlink":
            os.chmod(name, entry.mode & 0o7777, dir_fd=here)
        for key, value in entry.xattrs:
            _set_xattr(b"/proc/self/fd/%d/%b" % (here, name), key, value)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=here, follow_symlinks=False)

    def _make_file(self, here: int, name: bytes, level: int, entry: Entry) -> None:
        source = os.open(entry.path, _READ, dir_fd=self._tree(level))
        fd = os.open(name, _CREATE, 0o600, dir_fd=here)
        try:
            self._files.copy(source, fd, entry.size)
            _dress(fd, entry)
        finally:
            os.close(fd)
            os.close(source)

    def _dress(self, path: bytes, entry: Entry) -> None:
        fd = os.open(path, _DIRECTORY, dir_fd=self._top)
        try:
            _dress(fd, entry)
        finally:
            os.close(fd)

    def _tree(self, level: int) -> int:
        if level not in self._opened:
            self._opened[level] = os.open(self._trees[level], _DIRECTORY)
        return self._opened[level]


def _dress(fd: int, entry: Entry) -> None:
    if entry.uid or entry.gid:
        os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode & 0o7777)
    for key, value in entry.xattrs:
        _set_xattr(fd, key, value)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def _set_xattr(where: int | bytes, name: bytes, value: bytes) -> None:
    """What the layer's own tree could not keep is not kept here either."""
    try:
        if isinstance(where, int):
            os.setxattr(where, name, value)
        else:
            os.setxattr(where, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
