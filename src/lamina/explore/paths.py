"""All paths of a layer in one file, sorted, so that a search is one look through bytes. Derived: made when it is first needed.

A record is the path, a zero byte and one letter: the kind of the entry (`levels.WORDS`), or `o` for an opaque directory. The first
record is the root's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack

from lamina.explore.levels import DIRECTORY, Level, open_levels
from lamina.explore.patterns import Pattern

OPAQUE = ord("o")


def path_list(described: dict[str, str], directory: str) -> PathList:
    """The list of a layer (as `levels.open_levels` takes it), made and kept in `directory` where it is not there yet."""
    path = os.path.join(directory, described["name"])
    try:
        with open(path, "rb") as file:
            return PathList(file.read())
    except FileNotFoundError:
        with ExitStack() as closing:
            data = _listed(open_levels([described], closing)[0])
    beside = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        with open(beside, "xb") as file:
            file.write(data)
        os.rename(beside, path)
    except OSError:  # a full disk keeps nobody from an answer
        if os.path.exists(beside):
            os.unlink(beside)
    return PathList(data)


def _listed(level: Level) -> bytes:
    records = [b"/\0o" if level.opaque(level.root) else b"/\0%d" % DIRECTORY]
    waiting = [(b"/", level.root)]
    while waiting:
        prefix, key = waiting.pop()
        for name, found, kind in level.entries(key):
            path = prefix + name
            if kind == DIRECTORY:
                waiting.append((path + b"/", found))
                records.append(path + (b"\0o" if level.opaque(found) else b"\0%d" % kind))
            else:
                records.append(path + b"\0%d" % kind)
    records.sort()
    return b"".join(records)


class PathList:
    """One layer's paths."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def matching(self, pattern: Pattern) -> dict[bytes, int]:
        """Letter by path of every entry that matches, whiteouts too."""
        data, found = self._data, {}
        matches = pattern.expression.search if pattern.anywhere else pattern.expression.fullmatch
        for start in self._candidates(pattern):
            end = data.find(b"\0", start)
            path = data[start:end]
            if matches(path):
                found[path] = data[end + 1]
        found.pop(b"/", None)
        return found

    def kind(self, path: bytes) -> int:
        """The letter of a path, 0 where the layer has nothing there; by halving."""
        data, low, high = self._data, 0, len(self._data)
        while low < high:
            start = self._start((low + high) // 2)
            end = data.find(b"\0", start)
            here = data[start:end]
            if here == path:
                return data[end + 1]
            if here + b"\0" < path + b"\0":
                low = end + 2
            else:
                high = start
        return 0

    def _start(self, at: int) -> int:
        """Where the record that byte `at` belongs to begins."""
        data = self._data
        zero = data.rfind(b"\0", 0, at)
        # Its zero and its letter belong to a record too.
        return self._start(zero) if zero >= 0 and at < zero + 2 else zero + 2 if zero >= 0 else 0

    def _candidates(self, pattern: Pattern) -> Iterator[int]:
        """Where records begin that may match: all that have the pattern's literal in them."""
        data, literal = self._data, pattern.literal
        if not literal:
            yield 0
            yield from (found.end() for found in re.finditer(rb"\0.(?=/)", data, re.DOTALL))
            return
        if pattern.fold:
            data = data.lower()
        at, last = data.find(literal), -1
        while at >= 0:
            start = self._start(at)
            if start != last:
                yield start
                last = start
            at = data.find(literal, at + 1)
