"""From a finished tree to a directory, the contents copied out of the tar.

Every name is made relative to a descriptor of a directory made here a moment before, and nobody
else can reach the place: no link is ever followed. What was hostile in the archive was settled in
the tree already; replaced entries never reach the disk.
"""

from __future__ import annotations

import errno
import os
import stat

from lamina.errors import Unsupported
from lamina.layer.erofs.writer import OPAQUE, ORIGIN
from lamina.layer.errors import shown
from lamina.layer.tar.member import Extent
from lamina.layer.tree import Node

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(root: Node, tar_fd: int, directory: str) -> None:
    """Fill the empty `directory`, which nobody else can write to, with what is in the tree; needs root's rights.

    Raises:
        Unsupported: the file system keeps no attributes that layers need.
        OSError: the disk is full, and the like.
    """
    _Extraction(root, tar_fd, directory).run()


class _Extraction:
    def __init__(self, root: Node, tar_fd: int, directory: str) -> None:
        self._root, self._tar = root, tar_fd
        self._top = os.open(directory, _DIRECTORY)
        self._links: dict[int, bytes] = {}

    def run(self) -> None:
        made: list[tuple[bytes, Node]] = []
        pending = [(b".", self._root)]
        try:
            while pending:
                path, node = pending.pop()
                made.append((path, node))
                self._fill(path, node, pending)
            # Backwards: what is made in a directory changes its time, and its default ACL what is made.
            for path, node in reversed(made):
                self._finish_directory(path, node)
        finally:
            os.close(self._top)

    def _fill(self, path: bytes, node: Node, pending: list[tuple[bytes, Node]]) -> None:
        assert node.children is not None
        here = os.open(path, _DIRECTORY, dir_fd=self._top)
        try:
            for name, child in node.children.items():
                inside = path + b"/" + name
                if child.children is not None:
                    os.mkdir(name, 0o700, dir_fd=here)
                    pending.append((inside, child))
                elif (first := self._links.get(id(child))) is not None:
                    os.link(first, name, src_dir_fd=self._top, dst_dir_fd=here, follow_symlinks=False)
                else:
                    self._links[id(child)] = inside
                    self._make(here, name, child)
        finally:
            os.close(here)

    def _make(self, here: int, name: bytes, node: Node) -> None:
        kind = node.mode & 0o170000
        if kind == stat.S_IFREG:
            self._make_file(here, name, node)
            return
        if kind == stat.S_IFLNK:
            os.symlink(node.link, name, dir_fd=here)
        else:
            os.mknod(name, kind | 0o600, os.makedev(*node.rdev), dir_fd=here)
        os.chown(name, node.uid, node.gid, dir_fd=here, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, node.mode & 0o7777, dir_fd=here)
        if node.xattrs:
            _set_xattrs(b"/proc/self/fd/%d/%b" % (here, name), node)
        os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=here, follow_symlinks=False)

    def _make_file(self, here: int, name: bytes, node: Node) -> None:
        fd = os.open(name, _CREATE, 0o600, dir_fd=here)
        try:
            extents = (Extent(0, node.size, node.offset),) if node.extents is None else node.extents
            if node.extents is not None:
                os.ftruncate(fd, node.size)
            for extent in extents:
                copy_extent(self._tar, extent, fd)
            if node.uid or node.gid:
                os.fchown(fd, node.uid, node.gid)
            os.fchmod(fd, node.mode & 0o7777)
            if node.xattrs:
                _set_xattrs(fd, node)
            os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))
        finally:
            os.close(fd)

    def _finish_directory(self, path: bytes, node: Node) -> None:
        fd = os.open(path, _DIRECTORY, dir_fd=self._top)
        try:
            os.fchown(fd, node.uid, node.gid)
            os.fchmod(fd, node.mode & 0o7777)
            if node.xattrs or node.opaque or node.hidden:
                _set_xattrs(fd, node)
            os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))
        finally:
            os.close(fd)


def copy_extent(source: int, extent: Extent, fd: int) -> None:
    """Copy a run of one file into another, in the kernel where it can (sharing blocks where the file system does).

    Raises:
        OSError: the disk is full, or the source ends before the run does.
    """
    start, left, offset = extent
    while left:
        try:
            copied = os.copy_file_range(source, fd, left, offset, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            copied = os.pwrite(fd, os.pread(source, min(left, 1 << 20), offset), start)
        if not copied:
            raise OSError(errno.EIO, "the source has become shorter")
        start, left, offset = start + copied, left - copied, offset + copied


def _set_xattrs(where: int | bytes, node: Node) -> None:
    marks = (*((OPAQUE,) if node.opaque else ()), *((ORIGIN,) if node.hidden else ()))
    for name, value in (*node.xattrs, *marks):
        try:
            if isinstance(where, int):
                os.setxattr(where, name, value)
            else:
                os.setxattr(where, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            # Linux keeps user.* on files and directories only; others are kept where the file system can.
            if name.startswith((b"security.capability", b"trusted.")):
                raise Unsupported(f"this file system does not keep the extended attribute {shown(name)}") from None
