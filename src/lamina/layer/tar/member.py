"""One member of a tar, as its headers say. A named tuple, since a frozen dataclass takes four times as long to make."""

from __future__ import annotations

import stat
from typing import NamedTuple

HARDLINK = 0
"""The file type bits of a hard link: none, it is whatever its target is."""


class Extent(NamedTuple):
    """A run of a sparse file that is stored. All three are bytes; `offset` is in the tar."""

    start: int
    length: int
    offset: int


class Member(NamedTuple):
    """A file, directory, link or device in a tar; nothing is cleaned, the path is as it stands there.

    `mode` has the file type bits (`stat.S_IFMT`; `HARDLINK` for a hard link). `size` and `offset`
    are bytes: of the content as read, and where in the tar it starts. `extents` is None unless the
    file is sparse. `xattrs` are (name, value) in the order found.
    """

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    offset: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    extents: tuple[Extent, ...] | None = None

    @property
    def type(self) -> int:
        """`stat.S_IFREG` and its like, or `HARDLINK`."""
        return stat.S_IFMT(self.mode)
