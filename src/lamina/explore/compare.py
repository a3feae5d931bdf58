"""How two stacks differ: paths, metadata and contents. Directories made of the same layers are not entered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from lamina.explore.levels import BLOCK, CHARACTER, DIRECTORY, FILE, SYMLINK, Key, Status
from lamina.explore.stack import Members, Seen, Stack

_AT_ONCE = 16 << 20


@dataclass(frozen=True, slots=True)
class Side:
    """What one stack has at a path."""

    stack: Stack
    entry: Seen
    path: bytes
    status: Status
    target: bytes = b""

    @classmethod
    def of(cls, stack: Stack, entry: Seen, path: bytes) -> Side:
        """Read what is compared of an entry."""
        level = stack.levels[entry.level]
        target = level.link(entry.key) if entry.kind == SYMLINK else b""
        return cls(stack, entry, path, level.status(entry.key), target)

    @property
    def size(self) -> int:
        """Bytes of a regular file."""
        return self.status[3]

    def content(self, limit: int) -> bytes:
        """The first `limit` bytes of a regular file."""
        return self.stack.levels[self.entry.level].content(self.entry.key, self.path, limit)


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs: `kind` is A (only in b), D (only in a) or M. `what` differs: type, content, target, device, mode, owner,
    attributes (extended ones) or time."""

    path: bytes
    kind: str
    a: Side | None
    b: Side | None
    what: tuple[str, ...] = ()


def differences(a: Stack, b: Stack, path: bytes = b"") -> Iterator[Change]:
    """What differs from a to b at `path` and below, parents first, names in byte order."""
    old, new = a.find(path), b.find(path)
    pending = [(path, old, new)]
    while pending:
        path, old, new = pending.pop()
        if old is None and new is None:
            continue
        change = _change(a, b, path, old, new)
        if change is not None and path:
            yield change
        mine, theirs = _members(old), _members(new)
        if not (mine or theirs) or _identity(a, mine) == _identity(b, theirs):
            continue
        prefix = path + b"/" if path else b""
        left = {entry.name: entry for entry in a.listing(mine)} if mine else {}
        right = {entry.name: entry for entry in b.listing(theirs)} if theirs else {}
        pending += [(prefix + name, left.get(name), right.get(name)) for name in sorted(left.keys() | right.keys(), reverse=True)]


def _members(entry: Seen | None) -> Members:
    return entry.members if entry is not None and entry.kind == DIRECTORY else ()


def _identity(stack: Stack, members: Members) -> tuple[tuple[str, Key], ...]:
    """Equal ones hold the same, whatever stack they are seen in; a container's own level is like no other."""
    return tuple((stack.levels[number].name, key) for number, key in members)


def _change(a: Stack, b: Stack, path: bytes, old: Seen | None, new: Seen | None) -> Change | None:
    if old is None or new is None:
        before, after = (Side.of(a, old, path) if old else None), (Side.of(b, new, path) if new else None)
        return Change(path, "A" if before is None else "D", before, after)
    if a.levels[old.level].name == b.levels[new.level].name and old.key == new.key:
        return None
    before, after = Side.of(a, old, path), Side.of(b, new, path)
    what = tuple(_what(before, after))
    return Change(path, "M", before, after, what) if what else None


def _what(old: Side, new: Side) -> Iterator[str]:
    """What of an entry that both have differs, in the order of `Change.what`."""
    kind = old.entry.kind
    if kind != new.entry.kind:
        yield "type"
    elif kind == FILE and _content_differs(old, new):
        yield "content"
    elif old.target != new.target:
        yield "target"
    devices, attributes = zip(_more(old), _more(new), strict=True)
    if kind == new.entry.kind and kind in (CHARACTER, BLOCK) and devices[0] != devices[1]:
        yield "device"
    if kind != SYMLINK and old.status[0] & 0o7777 != new.status[0] & 0o7777:
        yield "mode"
    if old.status[1:3] != new.status[1:3]:
        yield "owner"
    if attributes[0] != attributes[1]:
        yield "attributes"
    # A directory's time changes with what is in it, and says nothing.
    if DIRECTORY not in (kind, new.entry.kind) and old.status[4] != new.status[4]:
        yield "time"


def _more(side: Side) -> tuple[tuple[int, int], tuple[tuple[bytes, bytes], ...]]:
    device, attributes = side.stack.levels[side.entry.level].more(side.entry.key)
    return device, tuple(sorted(attributes))


def _content_differs(old: Side, new: Side) -> bool:
    size = old.size
    if size != new.size:
        return True
    if not size:
        return False
    if size <= _AT_ONCE:
        return old.content(size) != new.content(size)
    return _digest(old) != _digest(new)


def _digest(side: Side) -> bytes:
    digest = hashlib.sha256()
    for piece in side.stack.levels[side.entry.level].pieces(side.entry.key, side.path):
        digest.update(piece)
    return digest.digest()
