"""Levels seen through each other, a directory at a time: what overlayfs would show, without mounting."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from lamina.errors import Corrupt, InvalidArgument
from lamina.explore.levels import DIRECTORY, SYMLINK, Key, Level

Members = tuple[tuple[int, Key], ...]
"""The directories that make up one that is seen: heights of levels and keys, top first."""

_PATH_LIMIT = 1 << 16
_LINKS_LIMIT = 40


@contextmanager
def uncollected() -> Iterator[None]:
    """For loops that make many values and no cycles: the collector would look at all of them again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Seen(NamedTuple):
    """An entry that is seen: the level that gives it, its key there, and of a directory all that is merged in it."""

    name: bytes
    kind: int
    level: int
    key: Key
    members: Members = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """One directory of a walk: its path (the root is "") and what is seen in it, sorted by name."""

    path: bytes
    members: Members
    entries: Sequence[Seen]


class Stack:
    """Open levels, base first. Not thread-safe. Symbolic links are followed by `resolve` alone."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = tuple(levels)

    def root(self, height: int | None = None) -> Members:
        """The root's members, as seen from the top, or with only the lowest `height` levels."""
        found: list[tuple[int, Key]] = []
        for number in range(len(self.levels) if height is None else height)[::-1]:
            level = self.levels[number]
            found.append((number, level.root))
            if level.opaque(level.root):
                break
        return tuple(found)

    def listing(self, members: Members) -> Sequence[Seen]:
        """What is seen in a directory of these members, sorted by name."""
        if len(members) == 1:
            ((number, key),) = members
            return [
                Seen(name, kind, number, found, ((number, found),) if kind == DIRECTORY else ())
                for name, found, kind in self.levels[number].entries(key)
                if kind
            ]
        return self._merged(members)

    def _merged(self, members: Members) -> Sequence[Seen]:
        first: dict[bytes, tuple[int, int, Key]] = {}
        merging: dict[bytes, list[tuple[int, Key]]] = {}  # of directories into which lower ones are still merged
        directories: dict[bytes, list[tuple[int, Key]]] = {}
        for number, key in members:
            level = self.levels[number]
            for name, found, kind in level.entries(key):
                if name not in first:
                    first[name] = (kind, number, found)
                    if kind == DIRECTORY:
                        directories[name] = [(number, found)]
                        if not level.opaque(found):
                            merging[name] = directories[name]
                elif name in merging:
                    if kind == DIRECTORY:
                        merging[name].append((number, found))
                    if kind != DIRECTORY or level.opaque(found):
                        del merging[name]
        return [
            Seen(name, kind, number, found, tuple(directories.get(name, ())))
            for name, (kind, number, found) in sorted(first.items())
            if kind
        ]

    def walk(self, members: Members, path: bytes = b"") -> Iterator[Visit]:
        """Every directory from one on, parents first; `path` is where the first one stands.

        Raises:
            Corrupt: directories go deeper than any path can.
        """
        waiting = [(path, members)]
        while waiting:
            path, members = waiting.pop()
            if len(path) > _PATH_LIMIT:
                raise Corrupt(f"layer {self.levels[members[0][0]].name} is damaged: its directories have no end")
            entries = self.listing(members)
            yield Visit(path, members, entries)
            prefix = path + b"/" if path else b""
            waiting += [(prefix + entry.name, entry.members) for entry in reversed(entries) if entry.kind == DIRECTORY]

    def find(self, path: bytes) -> Seen | None:
        """What is seen at a clean path; the root has no name."""
        members = self.root()
        entry = Seen(b"", DIRECTORY, members[0][0], members[0][1], members) if members else None
        for name in path.split(b"/") if path else ():
            if entry is None or entry.kind != DIRECTORY:
                return None
            entry = next((each for each in self.listing(entry.members) if each.name == name), None)
        return entry

    def resolve(self, path: bytes, *, last: bool) -> bytes:
        """The clean path that `path` leads to, symbolic links on the way followed within the stack; with `last`, at its end too.

        Raises:
            InvalidArgument: more than 40 links.
        """
        done: list[bytes] = []
        left = [part for part in path.split(b"/") if part not in (b"", b".")][::-1]
        links = 0
        while left:
            part = left.pop()
            if part == b"..":
                done = done[:-1]
                continue
            entry = self.find(b"/".join([*done, part]))
            if entry is None or entry.kind != SYMLINK or not (left or last):
                done.append(part)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise InvalidArgument("too many symbolic links")
            target = self.levels[entry.level].link(entry.key)
            if target.startswith(b"/"):
                done = []
            left += [step for step in target.split(b"/") if step not in (b"", b".")][::-1]
        return b"/".join(done)

    def blamed(self, entry: Seen) -> int:
        """The level that last touched an entry. A directory that is merely listed again, as it was, was not touched."""
        number = entry.level
        for lower, key in entry.members[1:]:
            if self.levels[number].status(self._key(entry, number))[:3] != self.levels[lower].status(key)[:3]:
                break
            number = lower
        return number

    def _key(self, entry: Seen, number: int) -> Key:
        return next(key for level, key in entry.members if level == number)
