"""What tarfile does with most entries, in a third of the time: ordinary headers, and regular files. All else is left to it."""

from __future__ import annotations

import os
import tarfile

_PIECE = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_ORDINARY = frozenset(b"0125x")
"""File, hard link, symlink, directory, and pax headers before them."""


class Entry(tarfile.TarInfo):
    """An entry of an archive. For `tarfile.open`."""

    __slots__ = ()

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
        """See tarfile.TarInfo.frombuf."""
        if len(buf) == tarfile.BLOCKSIZE and buf[156] in _ORDINARY and buf[257:263] == b"ustar\0":
            try:
                if sum(buf) - sum(buf[148:156]) + 256 == _octal(buf[148:156]):
                    return cls._ordinary(buf, encoding, errors)
            except ValueError:  # numbers in another form
                pass
        return super().frombuf(buf, encoding, errors)

    @classmethod
    def _ordinary(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
        made = cls()
        made.mode, made.uid, made.gid = _octal(buf[100:108]), _octal(buf[108:116]), _octal(buf[116:124])
        made.size, made.mtime, made.type = _octal(buf[124:136]), _octal(buf[136:148]), bytes(buf[156:157])
        name, linkname, prefix = (part.partition(b"\0")[0].decode(encoding, errors) for part in (buf[:100], buf[157:257], buf[345:500]))
        made.name = f"{prefix}/{name}" if prefix else name
        made.linkname = linkname
        if made.type == tarfile.DIRTYPE:
            made.name = made.name.rstrip("/")
        return made


def _octal(field: bytes | bytearray) -> int:
    """Raises ValueError: it is no octal number."""
    return int(field.partition(b"\0")[0], 8)


def extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    """Put the entry at hand of an archive that is read forwards below `target`, as TarFile.extract does with numeric owners."""
    if not member.isreg() or member.issparse():
        tar.extract(member, target, numeric_owner=True)
        return
    fd = _opened(os.path.join(target, member.name))
    try:
        _write(tar, member, fd)
        if os.geteuid() == 0:
            os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode)
        os.utime(fd, (member.mtime, member.mtime))
    finally:
        os.close(fd)


def _opened(path: str) -> int:
    try:
        return os.open(path, _NEW, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, _NEW, 0o600)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, fd: int) -> None:
    """Raises tarfile.ReadError: the archive ends before the file does."""
    source, left = tar.fileobj, member.size
    assert source is not None
    source.seek(member.offset_data)
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise tarfile.ReadError("unexpected end of data")
        left -= len(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(fd, rest) :]
