"""A tar written piece by piece: nothing larger than a piece of one file is ever held."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from zlib import adler32

from lamina.errors import Conflict

_PIECE = 1 << 20
_PACKET = 1 << 18
_MOST_RUNS = 1 << 16
_AT_ONCE = 1 << 24
_ID_LIMIT, _NUMBER_LIMIT = 1 << 21, 1 << 33
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s247x")


class Packer:
    """Adds entries and gives the bytes they make; `own` entries keep their owner, others belong to root."""

    def __init__(self, *, keep_owner: bool) -> None:
        self._out = _Buffer()
        self._tar = tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT)  # knows links, and is not written to
        self._keep_owner = keep_owner

    def add(self, path: str, name: str) -> Iterator[Piece]:
        """The file, link or directory itself (nothing below it) under a name; a socket gives nothing.

        Raises:
            Conflict: a file became shorter while it was read.
        """
        facts = os.lstat(path)
        mostly_holes = facts.st_size > _PIECE and facts.st_blocks * 1024 < facts.st_size
        header = None if mostly_holes else _ordinary(name, facts, keep_owner=self._keep_owner)
        if header is None:
            yield from self._other(path, name)
            return
        self._out.write(header)
        if stat.S_ISREG(facts.st_mode):
            yield from self._content(path, facts.st_size)
        yield from self._out.filled()

    def _other(self, path: str, name: str) -> Iterator[Piece]:
        """What tarfile knows best: links, long names, large numbers."""
        info = self._entry(path, name)
        if info is None:
            return
        if not self._keep_owner:
            info.uid = info.gid = 0
            info.uname = info.gname = ""
        runs = _runs(path) if self._keep_owner and info.isreg() else None
        if runs is not None:
            yield from self._sparse(path, info, runs)
            return
        self._header(info)
        if info.isreg():
            yield from self._content(path, info.size)
        yield from self._out.filled()

    def _sparse(self, path: str, info: tarfile.TarInfo, runs: list[tuple[int, int]]) -> Iterator[Piece]:
        """A file that is mostly holes: what is stored of it, and where (GNU pax format 1.0)."""
        places = "".join(f"{number}\n" for number in (len(runs), *(number for run in runs for number in run))).encode()
        places += bytes(-len(places) % tarfile.BLOCKSIZE)
        size = sum(length for _, length in runs)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": info.name,
            "GNU.sparse.realsize": str(info.size),
        }
        info.name = os.path.join(os.path.dirname(info.name), "GNUSparseFile.0", os.path.basename(info.name))
        info.size = len(places) + size
        self._header(info)
        self._out.write(places)
        with open(path, "rb") as file:
            for start, length in runs:
                while length:
                    piece = os.pread(file.fileno(), min(length, _PIECE), start) or bytes(min(length, _PIECE))
                    start, length = start + len(piece), length - len(piece)
                    self._out.write(piece)
                    yield from self._out.filled()
        self._out.write(bytes(-size % tarfile.BLOCKSIZE))
        yield from self._out.filled()

    def _header(self, info: tarfile.TarInfo) -> None:
        """What `addfile` writes before a file's content; since Python 3.13 it wants the content in the same call."""
        self._out.write(info.tobuf(tarfile.PAX_FORMAT))

    def _entry(self, path: str, name: str) -> tarfile.TarInfo | None:
        return self._tar.gettarinfo(path, name)

    def _content(self, path: str, size: int) -> Iterator[Piece]:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if size > _PACKET:
                yield self._out.take()
                yield Stretch(fd, size, path)
            else:
                self._out.write(_read(fd, size, path))
        finally:
            os.close(fd)
        self._out.write(bytes(-size % tarfile.BLOCKSIZE))

    def add_bytes(self, name: str, data: bytes) -> Iterator[bytes]:
        """A file that is only here."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._header(info)
        self._out.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        yield from self._out.filled()

    def finish(self) -> Iterator[bytes]:
        """The end of the archive."""
        self._out.write(bytes(2 * tarfile.BLOCKSIZE))
        yield self._out.take()


def _runs(path: str) -> list[tuple[int, int]] | None:
    """What the file system stores of a file that is mostly holes, (start, bytes), ended by an empty run; None for any other."""
    status = os.stat(path, follow_symlinks=False)
    if status.st_size <= _PIECE or status.st_blocks * 1024 >= status.st_size:
        return None
    found: list[tuple[int, int]] = []
    at = 0
    with open(path, "rb") as file:
        while at < status.st_size and len(found) < _MOST_RUNS:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return [*found, (status.st_size, 0)]
            at = min(os.lseek(file.fileno(), start, os.SEEK_HOLE), status.st_size)
            found.append((start, at - start))
    return [*found, (status.st_size, 0)] if at >= status.st_size else None


class Stretch:
    """`len` bytes of a file, from where it stands: the kernel moves them where they go. To be used before the next piece is asked for."""

    __slots__ = ("_fd", "_path", "_size")

    def __init__(self, fd: int, size: int, path: str) -> None:
        self._fd, self._size, self._path = fd, size, path

    def __len__(self) -> int:
        return self._size

    def send(self, fd: int) -> None:
        """Write them to a descriptor.

        Raises:
            Conflict: the file became shorter.
        """
        left = self._size
        while left:
            if not (sent := os.sendfile(fd, self._fd, None, min(left, _AT_ONCE))):
                raise Conflict(f"{self._path} became shorter while it was read")
            left -= sent


Piece = bytes | Stretch


def _read(fd: int, size: int, path: str) -> bytes:
    """Exactly that many bytes; raises Conflict."""
    data = os.read(fd, size) if size else b""
    while len(data) < size:
        if not (more := os.read(fd, size - len(data))):
            raise Conflict(f"{path} became shorter while it was read")
        data += more
    return data


def _ordinary(name: str, facts: os.stat_result, *, keep_owner: bool) -> bytes | None:
    """The header blocks of a folder, or of a file with one name; None where something does not fit into the plain format's fields."""
    if stat.S_ISDIR(facts.st_mode):
        kind, size, name = b"5", 0, f"{name}/"
    elif stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
        kind, size = b"0", facts.st_size
    else:
        return None
    uid, gid = (facts.st_uid, facts.st_gid) if keep_owner else (0, 0)
    seconds, fraction = divmod(facts.st_mtime_ns, 10**9)
    if len(name) > 100 or not name.isascii() or name[0] == "/" or max(uid, gid) >= _ID_LIMIT:
        return None
    if size >= _NUMBER_LIMIT or not 0 <= seconds < _NUMBER_LIMIT:
        return None
    header = block(name.encode(), stat.S_IMODE(facts.st_mode), uid, gid, size, seconds, kind)
    if not fraction:
        return header
    record = b"30 mtime=%010d.%09d\n" % (seconds, fraction)
    return block(b"PaxHeaders", 0o644, 0, 0, len(record), 0, b"x") + record.ljust(tarfile.BLOCKSIZE, b"\0") + header


def block(name: bytes, mode: int, uid: int, gid: int, size: int, seconds: int, kind: bytes) -> bytes:
    """One header of the plain format: an ASCII name, and numbers that fit."""
    numbers = (b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid, b"%011o\0" % size, b"%011o\0" % seconds)
    raw = _HEADER.pack(name, *numbers, b" " * 8, kind, b"", b"ustar\x0000")
    return raw[:148] + b"%06o\0 " % (adler32(raw, 0) & 0xFFFF) + raw[156:]  # of ASCII, adler32's lower half is the sum of bytes


class _Buffer:
    """Bytes on their way into packets."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def filled(self) -> Iterator[bytes]:
        """What there is, once it is worth sending: each piece is a packet, and wakes whoever reads it."""
        if self._size >= _PACKET:
            yield self.take()

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        return data


def below(top: str, name: str) -> Iterator[tuple[str, str]]:
    """Every path of a tree with its name in the archive, parents first; links are not followed."""
    yield top, name
    if os.path.isdir(top) and not os.path.islink(top):  # which "link/" is not
        yield from _inside(top.rstrip("/"), name)


def _inside(folder: str, name: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder or "/") as found:
        entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    for entry, is_folder in entries:
        yield f"{folder}/{entry}", f"{name}/{entry}"
        if is_folder:
            yield from _inside(f"{folder}/{entry}", f"{name}/{entry}")
