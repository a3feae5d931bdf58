"""A tar written piece by piece: nothing larger than a piece of one file is ever held."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator

from lamina.errors import Conflict

_PIECE = 1 << 20


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
        self._header(info)
        if info.isreg():
            yield from self._content(path, info.size)
        yield self._out.take()

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
                yield self._out.take()
        padding = -size % tarfile.BLOCKSIZE
        out.write(bytes(padding))
        self._tar.offset += size + padding

    def add_bytes(self, name: str, data: bytes) -> Iterator[bytes]:
        """A file that is only here."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        yield self._out.take()

    def finish(self) -> Iterator[bytes]:
        """The end of the archive."""
        self._tar.close()
        yield self._out.take()


class _Buffer(io.RawIOBase):
    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._data += data
        return len(data)

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
