"""--squash: one layer of all that a build added to its base."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

from lamina.builder.context import Heartbeat
from lamina.builder.files import Item
from lamina.builder.layerfiles import LayerFiles, opened_layers
from lamina.builder.placement import write_entry
from lamina.builder.site import Site
from lamina.builder.state import State
from lamina.dockerfile import ast
from lamina.image.model import Image
from lamina.layer.index import LayerIndex
from lamina.layer.union import Union
from lamina.spec.config import History, ImageConfig, RootFS
from lamina.spec.whiteout import whiteout
from lamina.worker.workers import Report


def squashed(site: Site, state: State) -> Image:
    """The image of `state` with one layer above its base; itself where the build added no layer.

    The configuration says of each step what it did, as before, and of the last one that it merged them, as dockerd has it.
    """
    image = state.image
    assert image is not None
    if len(state.layers) <= len(state.base):
        return image
    instruction = ast.Label(pairs=(), text="squash")
    with site.engine.layers.staging() as scratch:
        path = os.path.join(scratch, "layer.tar")
        params = {"files": site.files_of(state.top), "below": len(state.base), "path": path}
        written = site.job("squashing:squash_job", params)
        below = State(None, state.config, state.base)
        layers = list(state.base)
        if written["entries"]:
            layers.append(site.register(path, below, instruction, "", scratch))
    base = state.base_image
    config = _config(site, state.config, image, base, [str(layer.diff_id) for layer in layers])
    return site.engine.images.create(config, layers, parent=base.id if base else None)


def _config(site: Site, config: ImageConfig, image: Image, base: Image | None, diff_ids: Sequence[str]) -> ImageConfig:
    below = len(base.config.history) if base else 0
    steps = [msgspec.structs.replace(entry, empty_layer=True) for entry in config.history[below:]]
    comment = f"merge {image.id} to {base.id}" if base else f"create new from {image.id}"
    merged = History(created=site.created(), comment=comment)
    history = (*config.history[:below], *steps, merged)
    return msgspec.structs.replace(config, created=site.created(), rootfs=RootFS(diff_ids=tuple(diff_ids)), history=history)


def squash_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: write to `path` the layer that, put on the first `below` layers of `files`, shows what all of them show."""
    beat, below = Heartbeat(report), params["below"]
    with ExitStack() as stack:
        files = stack.enter_context(opened_layers(params["files"]))
        first: dict[object, bytes] = {}
        count = 0
        with open(params["path"], "wb") as out:
            for path, item in entries(files.union, below):
                beat()
                write_entry(out, path, item, files if item.is_file and item.source else None, path, first)
                count += 1
            out.write(bytes(1024))
    return {"entries": count}


def entries(union: Union, below: int) -> Iterator[tuple[bytes, Item]]:
    """What the layers from number `below` on come to, in path order: what they show, and marks for what they hide of those below."""
    base = Union(union.layers[:below])
    found: dict[bytes, Item] = {}
    files = LayerFiles(union, ())
    for path in sorted({path for index in union.layers[below:] for path in _touched(index)}):
        item = files.lookup(path)
        if item is not None:
            if item.source is not None and item.source[0] >= below:  # type: ignore[index]
                found[path] = item
            if item.is_directory:
                found |= dict.fromkeys(_hidden(union, base, path), _MARK)
        elif base.lookup(path) is not None and union.lookup(path.rpartition(b"/")[0]) is not None:
            found[_mark(path)] = _MARK
    yield from sorted(found.items())


_MARK = Item(stat.S_IFREG)


def _touched(index: LayerIndex) -> Iterator[bytes]:
    return (entry.path for entry in index.walk() if entry.path)


def _hidden(union: Union, base: Union, path: bytes) -> Iterator[bytes]:
    """Marks for what a directory below has and this one, opaque perhaps, does not."""
    hit = base.lookup(path)
    if hit is None or not hit[1].directory:
        return
    for _, entry in base.listdir(path):
        if union.lookup(entry.path) is None:
            yield _mark(entry.path)


def _mark(path: bytes) -> bytes:
    head, slash, name = path.rpartition(b"/")
    return head + slash + whiteout(name)
