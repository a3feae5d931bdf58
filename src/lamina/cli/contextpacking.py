"""The tar of a build context: as Docker's own client writes it (owners root, times in whole seconds), and quickly.

Most entries are plain files and folders with short names: their headers are put together here. Everything else goes through tarfile.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator

from lamina.cli.packing import block
from lamina.errors import Conflict

_PIECE = 1 << 18
_SIZE_LIMIT = 1 << 33


class ContextPacker:
    """Adds entries and gives the bytes they make. Files with several names are sent once."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], str] = {}

    def add(self, path: str, name: str) -> Iterator[bytes]:
        """The file, link or directory itself (nothing below it) under a name; a socket gives nothing.

        Raises:
            Conflict: a file became shorter while it was read.
        """
        facts = os.lstat(path)
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFSOCK:
            return
        first = self._links.setdefault((facts.st_dev, facts.st_ino), name) if facts.st_nlink > 1 and kind != stat.S_IFDIR else name
        if first == name and kind in (stat.S_IFREG, stat.S_IFDIR):
            header = _plain(os.fsencode(name), facts, kind)
            yield header if header is not None else _written(_entry(path, name, facts, kind))
            if kind == stat.S_IFREG:
                yield from _content(path, facts.st_size)
            return
        info = _entry(path, name, facts, kind)
        if first != name:
            info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        yield _written(info)

    def add_bytes(self, name: str, data: bytes) -> Iterator[bytes]:
        """A file that is only here."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        yield _written(info)
        yield data + bytes(-len(data) % tarfile.BLOCKSIZE)

    def finish(self) -> Iterator[bytes]:
        """The end of the archive."""
        yield bytes(2 * tarfile.BLOCKSIZE)


def summed(head: bytes) -> bool:
    """Whether the sum in a tar's header is that of its bytes, which no text is: the oldest format says nothing else of itself."""
    digits = head[148:156].strip(b" \0")
    octal = bool(digits) and not digits.strip(b"01234567")
    return (
        len(head) >= tarfile.BLOCKSIZE and octal and int(digits, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156 : tarfile.BLOCKSIZE])
    )


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of some size: each costs a message of its own on the way."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _plain(name: bytes, facts: os.stat_result, kind: int) -> bytes | None:
    """The header of a file or folder; None where its name, size or time needs more than the oldest format has."""
    if kind == stat.S_IFDIR:
        name += b"/"
    seconds, size = int(facts.st_mtime), facts.st_size if kind == stat.S_IFREG else 0
    if len(name) > 100 or not name.isascii() or size >= _SIZE_LIMIT or not 0 <= seconds < _SIZE_LIMIT:
        return None
    return block(name, stat.S_IMODE(facts.st_mode), 0, 0, size, seconds, b"0" if kind == stat.S_IFREG else b"5")


def _entry(path: str, name: str, facts: os.stat_result, kind: int) -> tarfile.TarInfo:
    """What tarfile wants to know of an entry."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(facts.st_mode), int(facts.st_mtime)
    info.size = facts.st_size if kind == stat.S_IFREG else 0
    info.type = _TYPES.get(kind, tarfile.REGTYPE)
    if kind == stat.S_IFLNK:
        info.linkname = os.readlink(path)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.devmajor, info.devminor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
    return info


_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _written(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(path: str, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file, and what fills them up to a block."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        left = size
        while left:
            piece = os.read(fd, min(left, _PIECE))
            if not piece:
                raise Conflict(f"{path} became shorter while it was read")
            left -= len(piece)
            yield piece
    finally:
        os.close(fd)
    yield bytes(-size % tarfile.BLOCKSIZE)
