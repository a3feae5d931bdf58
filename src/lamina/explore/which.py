"""Which level of a stack gave a path, which older versions it hides, or what deleted it: a job for workers, where one level was written
to by a container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from lamina.explore.levels import DIRECTORY, WHITEOUT, WORDS, Key, Level, open_levels
from lamina.explore.stack import Seen, Stack
from lamina.linux.channel import encode, write_all
from lamina.worker import Report


def job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """`levels` as `levels.open_levels` takes them, and a clean `path` (links on the way are followed, one at the end is not).

    Writes a JSON object: `path`; `versions`, top first, of the levels that have it: `level`, `type`, `size`, `mode`; `found`, whether the
    first of them is seen; `deleted_by`, the level that hides them all, -1 where none does.
    """
    with ExitStack() as closing:
        stack = Stack(open_levels(params["levels"], closing))
        asked = params["path"].encode(errors="surrogateescape")
        path = stack.resolve(asked, last=False)
        seen = stack.find(path)
        versions = list(_versions(stack, path))
        if not seen and not versions and (former := list(_versions(stack, asked))):
            path, versions = asked, former  # a link lies now where the directory was that had it
        answer = {
            "path": "/" + path.decode(errors="surrogateescape"),
            "found": seen is not None,
            "versions": _untouched_left_out(stack, seen, versions),
            "deleted_by": -1 if seen or not versions else _deleter(stack, path),
        }
        write_all(fds[0], encode(answer))
    return {}


def _versions(stack: Stack, path: bytes) -> Iterator[dict[str, Any]]:
    for number in range(len(stack.levels))[::-1]:
        level = stack.levels[number]
        own = _own(level, path)
        if own is not None and own[1] != WHITEOUT:
            mode, _, _, size, _, _ = level.status(own[0])
            yield {"level": number, "type": WORDS[own[1]], "size": size, "mode": mode}


def _untouched_left_out(stack: Stack, seen: Seen | None, versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A directory that is merely listed again, as it was, was not touched there."""
    if seen is None or seen.kind != DIRECTORY:
        return versions
    return [each for each in versions if each["level"] <= stack.blamed(seen)]


def _own(level: Level, path: bytes) -> tuple[Key, int] | None:
    """A level's own entry at a path: key and kind."""
    key, kind = level.root, DIRECTORY
    for name in path.split(b"/") if path else ():
        if kind != DIRECTORY:
            return None
        found = next((each for each in level.entries(key) if each[0] == name), None)
        if found is None:
            return None
        _, key, kind = found
    return key, kind


def _deleter(stack: Stack, path: bytes) -> int:
    """The topmost level that hides a path or a directory that it was in."""
    parts = path.split(b"/")
    for number in range(len(stack.levels))[::-1]:
        level = stack.levels[number]
        for end in range(1, len(parts) + 1):
            own = _own(level, b"/".join(parts[:end]))
            if own is None:
                break
            if own[1] != DIRECTORY or (end < len(parts) and level.opaque(own[0])):
                return number
    return -1
