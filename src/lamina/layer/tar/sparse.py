"""Maps of GNU sparse files: the old format in the header, pax 0.0 and 0.1 in records, pax 1.0 before the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lamina.layer.errors import InvalidArchive, TruncatedArchive
from lamina.layer.tar.member import Extent
from lamina.layer.tar.number import parse_decimal, parse_field

RUNS_LIMIT = 1 << 17
"""The most runs a sparse file may have."""


def header_runs(area: bytes, slots: int) -> list[tuple[int, int]]:
    """The (start, length) pairs in a header's or extension block's slots of 24 bytes; an empty slot ends them."""
    runs = []
    for at in range(0, slots * 24, 24):
        start, length = area[at : at + 12], area[at + 12 : at + 24]
        if not length[0]:
            break
        runs.append((parse_field(start), parse_field(length)))
    return runs


def parse_map(text: bytes) -> list[tuple[int, int]]:
    """The pairs of a `GNU.sparse.map` record: numbers joined by commas.

    Raises:
        InvalidArchive: it is no such list.
    """
    numbers = [parse_decimal(part) for part in text.split(b",")] if text else []
    return _pairs(numbers)


def parse_prefix(text: bytes) -> list[tuple[int, int]] | None:
    """The pairs of format 1.0 (a count and the numbers, one per line) at the start of the data; None: more is needed.

    Raises:
        InvalidArchive: it is no such list, or longer than any honest one.
    """
    lines = text.split(b"\n")
    if len(lines) < 2:
        if len(text) > 20:
            raise InvalidArchive("malformed sparse map: no count")
        return None
    count = parse_decimal(lines[0])
    if count > RUNS_LIMIT:
        raise InvalidArchive(f"sparse map too long: {count} runs")
    if len(lines) < 2 * count + 2:
        return None
    return _pairs([parse_decimal(line) for line in lines[1 : 2 * count + 1]])


def prefix_lines(text: bytes | bytearray) -> int:
    """How many lines the map has of which `parse_prefix` wants more, as far as `text` tells."""
    count, end, _ = text.partition(b"\n")
    return 2 * int(count) + 1 if end else 1


def _pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise InvalidArchive("malformed sparse map: an odd number of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def extents(runs: Iterable[tuple[int, int]], size: int, offset: int, stored: int) -> tuple[Extent, ...]:
    """The runs of a file of `size` bytes whose `stored` bytes start at `offset` in the tar; empty runs are left out.

    Raises:
        InvalidArchive: runs overlap, go backwards or leave the file.
        TruncatedArchive: fewer bytes are stored than the runs need.
    """
    found, end, at = [], 0, offset
    for start, length in runs:
        if start < end or length < 0 or start + length > size:
            raise InvalidArchive(f"sparse map does not fit a file of {size} bytes: {length} at {start}")
        end = start + length
        if length:
            found.append(Extent(start, length, at))
            at += length
    if at - offset > stored:
        raise TruncatedArchive(f"sparse file stores {stored} bytes, its map needs {at - offset}")
    return tuple(found)
