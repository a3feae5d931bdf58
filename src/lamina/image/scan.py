"""A job for workers that loops over all entries of images: how two of them differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lamina.layer.index import Entry, LayerIndex
from lamina.layer.union import Union
from lamina.worker import Report


def difference(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """What differs between the stacks `a` and `b` (metadata images, base first): rows of path, kind and both sides."""
    with ExitStack() as stack:
        a, b = (_entries(paths, stack) for paths in (params["a"], params["b"]))
    rows: list[list[Any]] = []
    gone: bytes | None = None
    for path in sorted(a.keys() | b.keys()):
        if a.get(path) == b.get(path):
            continue
        if path not in b:
            # What is below a directory that went is not listed again.
            if gone is not None and path.startswith(gone + b"/"):
                continue
            gone = path
        kind = "A" if path not in a else "D" if path not in b else "M"
        rows.append(["/" + os.fsdecode(path), kind, a.get(path), b.get(path)])
    return {"changes": rows}


def _entries(paths: Sequence[str], stack: ExitStack) -> dict[bytes, list[Any]]:
    union = Union([stack.enter_context(LayerIndex.open(path)) for path in paths])
    return {entry.path: _side(entry) for _, entry in union.walk()}


def _side(entry: Entry) -> list[Any]:
    """What is compared; a directory's time changes with what is in it, and says nothing."""
    mtime = 0 if entry.directory else entry.mtime_ns
    return [entry.type, entry.mode, entry.uid, entry.gid, entry.size, mtime, os.fsdecode(entry.link)]
