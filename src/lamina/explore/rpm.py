"""RPM's database of installed packages: SQLite, ndb, and Berkeley DB's hash as it was before; read as bytes, never written.

A database is a bag of headers; of each, name, epoch, version and release are taken. What is malformed gives nothing.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing

_NAME, _VERSION, _RELEASE, _EPOCH = 1000, 1001, 1002, 1003
_TAGS_LIMIT = 1 << 16
_NDB_MAGIC, _NDB_SLOT, _NDB_BLOB = b"RpmP", b"Slot", b"BlbS"
_NDB_PAGE, _NDB_BLOCK = 4096, 16
_BDB_MAGIC = 0x061561
_BDB_HASH, _BDB_UNSORTED, _BDB_OVERFLOW = 13, 2, 7
_BDB_HEADER = 26
_BDB_INLINE, _BDB_OFFPAGE = 1, 3
_BLOB_LIMIT = 64 << 20


def packages(database: bytes) -> dict[str, str]:
    """Versions by name; of a name that is there more than once (kernels), all versions."""
    found: dict[str, list[str]] = {}
    for blob in _blobs(database):
        name, version = _header(blob)
        if name:
            found.setdefault(name, []).append(version)
    return {name: " ".join(sorted(versions)) for name, versions in found.items()}


def _blobs(database: bytes) -> Iterator[bytes]:
    if database.startswith(b"SQLite format 3\0"):
        return _of_sqlite(database)
    if database.startswith(_NDB_MAGIC):
        return _of_ndb(database)
    return _of_bdb(database)


def _of_sqlite(database: bytes) -> Iterator[bytes]:
    """A copy in memory; its head says no more that a log lies beside it (fileformat2.html, bytes 18 and 19), which only files can have."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(database[:18] + b"\1\1" + database[20:])
            yield from (row[0] for row in connection.execute("SELECT blob FROM Packages") if isinstance(row[0], bytes))
        except sqlite3.Error:
            return


def _of_ndb(database: bytes) -> Iterator[bytes]:
    """Slots of 16 bytes behind a head of 32, in as many pages as the head says, point at blobs in blocks of 16."""
    if len(database) < 32:
        return
    pages = struct.unpack_from("<I", database, 12)[0]
    for at in range(32, min(pages * _NDB_PAGE, len(database) - 15), 16):
        magic, number, block, _ = struct.unpack_from("<4sIII", database, at)
        if magic != _NDB_SLOT or not block:
            continue
        start = block * _NDB_BLOCK
        if start + 16 > len(database):
            continue
        magic, owner, _, size = struct.unpack_from("<4sIII", database, start)
        if magic == _NDB_BLOB and owner == number:
            yield database[start + 16 : start + 16 + size]


def _of_bdb(database: bytes) -> Iterator[bytes]:
    """Every value on every page of a hash (db.h: pages of one size, items by offsets from the page's start)."""
    if len(database) < 512:
        return
    order = next((order for order in "<>" if struct.unpack_from(f"{order}I", database, 12)[0] == _BDB_MAGIC), "")
    size = struct.unpack_from(f"{order}I", database, 20)[0] if order else 0
    if not 512 <= size <= 1 << 16:
        return
    for start in range(size, len(database) - size + 1, size):
        if database[start + 25] in (_BDB_HASH, _BDB_UNSORTED):
            yield from _page_values(database, start, size, order)


def _page_values(database: bytes, start: int, size: int, order: str) -> Iterator[bytes]:
    count = struct.unpack_from(f"{order}H", database, start + 20)[0]
    if _BDB_HEADER + 2 * count > size:
        return
    offsets = struct.unpack_from(f"{order}{count}H", database, start + _BDB_HEADER)
    for number in range(1, count, 2):  # keys and values take turns; items lie from the page's end towards its beginning
        at = offsets[number]
        if at + 12 > size:
            continue
        if database[start + at] == _BDB_OFFPAGE:
            page, length = struct.unpack_from(f"{order}II", database, start + at + 4)
            yield _overflow(database, page, length, size, order)
        elif database[start + at] == _BDB_INLINE:
            yield database[start + at + 1 : start + offsets[number - 1]]


def _overflow(database: bytes, page: int, length: int, size: int, order: str) -> bytes:
    pieces: list[bytes] = []
    had = 0
    while page and had < min(length, _BLOB_LIMIT) and (page + 1) * size <= len(database):
        start = page * size
        following, used = struct.unpack_from(f"{order}I2xH", database, start + 16)
        if database[start + 25] != _BDB_OVERFLOW or not used:
            break
        pieces.append(database[start + _BDB_HEADER : start + _BDB_HEADER + used])
        had += used
        page = following
    return b"".join(pieces)[:length]


def _header(blob: bytes) -> tuple[str, str]:
    """Name, and version as `epoch:version-release`; empty where it is not a header (rpm's format manual, "Header Structure")."""
    if len(blob) < 8:
        return "", ""
    count, _ = struct.unpack_from(">II", blob)
    data = 8 + 16 * count
    if count > _TAGS_LIMIT or data > len(blob):
        return "", ""
    texts: dict[int, str] = {}
    for at in range(8, data, 16):
        tag, _, offset, _ = struct.unpack_from(">IIII", blob, at)
        if tag in (_NAME, _VERSION, _RELEASE):
            texts[tag] = blob[data + offset : blob.find(b"\0", data + offset)].decode("utf-8", "replace")
        elif tag == _EPOCH and data + offset + 4 <= len(blob):
            texts[tag] = str(struct.unpack_from(">I", blob, data + offset)[0])
    epoch = f"{texts[_EPOCH]}:" if texts.get(_EPOCH, "0") != "0" else ""
    return texts.get(_NAME, ""), f"{epoch}{texts.get(_VERSION, '')}-{texts.get(_RELEASE, '')}"
