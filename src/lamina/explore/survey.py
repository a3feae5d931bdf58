"""What each level of a stack does to those below it, and how much of it is hidden by those above: a job for workers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from lamina.explore.levels import DIRECTORY, FILE, Key, open_levels
from lamina.explore.stack import Members, Seen, Stack, uncollected
from lamina.linux.channel import encode, write_all
from lamina.worker import Report


@dataclass(slots=True)
class Survey:
    """One level. `added`, `modified` and `deleted` count entries; `size` and `hidden` are bytes in regular files, hard links once.

    A directory that is listed again with the same mode and owner is not modified. What a deleted directory held is deleted
    too. `hidden` is what is in the level and cannot be seen from the top of the stack.
    """

    added: int = 0
    modified: int = 0
    deleted: int = 0
    size: int = 0
    hidden: int = 0


def job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """`levels` as `levels.open_levels` takes them. Writes a JSON list of one Survey a level, base first."""
    with ExitStack() as closing:
        stack = Stack(open_levels(params["levels"], closing))
        with uncollected():
            found = surveyed(stack)
        write_all(fds[0], encode([asdict(each) for each in found]))
    return {}


def surveyed(stack: Stack) -> list[Survey]:
    """One Survey a level, base first."""
    found = [_changes(stack, number) for number in range(len(stack.levels))]
    for each, visible in zip(found, _visible_bytes(stack), strict=True):
        each.hidden = each.size - visible
    return found


def _visible_bytes(stack: Stack) -> list[int]:
    """Bytes of each level that can be seen from the top."""
    total = [0] * len(stack.levels)
    linked: set[tuple[int, Key]] = set()
    for visit in stack.walk(stack.root()):
        for _, kind, number, key, _ in visit.entries:
            if kind == FILE:
                size, links = stack.levels[number].size(key)
                if links > 1:
                    if (number, key) in linked:
                        continue
                    linked.add((number, key))
                total[number] += size
    return total


def _changes(stack: Stack, number: int) -> Survey:
    """What one level does to those below it."""
    found = Survey()
    level = stack.levels[number]
    linked: set[Key] = set()
    below = stack.root(number)
    waiting: list[tuple[Key, Members, bool]] = [(level.root, below, level.opaque(level.root))]
    while waiting:
        key, below, opaque = waiting.pop()
        old = {entry.name: entry for entry in stack.listing(below)} if below else {}
        for name, own, kind in level.entries(key):
            before = old.pop(name, None)
            if kind == DIRECTORY:
                merged = before.members if before is not None else ()
                waiting.append((own, merged, bool(merged) and (opaque or level.opaque(own))))
            elif kind == FILE:
                size, links = level.size(own)
                if links < 2 or own not in linked:
                    found.size += size
                if links > 1:
                    linked.add(own)
            _count(stack, found, before, kind, touched=before is None or _differs(stack, number, own, kind, before))
        if opaque:
            found.deleted += sum(_entries(stack, entry) for entry in old.values())
    return found


def _count(stack: Stack, found: Survey, before: Seen | None, kind: int, *, touched: bool) -> None:
    """Count what an entry of this kind does where `before` was."""
    if before is None:
        found.added += bool(kind)
        return
    if not kind:
        found.deleted += _entries(stack, before)
    elif touched:
        found.modified += 1
        if kind != DIRECTORY and before.kind == DIRECTORY:
            found.deleted += _entries(stack, before) - 1


def _differs(stack: Stack, number: int, key: Key, kind: int, before: Seen) -> bool:
    """Whether an entry is another one than before: only a directory may be the same again."""
    if kind != DIRECTORY or before.kind != DIRECTORY:
        return True
    return stack.levels[number].status(key)[:3] != stack.levels[before.level].status(before.key)[:3]


def _entries(stack: Stack, entry: Seen) -> int:
    """An entry and all below it."""
    return 1 + sum(len(visit.entries) for visit in stack.walk(entry.members)) if entry.kind == DIRECTORY else 1
