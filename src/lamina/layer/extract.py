"""From a finished tree to a directory; the contents lie under their numbers elsewhere and are moved there.

Every name is made relative to a descriptor of a directory made here a moment before, and nobody
else can reach the place: no link is ever followed. What was hostile in the archive was settled in
the tree already; replaced entries never reach the disk.
"""

from __future__ import annotations

import errno
import os
import stat

from lamina.layer.attributes import dress, set_xattrs
from lamina.layer.contents import place
from lamina.layer.tar.member import Extent
from lamina.layer.tree import Node

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(root: Node, contents: int, directory: str) -> None:
    """Fill the empty `directory`, which nobody else can write to, with what is in the tree; needs root's rights.

    `contents` is the descriptor of the directory where the files are that have content, see `contents.Files`.

    Raises:
        Unsupported: the file system keeps no attributes that layers need.
        OSError: the disk is full, and the like.
    """
    _Extraction(root, contents, directory).run()


class _Extraction:
    def __init__(self, root: Node, contents: int, directory: str) -> None:
        self._root, self._contents = root, contents
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
            set_xattrs(b"/proc/self/fd/%d/%b" % (here, name), node)
        os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=here, follow_symlinks=False)

    def _make_file(self, here: int, name: bytes, node: Node) -> None:
        if node.content:
            os.rename(place(node.content), name, src_dir_fd=self._contents, dst_dir_fd=here)
            return
        fd = os.open(name, _CREATE, 0o600, dir_fd=here)
        try:
            if node.size:  # nothing but a hole
                os.ftruncate(fd, node.size)
            dress(fd, node)
        finally:
            os.close(fd)

    def _finish_directory(self, path: bytes, node: Node) -> None:
        fd = os.open(path, _DIRECTORY, dir_fd=self._top)
        try:
            dress(fd, node)
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
