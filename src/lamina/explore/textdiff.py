"""Unified differences of texts: lines that occur once in both are anchors (patience), what lies between is compared closely."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

Block = tuple[int, int, int, int]
"""Lines of a from the first to before the second number that became lines of b from the third to before the fourth."""

_CLOSE = 1 << 20
_CONTEXT = 3


def unified(a: bytes, b: bytes, names: tuple[bytes, bytes]) -> bytes:
    """The difference as diff -u writes it, with three lines of context; nothing where there is none."""
    old, new = _lines(a), _lines(b)
    blocks = changed_blocks(old, new)
    if not blocks:
        return b""
    out = [b"--- " + names[0] + b"\n", b"+++ " + names[1] + b"\n"]
    for hunk in _hunks(blocks):
        out += _hunk(old, new, hunk)
    return b"".join(out)


def _lines(text: bytes) -> list[bytes]:
    """Lines end at a line feed alone, as for diff."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def changed_blocks(a: Sequence[bytes], b: Sequence[bytes]) -> list[Block]:
    """What changed, in order; blocks touch nowhere."""
    found: list[Block] = []
    for block in _between(a, b, 0, len(a), 0, len(b)):
        if found and found[-1][1] == block[0] and found[-1][3] == block[2]:
            found[-1] = (found[-1][0], block[1], found[-1][2], block[3])
        else:
            found.append(block)
    return found


def _between(a: Sequence[bytes], b: Sequence[bytes], low: int, high: int, start: int, end: int) -> Iterator[Block]:
    """Compare a part of each: equal ends are cut off, then anchors divide it, and each piece again until it has none."""
    waiting = [(low, high, start, end)]
    while waiting:
        low, high, start, end = waiting.pop()
        while low < high and start < end and a[low] == b[start]:
            low, start = low + 1, start + 1
        while low < high and start < end and a[high - 1] == b[end - 1]:
            high, end = high - 1, end - 1
        if low == high or start == end:
            if low < high or start < end:
                yield low, high, start, end
            continue
        anchors = _anchors(a, b, low, high, start, end)
        if not anchors:
            yield from _closely(a, b, low, high, start, end)
            continue
        edges = [(low - 1, start - 1), *anchors, (high, end)]
        pieces = [(one[0] + 1, two[0], one[1] + 1, two[1]) for one, two in pairwise(edges)]
        waiting += reversed(pieces)


def _anchors(a: Sequence[bytes], b: Sequence[bytes], low: int, high: int, start: int, end: int) -> list[tuple[int, int]]:
    """The longest rising run of lines that occur once in each part."""
    once = Counter(a[low:high])
    other = Counter(b[start:end])
    places = {b[at]: at for at in range(start, end)}
    pairs = [(at, places[a[at]]) for at in range(low, high) if once[a[at]] == 1 and other.get(a[at]) == 1]
    tops: list[int] = []
    chains: list[int] = []
    before: list[int] = []
    for number, (_, there) in enumerate(pairs):
        at = bisect_left(tops, there)
        before.append(chains[at - 1] if at else -1)
        if at == len(tops):
            tops.append(there)
            chains.append(number)
        else:
            tops[at], chains[at] = there, number
    found: list[tuple[int, int]] = []
    number = chains[-1] if chains else -1
    while number >= 0:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]


def _closely(a: Sequence[bytes], b: Sequence[bytes], low: int, high: int, start: int, end: int) -> Iterator[Block]:
    if (high - low) * (end - start) > _CLOSE:
        yield low, high, start, end
        return
    for tag, one, two, three, four in SequenceMatcher(None, a[low:high], b[start:end], autojunk=False).get_opcodes():
        if tag != "equal":
            yield low + one, low + two, start + three, start + four


def _hunks(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks whose context would touch are shown together."""
    held = [blocks[0]]
    for block in blocks[1:]:
        if block[0] - held[-1][1] > 2 * _CONTEXT:
            yield held
            held = []
        held.append(block)
    yield held


def _hunk(old: Sequence[bytes], new: Sequence[bytes], blocks: Sequence[Block]) -> Iterator[bytes]:
    before = min(_CONTEXT, blocks[0][0], blocks[0][2])
    low, start = blocks[0][0] - before, blocks[0][2] - before
    after = min(_CONTEXT, len(old) - blocks[-1][1])
    high, end = blocks[-1][1] + after, blocks[-1][3] + after
    yield b"@@ -%b +%b @@\n" % (_span(low, high), _span(start, end))
    at = low
    for one, two, three, four in blocks:
        yield from (_line(b" ", line) for line in old[at:one])
        yield from (_line(b"-", line) for line in old[one:two])
        yield from (_line(b"+", line) for line in new[three:four])
        at = two
    yield from (_line(b" ", line) for line in old[at:high])


def _span(low: int, high: int) -> bytes:
    if high - low == 1:
        return b"%d" % high
    return b"%d,%d" % (low + 1 if high > low else low, high - low)


def _line(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n\\ No newline at end of file\n"
