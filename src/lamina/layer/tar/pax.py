"""Pax records (POSIX.1-2001 pax "Extended Header"): `LENGTH KEY=VALUE\\n`, LENGTH counting all of it."""

from __future__ import annotations

from collections.abc import Iterable

from lamina.layer.errors import InvalidArchive

_SPARSE_PAIRS = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
SPARSE_PAIRS = b"GNU.sparse.pairs"
"""The key under which `parse` gathers the repeated records of GNU sparse format 0.0, joined by commas like 0.1's map."""


def parse(body: bytes) -> dict[bytes, bytes]:
    """The records of one header; the last of a key wins. An empty value is kept: it takes the key away.

    Raises:
        InvalidArchive: a record's length does not fit, or it has no key.
    """
    records: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    position, end = 0, len(body)
    while position < end:
        space = body.find(b" ", position, position + 12)
        length = body[position:space] if space > 0 else b""
        if not length.isdigit():
            raise InvalidArchive(f"malformed pax record: {body[position : position + 40]!r}")
        stop = position + int(length)
        equals = body.find(b"=", space, stop)
        if stop > end or equals <= space + 1 or body[stop - 1] != 0x0A:
            raise InvalidArchive(f"malformed pax record: {body[position : position + 40]!r}")
        key, value = body[space + 1 : equals], body[equals + 1 : stop - 1]
        if key in _SPARSE_PAIRS:
            if key != _SPARSE_PAIRS[len(pairs) % 2]:
                raise InvalidArchive("malformed sparse map in pax header")
            pairs.append(value)
        records[key] = value
        position = stop
    if pairs:
        records[SPARSE_PAIRS] = b",".join(pairs)
    return records


def render(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The body of a header with these records, in this order. `parse` undoes it."""
    return b"".join(_record(key, value) for key, value in records)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    # The length counts its own digits, which may make it one digit longer.
    length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)
