"""blame: every entry of a stack with the layer that last touched it, as a tree for people or as JSON: a job for workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from lamina.errors import InvalidArgument
from lamina.explore.levels import DIRECTORY, SYMLINK, WHITEOUT, WORDS, Listed, open_levels
from lamina.explore.stack import Seen, Stack
from lamina.explore.wording import Sink, all_printable, printable, quoted
from lamina.layer.errors import PathNotFound
from lamina.linux.channel import encode
from lamina.spec.width import columns, padded, shortened
from lamina.worker import Report

TEXT_WIDTH = 36
"""How many characters of an instruction stand before each entry, unless it is to be whole."""

_TEE, _ELBOW, _PIPE, _BLANK = ("├── ".encode(), "└── ".encode(), "│   ".encode(), b"    ")
_MARKS = tuple({DIRECTORY: b"/", SYMLINK: b"@"}.get(kind, b"") + b"\n" for kind in range(8))
_NOT_LEAVES = frozenset((DIRECTORY, WHITEOUT))
_WORDS = tuple(word.encode() for word in WORDS)


class Form(Protocol):
    """How entries are written. A `prefix` is what a directory hands to what is in it."""

    def head(self, start: Seen, path: bytes, level: int) -> tuple[bytes, bytes]:
        """What comes before all entries, and the prefix of the first directory."""

    def entry(self, prefix: bytes, entry: Seen, level: int, *, last: bool) -> bytes:
        """One entry, the last of its directory or not."""

    def inside(self, prefix: bytes, name: bytes, *, last: bool) -> bytes:
        """The prefix in a directory."""

    def leaves(self, prefix: bytes, entries: Sequence[Listed], level: int) -> bytes:
        """A whole directory that one layer gives and that has no directories in it."""

    def foot(self) -> bytes:
        """What comes after all entries."""


def job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """`levels` as `levels.open_levels` takes them, `layers` (index, id, instruction) one a level; `path` as a user writes it.

    `form` is `text` or `json`, `depth` how many levels of directories are shown (0: all), `whole` leaves instructions uncut.
    """
    with ExitStack() as closing:
        stack = Stack(open_levels(params["levels"], closing))
        path, start = _meant(stack, params["path"].encode("utf-8", "surrogateescape"))
        if start is None and not path and not stack.levels:  # An image without layers has an empty root.
            os.write(fds[0], b'{"path":"/","layers":[],"entries":[]}\n' if params["form"] == "json" else b"")
            return {}
        if start is None:
            raise PathNotFound(f"no such path: {params['path'][:300]}")
        form = Json(params["layers"]) if params["form"] == "json" else Text(params["layers"], whole=params["whole"])
        sink = Sink(fds[0])
        write(stack, start, path, form, sink, params["depth"] or 1 << 30)
        sink.flush()
    return {}


def _meant(stack: Stack, path: bytes) -> tuple[bytes, Seen | None]:
    """What is at a path: of a symbolic link the directory that it leads to, whose entries are asked for, or else the link itself."""
    path = stack.resolve(path, last=False)
    entry = stack.find(path)
    if entry is not None and entry.kind == SYMLINK:
        with suppress(InvalidArgument):  # links that go round
            target = stack.resolve(path, last=True)
            found = stack.find(target)
            if found is not None and found.kind == DIRECTORY:
                return target, found
    return path, entry


def write(stack: Stack, start: Seen, path: bytes, form: Form, sink: Sink, depth: int) -> None:
    """Write `start`, which is at `path`, and what is below it down to `depth` directories: parents first, names in byte order."""
    head, prefix = form.head(start, path, stack.blamed(start))
    sink.write(head)
    frames: list[tuple[Sequence[Seen], int, bytes]] = [(stack.listing(start.members), 0, prefix)] if start.kind == DIRECTORY else []
    while frames:
        entries, at, prefix = frames.pop()
        count = len(entries)
        while at < count:
            entry = entries[at]
            at += 1
            if entry.kind != DIRECTORY:
                sink.write(form.entry(prefix, entry, entry.level, last=at == count))
                continue
            sink.write(form.entry(prefix, entry, stack.blamed(entry), last=at == count))
            if len(frames) + 1 < depth and not _write_leaves(
                stack, entry, form, sink, below := form.inside(prefix, entry.name, last=at == count)
            ):
                frames += [(entries, at, prefix), (stack.listing(entry.members), 0, below)]
                break
    sink.write(form.foot())


def _write_leaves(stack: Stack, entry: Seen, form: Form, sink: Sink, prefix: bytes) -> bool:
    """Write a directory at once where it is a simple one, as nearly all are; whether it was."""
    if len(entry.members) > 1:
        return False
    listed = stack.levels[entry.level].entries(entry.key)
    for _, _, kind in listed:
        if kind in _NOT_LEAVES:
            return False
    if listed:
        sink.write(form.leaves(prefix, listed, entry.level))
    return True


class Text:
    """See `Form`: a tree, each entry behind its layer's index and instruction."""

    def __init__(self, layers: Sequence[dict[str, Any]], *, whole: bool) -> None:
        texts = [printable(each["instruction"].encode("utf-8", "replace")).decode() for each in layers]
        digits, width = len(str(max(len(texts) - 1, 0))), max(map(columns, texts), default=0) if whole else TEXT_WIDTH
        self._gutters = [f"{at:>{digits}}  {padded(shortened(text, width), width)}  ".encode() for at, text in enumerate(texts)]

    def head(self, start: Seen, path: bytes, level: int) -> tuple[bytes, bytes]:
        """See `Form.head`."""
        mark = b"\n" if not path else _MARKS[start.kind]
        return self._gutters[level] + printable(b"/" + path) + mark, b""

    def entry(self, prefix: bytes, entry: Seen, level: int, *, last: bool) -> bytes:
        """See `Form.entry`."""
        return self._gutters[level] + prefix + (_ELBOW if last else _TEE) + printable(entry.name) + _MARKS[entry.kind]

    def inside(self, prefix: bytes, name: bytes, *, last: bool) -> bytes:
        """See `Form.inside`."""
        return prefix + (_BLANK if last else _PIPE)

    def leaves(self, prefix: bytes, entries: Sequence[Listed], level: int) -> bytes:
        """See `Form.leaves`."""
        if not all_printable(b" ".join([name for name, _, _ in entries])):
            entries = [(printable(name), key, kind) for name, key, kind in entries]
        before = self._gutters[level] + prefix
        tee, (name, _, kind) = before + _TEE, entries[-1]
        lines = [tee + name + _MARKS[kind] for name, _, kind in entries[:-1]]
        return b"".join([*lines, before + _ELBOW + name + _MARKS[kind]])

    def foot(self) -> bytes:
        """See `Form.foot`."""
        return b""


class Json:
    """See `Form`: one document, of `path`, `layers` and `entries` with `path`, `type` and `layer`, the layer's index."""

    def __init__(self, layers: Sequence[dict[str, Any]]) -> None:
        self._layers = layers
        self._tails = [[b',"type":"%b","layer":%d}' % (word, at) for word in _WORDS] for at in range(len(layers))]

    def head(self, start: Seen, path: bytes, level: int) -> tuple[bytes, bytes]:
        """See `Form.head`."""
        top = quoted(b"/" + path)
        document = b'{"path":%b,"layers":%b,"entries":[{"path":%b' % (top, encode(self._layers), top)
        return document + self._tails[level][start.kind], path + b"/" if path else b""

    def entry(self, prefix: bytes, entry: Seen, level: int, *, last: bool) -> bytes:
        """See `Form.entry`."""
        return b',{"path":' + quoted(b"/" + prefix + entry.name) + self._tails[level][entry.kind]

    def inside(self, prefix: bytes, name: bytes, *, last: bool) -> bytes:
        """See `Form.inside`."""
        return prefix + name + b"/"

    def leaves(self, prefix: bytes, entries: Sequence[Listed], level: int) -> bytes:
        """See `Form.leaves`."""
        before, tails = b"/" + prefix, self._tails[level]
        return b"".join([b',{"path":' + quoted(before + name) + tails[kind] for name, _, kind in entries])

    def foot(self) -> bytes:
        """See `Form.foot`."""
        return b"]}\n"
