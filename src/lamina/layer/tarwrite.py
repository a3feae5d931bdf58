"""Writing tars: ustar headers, with pax records where ustar cannot say it. Equal input gives equal bytes.

A record is written for a path or target of more than 100 bytes or outside of ASCII, a number that
does not fit its field, a time with a fraction or before 1970, and every extended attribute. Owners'
names are left out: images go by number.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from zlib import adler32

from lamina.layer.tar import pax
from lamina.layer.tar.member import HARDLINK, Member

BLOCK = 512
END = bytes(2 * BLOCK)
"""What ends an archive."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_KINDS = {
    stat.S_IFREG: b"0",
    HARDLINK: b"1",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
Write = Callable[[bytes], object]


def header(member: Member) -> bytes:
    """The header blocks of one member; a regular file's content (`size` bytes) and `padding` follow.

    `extents` is not looked at: see `sparse_header`.

    Raises:
        ValueError: a socket, or whatever else a tar cannot hold.
    """
    kind = _KINDS.get(member.type)
    if kind is None:
        raise ValueError(f"no tar member type for mode {member.mode:o}")
    path = member.path + b"/" if kind == b"5" and not member.path.endswith(b"/") else member.path
    records = sorted(_records(member, path))
    return _extended(member, path, kind, records) if records else _block(member, path, kind)


def _extended(member: Member, path: bytes, kind: bytes, records: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A member's header behind one that says what it cannot."""
    body = pax.render(records)
    name = b"PaxHeaders/" + member.path.rstrip(b"/").rpartition(b"/")[2][:80]
    extended = Member(name, stat.S_IFREG | 0o644, 0, 0, len(body), 0)
    return _block(extended, name, b"x") + body + padding(len(body)) + _block(member, path, kind)


def sparse_header(member: Member, runs: Sequence[tuple[int, int]]) -> tuple[bytes, int]:
    """The header blocks and the map of a sparse file (GNU pax format 1.0), and how many bytes of content follow.

    `runs` are what is stored, (start, bytes) in order; their bytes follow one after another, then `padding`.
    """
    numbers = [len(runs), *(number for run in runs for number in run)]
    text = b"".join(b"%d\n" % number for number in numbers)
    text += padding(len(text))
    stored = sum(length for _, length in runs)
    head, _, name = member.path.rpartition(b"/")
    placeholder = (head + b"/" if head else b"") + b"GNUSparseFile.0/" + name
    shrunk = member._replace(path=placeholder, size=len(text) + stored)
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", member.path),
        (b"GNU.sparse.realsize", b"%d" % member.size),
    ]
    return _extended(shrunk, placeholder, b"0", sorted([*records, *_records(shrunk, placeholder)])) + text, stored


def padding(size: int) -> bytes:
    """The zeros that fill up content of `size` bytes to a block."""
    return bytes(-size % BLOCK)


def _records(member: Member, path: bytes) -> Iterator[tuple[bytes, bytes]]:
    if _needs_record(path):
        yield b"path", path
    if _needs_record(member.link):
        yield b"linkpath", member.link
    for key, number, limit in ((b"uid", member.uid, 1 << 21), (b"gid", member.gid, 1 << 21), (b"size", member.size, 1 << 33)):
        if number >= limit:
            yield key, b"%d" % number
    seconds, fraction = divmod(member.mtime_ns, 10**9)
    if fraction or not 0 <= seconds < 1 << 33:
        yield b"mtime", time_record(member.mtime_ns)
    for name, value in member.xattrs:
        yield b"SCHILY.xattr." + name, value


def _needs_record(text: bytes) -> bool:
    return len(text) > 100 or not text.isascii()


def time_record(nanoseconds: int) -> bytes:
    """What a pax record says of a time: the fraction of one before 1970 goes with the sign."""
    sign, value = (b"-", -nanoseconds) if nanoseconds < 0 else (b"", nanoseconds)
    seconds, fraction = divmod(value, 10**9)
    return sign + b"%d" % seconds + ((b".%09d" % fraction).rstrip(b"0") if fraction else b"")


def _block(member: Member, path: bytes, kind: bytes) -> bytes:
    size = member.size if kind in b"0x" else 0
    seconds = min(max(member.mtime_ns // 10**9, 0), (1 << 33) - 1)
    major, minor = (b"%07o\0" % member.major, b"%07o\0" % member.minor) if kind in b"34" else (b"", b"")
    raw = _HEADER.pack(
        path[:100],
        b"%07o\0" % (member.mode & 0o7777),
        _small(member.uid),
        _small(member.gid),
        b"%011o\0" % (size % (1 << 33)),
        b"%011o\0" % seconds,
        b" " * 8,
        kind,
        member.link[:100],
        b"ustar\0",
        b"00",
        b"",
        b"",
        major,
        minor,
        b"",
    )
    # adler32's lower half is a sum of bytes modulo 65521, at a twentieth of the time of sum(); of ASCII it is the sum itself.
    total = adler32(raw, 0) & 0xFFFF if raw.isascii() else sum(raw)
    return raw[:148] + b"%06o\0 " % total + raw[156:]


def _small(number: int) -> bytes:
    return b"%07o\0" % (number if number < 1 << 21 else 0)


class TarWriter:
    """Writes members one after another through `write`."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def add(self, member: Member, content: Iterable[bytes] = ()) -> None:
        """Write a member and, of a regular file, its content: exactly `member.size` bytes.

        Raises:
            ValueError: the content has another size; the archive is spoilt then.
        """
        self._write(header(member))
        size = 0
        for chunk in content:
            size += len(chunk)
            self._write(chunk)
        if size != (member.size if member.type == stat.S_IFREG else 0):
            raise ValueError(f"content has {size} bytes, not {member.size}")
        self._write(padding(size))

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(END)
