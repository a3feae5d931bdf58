"""What runs in workers: staging a layer, and removing a tree. Parameters and answers are JSON values.

Each takes the source's descriptor as the only one, and reports `{"bytes": consumed}`.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from lamina.layer.apply import Applied, Scratch, ZstdCopy, apply, disk_errors
from lamina.layer.contents import Contents, Files
from lamina.layer.diff import Change, changes, upper_tar
from lamina.layer.erofs.writer import ReadTar, write
from lamina.layer.errors import LayerDamaged
from lamina.layer.extract import extract
from lamina.layer.skeleton import SkeletonWriter, rebuilt
from lamina.layer.staged import Staged, StagedBlob, TarSource
from lamina.layer.stream import Behind, Inflated, ahead, chunks
from lamina.layer.tree import Limits
from lamina.layer.union import Union
from lamina.layer.upper import walk_uppers
from lamina.linux.diskusage import bytes_on_disk
from lamina.linux.fileflags import mark_top_directory
from lamina.linux.holes import HollowWriter
from lamina.linux.removing import remove_path
from lamina.linux.scheduling import WhatIsLeft
from lamina.linux.uncached import UncachedWriter
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.mediatype import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

Reporter = Callable[[dict[str, Any]], None]
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORT_STEP = 1 << 22
_PART, _PAIR = 1 << 20, 16


def stage_erofs(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:
    """Stage a layer whose tar is kept as it is, with a metadata image beside it. See `Snapshotter.stage`."""
    return stage_incoming(params, chunks(_source(params, fds[0])), report)


def stage_incoming(
    params: dict[str, Any], incoming: Iterator[bytes], report: Reporter, interrupt: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """As `stage_erofs`, or with `extract` as `stage_overlay`, of bytes that come; for `interrupt` see `ahead`."""
    with WhatIsLeft():
        inflated = Inflated(_source(params, -1), incoming, _reporter(report), _limits(params).tar_size)
        return staged(params, inflated, lambda: _compressed(inflated), interrupt).encode()


def stage_overlay(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:
    """Stage a layer as an extracted tree with its index and its skeleton; `copy`: and a zstd copy of the tar. See `Snapshotter.stage`."""
    return stage_erofs({**params, "extract": True}, fds, report)


def stage_upper(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Stage what the directory `upper`, on those in `over` (top first), changed on the layers whose indexes are `below`, base first.

    `uncached`: large files will hardly be read soon.
    """
    with Union.open(params["below"]) as union:
        tar = upper_tar(params["upper"], union, params.get("over", ()))
        return staged(params, counted(tar, report), lambda: None).encode()


def copy_tree(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """A zstd copy, below `scratch`, of the tar that the files `skeleton` and `tree` are together: `path`, `digest`, `size`.

    Raises:
        LayerDamaged: it is not `diff_id`; nothing is left.
    """
    scratch, digest = Scratch(params["scratch"]), hashlib.sha256()
    kept: tuple[str, ...] = ()
    try:
        with WhatIsLeft(), disk_errors(params["scratch"]):
            fd, path = scratch.file("zstd")
            copy = ZstdCopy(fd)
            with Behind(digest.update) as hashing:
                for piece in rebuilt(params["skeleton"], params["tree"], params["name"]):
                    hashing.put(piece)
                    copy.write(piece)
            made = copy.finish()
        if f"sha256:{digest.hexdigest()}" != params["diff_id"]:
            raise LayerDamaged(f"layer {params['name']} is damaged: a file in its tree is not what was written")
        kept = (path,)
        return {"path": path, "digest": f"sha256:{made.digest}", "size": made.size}
    finally:
        scratch.close(remove_path, keep=kept)


def upper_changes(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Report what the directory `upper` changes, see `tell`; its other parameters are `stage_upper`'s."""
    with Union.open(params["below"]) as union:
        return tell(changes(params["upper"], union, params.get("over", ())), report)


def upper_written(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Bytes on disk of what is in the directory `upper`, each inode once."""
    return {"bytes": sum({found.status.st_ino: found.status.st_blocks * 512 for found in walk_uppers([params["upper"]])}.values())}


def tell(found: Iterable[Change], report: Reporter) -> dict[str, Any]:
    """Report changes, pairs of path and kind, in the order of their paths: a part at a time, since there may be millions. The answer is
    empty."""
    part: list[tuple[str, str]] = []
    size = 0
    for path, kind in sorted((path.decode(errors="surrogateescape"), kind) for path, kind in found):
        part.append((path, kind))
        size += len(path) + _PAIR
        if size >= _PART:
            report({"changes": part})
            part, size = [], 0
    if part:
        report({"changes": part})
    return {}


def counted(chunks: Iterable[bytes], report: Reporter) -> Iterator[bytes]:
    """The same chunks; their bytes are reported."""
    step, done = _reporter(report), 0
    for chunk in chunks:
        done += len(chunk)
        step(done)
        yield chunk


def staged(
    params: dict[str, Any],
    incoming: Iterable[bytes],
    compressed: Callable[[], Descriptor | None],
    interrupt: Callable[[], object] = lambda: None,
) -> Staged:
    """Stage the tar that comes in: `extract`: as a tree and a skeleton, with `copy` also as a zstd copy; else as itself.

    `compressed` is asked when all has come; for `interrupt` see `ahead`.

    Raises:
        InvalidArchive, Exhausted: nothing is left below `scratch`.
    """
    scratch = Scratch(params["scratch"])
    keep: tuple[str, ...] = ()
    # The tree is garbage free of cycles; collecting would look at all of it again and again.
    gc.disable()
    try:
        with disk_errors(params["scratch"]), closing(ahead(incoming, interrupt)) as pieces:
            made = replace((_as_tree if params.get("extract") else _as_tar)(params, scratch, pieces), compressed=compressed())
        keep = made.paths
        return made
    finally:
        gc.enable()
        scratch.close(remove_path, keep=keep)


def _as_tar(params: dict[str, Any], scratch: Scratch, incoming: Iterable[bytes]) -> Staged:
    fd, path = scratch.file("tar")
    file = UncachedWriter(fd) if params.get("uncached") else HollowWriter(fd)
    applied = apply(incoming, _limits(params), keep=file.write)
    file.finish()
    blob = StagedBlob(path, Digest("sha256", applied.diff_id), applied.tar_size, OCI_LAYER)
    return replace(_described(scratch, applied, lambda offset, length: os.pread(fd, length, offset)), blobs=(blob,))


def _as_tree(params: dict[str, Any], scratch: Scratch, incoming: Iterable[bytes]) -> Staged:
    mark_top_directory(scratch.path)
    skeleton_fd, skeleton = scratch.file("skeleton")
    zstd_fd, zstd = scratch.file("zstd") if params.get("copy") else (-1, "")
    copy = ZstdCopy(zstd_fd) if zstd else None
    with closing(Files(scratch.directory("contents"), uncached=params.get("uncached", False))) as files:
        contents = Contents(files, SkeletonWriter(skeleton_fd))
        applied = apply(incoming, _limits(params), contents=contents, copy=copy)
        made = _described(scratch, applied, contents.read)
        tree = scratch.directory("tree")
        extract(applied.tree.root, files.directory, tree)
    blobs: tuple[StagedBlob, ...] = ()
    if copy is not None:
        copied = copy.finish()
        blobs = (StagedBlob(zstd, Digest("sha256", copied.digest), copied.size, OCI_LAYER_ZSTD),)
    return replace(made, tree=tree, skeleton=skeleton, blobs=blobs)


def _described(scratch: Scratch, applied: Applied, read_tar: ReadTar) -> Staged:
    """Write the metadata image, and say what it is of."""
    image = write(applied.tree, applied.diff_id, applied.tar_size, read_tar)
    fd, path = scratch.file("metadata")
    with open(fd, "wb", closefd=False) as file:
        file.write(image.data)
    return Staged(
        Digest("sha256", applied.diff_id),
        applied.tar_size,
        None,
        (),
        path,
        None,
        None,
        image.implied,
        applied.tree.entries,
        image.content_size,
        applied.crc32,
    )


def _compressed(inflated: Inflated) -> Descriptor | None:
    if not inflated.digest:
        return None
    media_type = OCI_LAYER_GZIP if inflated.compression == "gzip" else OCI_LAYER_ZSTD
    return Descriptor(media_type, Digest("sha256", inflated.digest), inflated.size)


def _source(params: dict[str, Any], fd: int) -> TarSource:
    return TarSource(fd, params.get("offset", 0), params.get("length"), params.get("compression"), verified=params.get("verified", False))


def _limits(params: dict[str, Any]) -> Limits:
    return Limits(**params.get("limits", {}))


def _reporter(report: Reporter) -> Callable[[int], None]:
    """Reports of every few megabytes only."""
    reported = 0

    def step(done: int) -> None:
        nonlocal reported
        if done - reported >= _REPORT_STEP:
            reported = done
            report({"bytes": done})

    return step


def remove_tree(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Delete the directory `path`."""
    remove_path(params["path"])
    return {}


def tree_usage(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:
    """Bytes that a tree takes on disk, its directories too, each inode once; 0 where there is none."""
    del fds, report
    try:
        return {"bytes": bytes_on_disk(params["path"])}
    except (FileNotFoundError, NotADirectoryError):
        return {"bytes": 0}
