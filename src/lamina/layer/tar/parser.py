"""Reading a tar: bytes in, members out; how the bytes are cut makes no difference.

Understood: v7, ustar (POSIX.1-1988), pax local and global headers (POSIX.1-2001), GNU long names and
links, GNU sparse files (old, 0.0, 0.1, 1.0), base-256 numbers, star's extended attributes. The
archive ends at two zero blocks, at a header's boundary, or where its last member's content is complete
(some writers leave out the zeros that fill up its last block); what follows the zero blocks is ignored.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from zlib import adler32

from lamina.layer.errors import InvalidArchive, TruncatedArchive, shown
from lamina.layer.tar import pax, sparse
from lamina.layer.tar.member import HARDLINK, Member
from lamina.layer.tar.number import Fields, parse_decimal, parse_field, parse_time

BLOCK = 512
META_LIMIT = 1 << 20
"""The most bytes a pax header or a long name may have."""
SIZE_LIMIT = 1 << 62
"""A size above this is absurd, not large."""
PATH_LIMIT = 1 << 16

_ZERO = bytes(BLOCK)
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_new = tuple.__new__
_TYPES = {
    b"0": stat.S_IFREG,
    b"\0": stat.S_IFREG,
    b"7": stat.S_IFREG,
    b"S": stat.S_IFREG,
    b"1": HARDLINK,
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
    b"D": stat.S_IFDIR,
}
_WITH_DATA = frozenset((b"0", b"\0", b"7", b"S", b"D"))
_XATTR = b"SCHILY.xattr."

_State = Callable[[bytes, int], Member | None]


class Parser:
    """`feed` it the tar's bytes in order, then `finish`. An error leaves it unusable."""

    def __init__(self) -> None:
        self._numbers = Fields()
        self._pending = b""
        self._offset = 0
        self._skip = self._padding = 0
        self._need = BLOCK
        self._state: _State = self._header
        self._zero_blocks = 0
        self._ended = False
        self._global: dict[bytes, bytes] = {}
        self._records: dict[bytes, bytes] = {}
        self._extended = False
        self._partial: tuple[Member, int, list[tuple[int, int]]] | None = None
        self._map = bytearray()
        self._lines, self._lines_wanted = 0, 1
        self._last = b""

    def feed(self, data: bytes) -> list[Member]:
        """The members whose headers are complete now. Their content may still be to come.

        Raises:
            InvalidArchive: the bytes break the format; says where.
        """
        if self._ended:
            self._offset += len(data)
            return []
        if self._pending:
            data = self._pending + data
        members: list[Member] = []
        base, position, end = self._offset, 0, len(data)
        try:
            while not self._ended:
                if self._skip:
                    step = min(self._skip, end - position)
                    position += step
                    self._skip -= step
                stop = position + self._need
                if stop > end or self._skip:
                    break
                block = data[position:stop]
                position = stop
                member = self._state(block, base + stop)
                if member is not None:
                    members.append(member)
        except InvalidArchive as error:
            raise type(error)(f"{error.message}, at byte {base + position} of the archive") from None
        self._pending = b"" if self._ended else data[position:]
        self._offset = base + (end if self._ended else position)
        return members

    def pass_over(self, size: int) -> None:
        """Say that the next `size` bytes, which belong to the content that the last bytes fed were of, are not fed."""
        if self._pending or not 0 <= size <= self._skip - self._padding:
            raise ValueError(f"{size} bytes are not of one content")
        self._skip -= size
        self._offset += size

    def finish(self) -> None:
        """Say that there is no more.

        Raises:
            TruncatedArchive: the archive ends inside a header or inside a member's content.
        """
        if self._skip > self._padding:
            raise TruncatedArchive(f"archive is truncated: {shown(self._last)} lacks {self._skip - self._padding} bytes")
        if self._pending or self._extended or self._state != self._header:
            raise TruncatedArchive(f"archive is truncated in a header, after {self._offset + len(self._pending)} bytes")

    def _header(self, block: bytes, offset: int) -> Member | None:
        """The member that a block at `offset` describes; None for a block of zeros, and for a header about other members.

        Raises InvalidArchive. One long function, since it runs for every member.
        """
        name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, _, major, minor, prefix = _HEADER.unpack(block)
        numbers = self._numbers
        try:
            stated = numbers[checksum]
        except InvalidArchive:
            stated = -1
        # adler32's lower half is a sum of bytes modulo 65521, at a twentieth of the time of sum();
        # it starts at 256, which is what the checksum field counts for: eight spaces.
        if adler32(block[156:], adler32(block[:148], 256)) & 0xFFFF != stated or self._zero_blocks:
            if block == _ZERO:
                self._zero()
                return None
            _verify(block, stated)
            if self._zero_blocks:
                raise InvalidArchive("lone zero block in archive")
        type_bits = _TYPES.get(kind)
        if type_bits is None:
            self._special(kind, name, numbers[size])
            return None
        path = name.partition(b"\0")[0]
        if prefix[0] and magic == b"ustar\0":
            # star's variant of ustar has a shorter prefix, and times after it.
            length = 131 if block[508:512] == b"tar\0" else 155
            path = prefix[:length].partition(b"\0")[0] + b"/" + path
        stored = numbers[size] if kind in _WITH_DATA else 0
        if self._extended or self._global or kind in b"SD":
            return self._extend(block, path, type_bits, stored, offset)
        if path[-1:] == b"/" and type_bits == stat.S_IFREG:
            type_bits, stored = stat.S_IFDIR, 0
        if not 0 <= stored <= SIZE_LIMIT:
            raise InvalidArchive(f"absurd size in tar header of {shown(path)}: {stored}")
        self._padding = -stored & 511
        self._skip = stored + self._padding
        self._last = path
        if type_bits == stat.S_IFREG or type_bits == stat.S_IFDIR:
            size_kept = stored if type_bits == stat.S_IFREG else 0
            bits = type_bits | numbers[mode] & 0o7777
            # Past Member.__new__, which would unpack and pack the arguments again.
            return _new(
                Member, (path, bits, numbers[uid], numbers[gid], size_kept, numbers[mtime] * 1000000000, offset, b"", 0, 0, (), None)
            )
        device = (numbers[major], numbers[minor]) if kind in b"34" else (0, 0)
        bits = type_bits | numbers[mode] & 0o7777 if type_bits else HARDLINK
        target = link.partition(b"\0")[0] if kind in b"12" else b""
        return Member(path, bits, numbers[uid], numbers[gid], 0, numbers[mtime] * 10**9, offset, target, *device)

    def _zero(self) -> None:
        """Take a block of zeros: two of them end the archive."""
        if self._extended:
            raise TruncatedArchive("archive ends after an extended header")
        self._zero_blocks += 1
        self._ended = self._zero_blocks == 2

    def _special(self, kind: bytes, name: bytes, size: int) -> None:
        """A header about other members, or about none."""
        if kind in b"xgXLK":
            if not 0 <= size <= META_LIMIT:
                raise InvalidArchive(f"extended tar header of {size} bytes")
            self._expect(lambda body, _: self._meta(kind, body[:size]), max(size + 511 & ~511, 0))
            self._extended = self._extended or kind != b"g"
            if not size:
                self._meta(kind, b"")
        elif kind == b"V":  # a volume label
            self._pass_over(max(size, 0))
        else:
            raise InvalidArchive(f"unsupported tar member type {kind!r}: {shown(name.partition(bytes(1))[0])}")

    def _pass_over(self, size: int) -> None:
        """Skip `size` bytes of content, and what fills up their last block."""
        self._padding = -size & 511
        self._skip = size + self._padding

    def _expect(self, state: _State, need: int) -> None:
        """Have `state` called with the next `need` bytes."""
        self._state, self._need = state, need

    def _meta(self, kind: bytes, body: bytes) -> None:
        """Keep what an extended header says: for the next member, or (`g`) for all that follow. Raises InvalidArchive."""
        self._expect(self._header, BLOCK)
        if kind in b"LK":
            self._records.setdefault(b"path" if kind == b"L" else b"linkpath", body.partition(b"\0")[0])
            return
        records = pax.parse(body)
        if kind == b"g":
            self._global.update(records)
            if len(self._global) > 4096 or sum(len(key) + len(value) for key, value in self._global.items()) > META_LIMIT:
                raise InvalidArchive("too many global pax records")
        else:
            self._records.update(records)

    def _extend(self, block: bytes, path: bytes, type_bits: int, stored: int, offset: int) -> Member | None:
        """A member about which extended headers, or the sparse map in its own, say more."""
        records = {**self._global, **self._records} if self._global else self._records
        self._records, self._extended = {}, False
        path = records.get(b"path") or path
        link = records.get(b"linkpath") or block[157:257].partition(b"\0")[0]
        kind = block[156:157]
        if kind in _WITH_DATA and (text := records.get(b"size")):
            stored = parse_decimal(text)
        if path[-1:] == b"/" and type_bits == stat.S_IFREG:
            type_bits, stored = stat.S_IFDIR, 0
        if not 0 <= stored <= SIZE_LIMIT:
            raise InvalidArchive(f"absurd size in tar header of {shown(path)}: {stored}")
        if len(path) > PATH_LIMIT or len(link) > PATH_LIMIT:
            raise InvalidArchive(f"path too long in archive: {shown(path)}")
        member = Member(
            path,
            type_bits | self._numbers[block[100:108]] & 0o7777 if type_bits else HARDLINK,
            parse_decimal(records[b"uid"]) if records.get(b"uid") else self._numbers[block[108:116]],
            parse_decimal(records[b"gid"]) if records.get(b"gid") else self._numbers[block[116:124]],
            stored if type_bits == stat.S_IFREG else 0,
            parse_time(records[b"mtime"]) if records.get(b"mtime") else self._numbers[block[136:148]] * 10**9,
            offset,
            link if kind in b"12" else b"",
            *((self._numbers[block[329:337]], self._numbers[block[337:345]]) if kind in b"34" else (0, 0)),
            xattrs=tuple((key[13:], value) for key, value in records.items() if key.startswith(_XATTR)),
        )
        self._pass_over(stored)
        self._last = path
        if kind == b"S":
            return self._old_sparse(block, member, stored)
        if type_bits == stat.S_IFREG and any(key.startswith(b"GNU.sparse.") for key in records):
            return self._pax_sparse(records, member, stored)
        return member

    def _old_sparse(self, block: bytes, member: Member, stored: int) -> Member | None:
        """The map starts in the header (four slots from 386) and goes on in blocks of 21 slots."""
        member = member._replace(size=_real_size(parse_field(block[483:495])))
        runs = sparse.header_runs(block[386:482], 4)
        if block[482] not in (0, 0x30):
            self._partial = member, stored, runs
            self._skip = 0
            self._expect(self._more_runs, BLOCK)
            return None
        return member._replace(extents=sparse.extents(runs, member.size, member.offset, stored))

    def _more_runs(self, block: bytes, offset: int) -> Member | None:
        assert self._partial is not None
        member, stored, runs = self._partial
        runs += sparse.header_runs(block, 21)
        if len(runs) > sparse.RUNS_LIMIT:
            raise InvalidArchive(f"sparse map too long in {shown(member.path)}")
        return None if block[504] not in (0, 0x30) else self._sparse_done(member, stored, runs, offset)

    def _sparse_done(self, member: Member, stored: int, runs: list[tuple[int, int]], offset: int) -> Member:
        """The map is complete and `offset` is where the content starts."""
        self._partial, self._map = None, bytearray()
        self._lines, self._lines_wanted = 0, 1
        self._expect(self._header, BLOCK)
        self._pass_over(stored)
        return member._replace(offset=offset, extents=sparse.extents(runs, member.size, offset, stored))

    def _pax_sparse(self, records: dict[bytes, bytes], member: Member, stored: int) -> Member | None:
        size = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
        if size is None:
            return member
        member = member._replace(path=records.get(b"GNU.sparse.name") or member.path, size=_real_size(parse_decimal(size)))
        if records.get(b"GNU.sparse.major") == b"1":
            self._partial = member, stored, []
            self._skip = 0
            self._expect(self._map_block, BLOCK)
            return None
        runs = sparse.parse_map(records.get(b"GNU.sparse.map") or records.get(pax.SPARSE_PAIRS, b""))
        return member._replace(extents=sparse.extents(runs, member.size, member.offset, stored))

    def _map_block(self, block: bytes, offset: int) -> Member | None:
        assert self._partial is not None
        member, stored, _ = self._partial
        self._map += block
        self._lines += block.count(b"\n")
        stored -= BLOCK
        self._partial = member, stored, []
        if stored < 0 or len(self._map) > 4 * META_LIMIT:
            raise InvalidArchive(f"sparse map of {shown(member.path)} is longer than its content")
        # Looked at when the count has come, and when all has: each look is at all of it.
        if 0 < self._lines < self._lines_wanted:
            return None
        runs = sparse.parse_prefix(bytes(self._map))
        if runs is None:
            self._lines_wanted = sparse.prefix_lines(self._map)
            return None
        return self._sparse_done(member, stored, runs, offset)


def _verify(block: bytes, stated: int) -> None:
    """Check a header's checksum exactly, as unsigned bytes or, as some old programs did, as signed ones."""
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    if stated not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest)):
        raise InvalidArchive("tar header checksum does not match: this is not a tar archive, or a damaged one")


def _real_size(size: int) -> int:
    if not 0 <= size <= SIZE_LIMIT:
        raise InvalidArchive(f"absurd size of a sparse file: {size}")
    return size
