"""A tar written piece by piece: nothing larger than a piece of one file is ever held."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Iterator

from lamina.errors import Conflict

_PIECE = 1 << 20
_PACKET = 1 << 18
_MOST_RUNS = 1 << 16


class Packer:
    """Adds entries and gives the bytes they make; `own` entries keep their owner, others belong to root."""

    def __init__(self, *, keep_owner: bool) -> None:
        self._out = _Buffer()
        self._tar = tarfile.open(fileobj=self._out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 16)
        self._keep_owner = keep_owner

    def add(self, path: str, name: str) -> Iterator[bytes]:
        """The file, link or directory itself (nothing below it) under a name; a socket gives nothing.

        Raises:
            Conflict: a file became shorter while it was read.
        """
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

    def _sparse(self, path: str, info: tarfile.TarInfo, runs: list[tuple[int, int]]) -> Iterator[bytes]:
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
        out = self._tar.fileobj
        out.write(places)
        with open(path, "rb") as file:
            for start, length in runs:
                while length:
                    piece = os.pread(file.fileno(), min(length, _PIECE), start) or bytes(min(length, _PIECE))
                    start, length = start + len(piece), length - len(piece)
                    out.write(piece)
                    yield from self._out.filled()
        out.write(bytes(-size % tarfile.BLOCKSIZE))
        self._tar.offset += len(places) + size + -size % tarfile.BLOCKSIZE
        yield from self._out.filled()

    def _header(self, info: tarfile.TarInfo) -> None:
        """What `addfile` writes before a file's content; since Python 3.13 it wants the content in the same call."""
        header = info.tobuf(tarfile.PAX_FORMAT)
        self._tar.fileobj.write(header)
        self._tar.offset += len(header)

    def _entry(self, path: str, name: str) -> tarfile.TarInfo | None:
        return self._tar.gettarinfo(path, name)

    def _content(self, path: str, size: int) -> Iterator[bytes]:
        out = self._tar.fileobj
        with open(path, "rb") as file:
            left = size
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise Conflict(f"{path} became shorter while it was read")
                left -= len(piece)
                out.write(piece)
                yield from self._out.filled()
        padding = -size % tarfile.BLOCKSIZE
        out.write(bytes(padding))
        self._tar.offset += size + padding

    def add_bytes(self, name: str, data: bytes) -> Iterator[bytes]:
        """A file that is only here."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        yield from self._out.filled()

    def finish(self) -> Iterator[bytes]:
        """The end of the archive."""
        self._tar.close()
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


class _Buffer(io.RawIOBase):
    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._data += data
        return len(data)

    def filled(self) -> Iterator[bytes]:
        """What there is, once it is worth sending: each piece is a packet, and wakes who reads it."""
        if len(self._data) >= _PACKET:
            yield self.take()

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def below(top: str, name: str) -> Iterator[tuple[str, str]]:
    """Every path of a tree with its name in the archive, parents first; links are not followed."""
    yield top, name
    if os.path.isdir(top) and not os.path.islink(top.rstrip("/")):
        for entry in sorted(os.listdir(top)):
            yield from below(f"{top.rstrip('/')}/{entry}", f"{name}/{entry}")
