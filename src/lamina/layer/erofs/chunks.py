"""Sparse files as EROFS maps them: chunks of equal size, each a hole, in the tar, or copied into the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lamina.layer.erofs.layout import BLOCK, BLOCK_BITS
from lamina.layer.errors import ArchiveTooLarge
from lamina.layer.tar.member import Extent

_BITS_LIMIT = BLOCK_BITS + 31
_COUNT_LIMIT = 1 << 22


@dataclass(frozen=True, slots=True)
class ChunkMap:
    """Chunks of `1 << bits` bytes. `mapped` are runs (first chunk, number of them, block in the tar).

    `copied` are (chunk, pieces), a piece being (start in the chunk, bytes, offset in the tar).
    """

    bits: int
    count: int
    mapped: tuple[tuple[int, int, int], ...]
    copied: tuple[tuple[int, tuple[tuple[int, int, int], ...]], ...] = ()

    @property
    def copied_blocks(self) -> int:
        """How many blocks the copied chunks take."""
        return len(self.copied) << self.bits - BLOCK_BITS


def plan_chunks(extents: Sequence[Extent], size: int, whole: int = 1 << 63) -> ChunkMap:
    """The map of a file of `size` bytes. Runs that are not on block boundaries have to be copied, or that leave the tar's `whole` blocks.

    Raises:
        ArchiveTooLarge: it would have more than four million chunks.
    """
    if all(extent.offset % BLOCK == 0 and extent.start % BLOCK == 0 for extent in extents) and all(
        extent.offset + extent.length <= whole and (extent.length % BLOCK == 0 or extent.start + extent.length == size)
        for extent in extents
    ):
        return _mapped(extents, size)
    return _copied(extents, size)


def plan_unfinished(offset: int, size: int) -> ChunkMap:
    """The map of a file whose content, at `offset` in the tar, ends with the tar in the middle of a block: its end has to be copied.

    Raises:
        ArchiveTooLarge: see `plan_chunks`.
    """
    bits = 12
    while size >> bits > 1 << 16:
        bits += 1
    last = (size - 1) >> bits
    tail = last << bits
    mapped = ((0, last, offset // BLOCK),) if last else ()
    return ChunkMap(bits, _count(size, bits), mapped, ((last, ((0, size - tail, offset + tail),)),))


def _mapped(extents: Sequence[Extent], size: int) -> ChunkMap:
    edges = 1 << _BITS_LIMIT
    for extent in extents:
        edges |= extent.start
        if extent.start + extent.length != size:
            edges |= extent.start + extent.length
    bits = (edges & -edges).bit_length() - 1
    count = _count(size, bits)
    mapped = tuple((e.start >> bits, -(-e.length >> bits), e.offset // BLOCK) for e in extents)
    return ChunkMap(bits, count, mapped)


def _copied(extents: Sequence[Extent], size: int) -> ChunkMap:
    bits = 12
    while size >> bits > _COUNT_LIMIT // 4:
        bits += 1
    pieces: dict[int, list[tuple[int, int, int]]] = {}
    step = 1 << bits
    for extent in extents:
        done = 0
        while done < extent.length:
            chunk, start = divmod(extent.start + done, step)
            length = min(step - start, extent.length - done)
            pieces.setdefault(chunk, []).append((start, length, extent.offset + done))
            done += length
    return ChunkMap(bits, _count(size, bits), (), tuple((chunk, tuple(found)) for chunk, found in sorted(pieces.items())))


def _count(size: int, bits: int) -> int:
    count = -(-size >> bits)
    if count > _COUNT_LIMIT:
        raise ArchiveTooLarge(f"sparse file of {size} bytes would need a map of {count} chunks")
    return count
