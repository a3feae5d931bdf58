"""Owner, mode, extended attributes and time of what a layer holds, given to what was made of it."""

from __future__ import annotations

import errno
import os

from lamina.errors import Unsupported
from lamina.layer.erofs.writer import OPAQUE, ORIGIN
from lamina.layer.errors import shown
from lamina.layer.tree import Node, Xattrs


def dress(fd: int, node: Node) -> None:
    """Give an open file or directory, made by root a moment before, all attributes. The time comes last: whatever is done to it then
    changes it.

    Raises:
        Unsupported: see `set_xattrs`.
    """
    if node.uid or node.gid:
        os.fchown(fd, node.uid, node.gid)
    os.fchmod(fd, node.mode & 0o7777)
    if node.xattrs or node.opaque or node.hidden:
        set_xattrs(fd, node)
    os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))


def wanted_xattrs(node: Node) -> Xattrs:
    """A node's extended attributes, and the marks that overlayfs reads in a lower layer."""
    return (*node.xattrs, *((OPAQUE,) if node.opaque else ()), *((ORIGIN,) if node.hidden else ()))


def set_xattrs(where: int | bytes, node: Node) -> None:
    """Set `wanted_xattrs`; `where` is a descriptor, or a path that is not followed.

    Raises:
        Unsupported: the file system keeps no attributes that layers need.
    """
    for name, value in wanted_xattrs(node):
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
