"""Archives as tarfile unpacks them, in a third of the time: ordinary entries are read and written here. From the first other one on
tarfile does it."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from zlib import adler32

from lamina.errors import InvalidArgument

_PIECE = 1 << 20
_EXTENDED_LIMIT = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_ORDINARY = frozenset((b"0", b"1", b"2", b"5", b"x"))
"""File, hard link, symlink, directory, and pax headers before them."""


class Entry(tarfile.TarInfo):
    """An entry of an archive. For `tarfile.open`."""

    __slots__ = ()

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
        """See tarfile.TarInfo.frombuf."""
        found = cls.ordinary(bytes(buf), encoding, errors)
        return super().frombuf(buf, encoding, errors) if found is None else found

    @classmethod
    def ordinary(cls, block: bytes, encoding: str = "utf-8", errors: str = "surrogateescape") -> Entry | None:
        """What a header says; None where tarfile has to say."""
        if len(block) != tarfile.BLOCKSIZE:
            return None
        name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, _, _, _, prefix = _HEADER.unpack(block)
        if kind not in _ORDINARY or magic != b"ustar\0":
            return None
        made = cls()
        try:
            if _octal(checksum) != _checksum(block):
                return None
            made.mode, made.uid, made.gid = _octal(mode), _octal(uid), _octal(gid)
            made.size, made.mtime, made.type = _octal(size), _octal(mtime), kind
        except ValueError:  # numbers in another form
            return None
        name, link, prefix = name.partition(b"\0")[0], link.partition(b"\0")[0], prefix.partition(b"\0")[0]
        made.name = (prefix + b"/" + name if prefix else name).decode(encoding, errors)
        made.linkname = link.decode(encoding, errors)
        if kind == tarfile.DIRTYPE:
            made.name = made.name.rstrip("/")
        return made

    def told(self, records: dict[bytes, bytes]) -> None:
        """Add what a pax header said of it. Raises ValueError: that is not a number."""
        if (path := records.get(b"path")) is not None:
            self.name = path.decode("utf-8", "surrogateescape").rstrip("/")
        if (link := records.get(b"linkpath")) is not None:
            self.linkname = link.decode("utf-8", "surrogateescape")
        if (size := records.get(b"size")) is not None:
            self.size = int(size)
        if (uid := records.get(b"uid")) is not None:
            self.uid = int(uid)
        if (gid := records.get(b"gid")) is not None:
            self.gid = int(gid)
        if (mtime := records.get(b"mtime")) is not None:
            self.mtime = float(mtime)
            self.pax_headers = {"mtime": mtime.decode()}


def moment(member: tarfile.TarInfo) -> int:
    """Its time in nanoseconds since 1970. tarfile's number, and so TarFile.extract, has the last three digits wrong."""
    text = member.pax_headers.get("mtime", "")
    seconds, _, fraction = text.removeprefix("-").partition(".")
    if not seconds.isdecimal() or not f"0{fraction}".isdecimal():
        return int(member.mtime * 10**9)
    found = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return -found if text.startswith("-") else found


@lru_cache(4096)
def _octal(field: bytes) -> int:
    """Raises ValueError: it is not an octal number that is not negative."""
    number = int(field.partition(b"\0")[0], 8)
    if number < 0:
        raise ValueError(field)
    return number


def _extended(block: bytes) -> int:
    """How many bytes a pax header has that this header is of; -1 where it is of none, or tarfile has to say."""
    if block[156:157] != tarfile.XHDTYPE or block[257:263] != b"ustar\0" or len(block) != tarfile.BLOCKSIZE:
        return -1
    try:
        size = _octal(block[124:136])
        return size if _octal(block[148:156]) == _checksum(block) and size <= _EXTENDED_LIMIT else -1
    except ValueError:
        return -1


def _checksum(block: bytes) -> int:
    rest = block[:148] + b"        " + block[156:]
    # adler32's lower half is a sum of bytes modulo 65521, at a twentieth of the time of sum(); of ASCII it is the sum itself
    return adler32(rest, 0) & 0xFFFF if rest.isascii() else sum(rest)


class Stream(io.RawIOBase):
    """Pieces as a file that is read forwards."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece, self._at = b"", 0

    def readable(self) -> bool:
        """See io.IOBase.readable."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As much as asked for, or all that is left."""
        end = self._at + size
        if size >= 0 and end <= len(self._piece):  # as nearly always
            found, self._at = self._piece[self._at : end], end
            return found
        taken: list[memoryview] = []
        while size and (part := self.some(size)):
            taken.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(taken)

    def some(self, size: int) -> memoryview:
        """At least one byte and at most `size` (as many as come where that is negative); none at the end."""
        if self.ended():
            return memoryview(b"")
        end = len(self._piece) if size < 0 else self._at + size
        part = memoryview(self._piece)[self._at : end]
        self._at += len(part)
        return part

    def ended(self) -> bool:
        """Whether there is no more."""
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
        return not self._piece

    def unread(self, data: bytes) -> None:
        """Put back what was read last."""
        self._piece, self._at = data + self._piece[self._at :], 0


class Unpacking:
    """The members of an archive, once, in order; each can be extracted until the next is asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._stream = Stream(pieces)
        self._left = self._padding = 0  # bytes of the member at hand, and behind it
        self._nothing = tarfile.open(fileobj=io.BytesIO(bytes(2 * tarfile.BLOCKSIZE)), mode="r:")
        self._tar: tarfile.TarFile | None = None
        _unfiltered(self._nothing)

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Raises tarfile.TarError: it is not an archive, or it ends in the middle."""
        entry = self._ordinary()
        begun = entry is not None
        while entry is not None:
            self._left = entry.size if entry.isreg() else 0
            self._padding = -self._left % tarfile.BLOCKSIZE
            yield entry
            if self._left:
                for _ in self._content():
                    pass
            if self._padding:
                self._stream.read(self._padding)
            entry = self._ordinary()
        if begun and self._stream.ended():
            return  # without the zeros that should be there
        with tarfile.open(fileobj=self._stream, mode="r|", bufsize=1 << 18, tarinfo=Entry) as self._tar:
            _unfiltered(self._tar)
            yield from self._tar

    def extract(self, member: tarfile.TarInfo, target: str) -> None:
        """Put the member at hand below `target`, as TarFile.extract does with numeric owners, in the place of what is there.

        Raises:
            InvalidArgument: there is a directory in the place of what is none, or the other way round.
        """
        path = f"{target}/{member.name}"
        if member.isreg() and not member.issparse():
            _put(self._content() if self._tar is None else _pieces(self._tar, member), member, path)
            return
        _make_way(path, directory=member.isdir())
        if member.islnk():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.link(f"{target}/{member.linkname}", path, follow_symlinks=False)
        else:
            (self._tar or self._nothing).extract(member, target, numeric_owner=True)

    def _ordinary(self) -> Entry | None:
        """The next entry; None where tarfile has to go on."""
        read = self._stream.read(tarfile.BLOCKSIZE)
        if (size := _extended(read)) < 0:
            entry = Entry.ordinary(read)
        else:
            body, block = self._stream.read(size + -size % tarfile.BLOCKSIZE), self._stream.read(tarfile.BLOCKSIZE)
            entry = self._told(body[:size], block)
            read += body + block
        if entry is None or entry.type == tarfile.XHDTYPE:
            self._stream.unread(read)
            return None
        return entry

    @staticmethod
    def _told(body: bytes, block: bytes) -> Entry | None:
        """What a pax header's content and the header after it say of one entry."""
        records = _records(body)
        entry = None if records is None else Entry.ordinary(block)
        if records is None or entry is None:
            return None
        try:
            entry.told(records)
        except ValueError:
            return None
        return entry if entry.size >= 0 else None

    def _content(self) -> Iterator[memoryview]:
        """Raises tarfile.ReadError: the archive ends before the file does."""
        while self._left:
            piece = self._stream.some(min(self._left, _PIECE))
            if not piece:
                raise tarfile.ReadError("unexpected end of data")
            self._left -= len(piece)
            yield piece


def _unfiltered(tar: tarfile.TarFile) -> None:
    """Newer versions of Python would filter what is extracted, by rules of their own."""
    tar.extraction_filter = lambda member, _: member


def _records(body: bytes) -> dict[bytes, bytes] | None:
    """The records of a pax header; None where tarfile has to understand them."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 12)
        length = body[at:space] if space > 0 else b""
        stop = at + int(length) if length.isdigit() else 0
        key, equals, value = body[space + 1 : stop - 1].partition(b"=")
        if stop <= space or stop > len(body) or not equals or body[stop - 1] != 0x0A or key == b"hdrcharset" or key.startswith(b"GNU."):
            return None
        found[key] = value
        at = stop
    return found


def _make_way(path: str, *, directory: bool) -> None:
    """What is at `path` goes, but for a directory where one is to come. Raises InvalidArgument as `Unpacking.extract`."""
    try:
        there = os.lstat(path)
    except OSError:  # whoever makes it says why it cannot be
        return
    if stat.S_ISDIR(there.st_mode) != directory:
        old, new = ("non-directory", "directory") if directory else ("directory", "non-directory")
        raise InvalidArgument(f"cannot overwrite {old} {path} with {new}")
    if not directory:
        os.unlink(path)


def _put(content: Iterator[memoryview], member: tarfile.TarInfo, path: str) -> None:
    """A regular file; an OSError names it."""
    # What is to be ours may have its mode from the beginning; nobody else's, since it is ours until its owner is set.
    user = os.geteuid()
    ours = member.uid == user and member.gid == os.getegid()
    try:
        fd = _opened(path, member.mode & 0o777 if ours else 0o600)
        try:
            _write(fd, content, member, privileged=user == 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None


def _write(fd: int, content: Iterator[memoryview], member: tarfile.TarInfo, *, privileged: bool) -> None:
    for piece in content:
        while piece:
            piece = piece[os.write(fd, piece) :]
    facts = os.fstat(fd)
    if privileged and (facts.st_uid, facts.st_gid) != (member.uid, member.gid):
        os.fchown(fd, member.uid, member.gid)
    if stat.S_IMODE(facts.st_mode) != member.mode or member.mode & ~0o777:  # chown clears set-id bits
        os.fchmod(fd, member.mode)
    os.utime(fd, ns=(moment(member), moment(member)))


def _opened(path: str, mode: int) -> int:
    """A new file: nobody who has the old one open, runs it or has it under another name notices, and no link is written through."""
    try:
        return os.open(path, _NEW, mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except FileExistsError:
        _make_way(path, directory=False)
    return os.open(path, _NEW, mode)


def _pieces(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[memoryview]:
    """Raises tarfile.ReadError: the archive ends before the file does."""
    source, left = tar.fileobj, member.size
    assert source is not None
    source.seek(member.offset_data)
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise tarfile.ReadError("unexpected end of data")
        left -= len(piece)
        yield memoryview(piece)
