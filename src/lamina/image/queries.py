"""Questions about what is inside an image, answered from the layers' metadata images; nothing is mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO

from lamina.errors import InvalidArgument
from lamina.image.layers import Layers
from lamina.image.model import Image, LayerFacts, PathNotFound
from lamina.image.paths import clean, follow
from lamina.image.reading import content, opened
from lamina.image.telling import told
from lamina.layer.index import Entry
from lamina.layer.union import Touch, Union


@dataclass(frozen=True, slots=True)
class Holder:
    """A layer of an image that has something to say about a path. `index` counts from the base, 0; `entry` is its own version."""

    index: int
    facts: LayerFacts
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path comes from. `path` is absolute, with the links on the way followed; `entry` and `layer` are None where
    nothing is there. `older` are layers whose version is hidden, top first; `deleted_by` hid it in the end."""

    path: str
    entry: Entry | None
    layer: Holder | None
    older: tuple[Holder, ...]
    deleted_by: Holder | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """One line of `ls`. `mtime_ns` is nanoseconds since 1970, `layer` the index of the layer it comes from."""

    name: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: str
    layer: int


def which(layers: Layers, image: Image, path: str) -> Found:
    """See `Images.which`. Links in the directories on the way are followed, one at the end is not."""
    with ExitStack() as stack:
        holders, union = _opened(layers, image, stack)
        wanted = follow(union, clean(path), last=False)
        found, touches = union.lookup(wanted), union.history(wanted)
        if found is None and not _given(touches) and _given(former := union.history(clean(path))):
            wanted, touches = clean(path), former  # a link lies now where the directory was that had it
        merged = frozenset(union.merged(wanted))
    shown = "/" + os.fsdecode(wanted)
    versions = [replace(holders[touch.level], entry=touch.entry) for touch in touches if touch.entry is not None]
    if found is None:
        return Found(shown, None, None, tuple(versions), holders[touches[0].level] if versions else None)
    own, *older = versions or [replace(holders[found[0]], entry=found[1])]
    # A directory that is merely listed again, as it was, was not touched there; one that hides the older one is another.
    while older and own.entry and older[0].entry and older[0].index in merged and _shape(own.entry) == _shape(older[0].entry):
        own, *older = older
    return Found(shown, found[1], own, tuple(older), None)


def _given(touches: Sequence[Touch]) -> bool:
    """Whether any layer has the path, seen or hidden."""
    return any(touch.entry is not None for touch in touches)


def _shape(entry: Entry) -> tuple[int, int, int]:
    return entry.mode, entry.uid, entry.gid


def ls(layers: Layers, image: Image, path: str) -> list[FileRow]:
    """See `Images.ls`."""
    with ExitStack() as stack:
        _, union = _opened(layers, image, stack)
        wanted = follow(union, clean(path), last=True)
        if not wanted and not image.layers:
            return []
        found = _lookup(union, wanted, path)
        if not found[1].directory:
            return [_row(*found)]
        return sorted((_row(level, entry) for level, entry in union.listdir(wanted)), key=lambda row: row.name)


def cat(layers: Layers, image: Image, path: str) -> tuple[int, Iterator[bytes]]:
    """See `Images.cat`."""
    with ExitStack() as stack:
        holders, union = _opened(layers, image, stack)
        wanted = follow(union, clean(path), last=True)
        level, entry = _lookup(union, wanted, path)
        if entry.type != "file":
            raise InvalidArgument(f"{path[:300]} is not a regular file, but a {entry.type}")
        return entry.size, content(layers, holders[level].facts, entry)


def open_file(layers: Layers, image: Image, path: str) -> BinaryIO:
    """See `Images.open_file`."""
    with ExitStack() as stack:
        holders, union = _opened(layers, image, stack)
        wanted = follow(union, clean(path), last=True)
        level, entry = _lookup(union, wanted, path)
        if entry.type != "file":
            raise InvalidArgument(f"{path[:300]} is not a regular file, but a {entry.type}")
        return opened(layers, holders[level].facts, entry)


def _opened(layers: Layers, image: Image, stack: ExitStack) -> tuple[list[Holder], Union]:
    chain = layers.chain(image.layers[-1]) if image.layers else ()
    union = stack.enter_context(layers.union(image.layers[-1] if image.layers else None))
    return [Holder(number, facts) for number, facts in enumerate(told(image, chain))], union


def _lookup(union: Union, wanted: bytes, path: str) -> tuple[int, Entry]:
    found = union.lookup(wanted)
    if found is None:
        raise PathNotFound(f"no such path in the image: {path[:300]}")
    return found


def _row(level: int, entry: Entry) -> FileRow:
    return FileRow(
        name=os.fsdecode(entry.path.rpartition(b"/")[2]),
        type=entry.type,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        mtime_ns=entry.mtime_ns,
        target=os.fsdecode(entry.link),
        layer=level,
    )
