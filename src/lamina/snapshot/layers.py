"""The files that every driver keeps for a layer below `layers/`, and the jobs that make them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lamina.content.files import move
from lamina.layer.contextual import patched
from lamina.layer.index import LayerIndex
from lamina.layer.staged import Staged, TarSource
from lamina.layer.sums import SUFFIX as SUMS
from lamina.layer.tree import Limits
from lamina.linux.removing import remove_path
from lamina.snapshot.protocol import Change, LayerNotFound, Progress
from lamina.worker.workers import Workers

IMAGE_SUFFIX = ".erofs"
SKELETON_SUFFIX = ".skeleton"
_REMOVING = ".removing"


class LayerFiles:
    """`<name>.erofs`, the metadata image, and where the driver extracts layers `<name>/`, the tree. The image gets its name last."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._opaque: dict[str, bool] = {}
        os.makedirs(directory, exist_ok=True)

    def path(self, name: str) -> str:
        """Where the image is, whether it exists or not."""
        return os.path.join(self._directory, name + IMAGE_SUFFIX)

    def tree(self, name: str) -> str:
        """Where the tree is, whether it exists or not."""
        return os.path.join(self._directory, name)

    def index(self, name: str) -> str:
        """See `Snapshotter.index`."""
        path = self.path(name)
        if not os.path.isfile(path):
            raise LayerNotFound(f"no such layer: {name}")
        return path

    def exists(self, name: str) -> bool:
        """See `Snapshotter.exists`."""
        return os.path.isfile(self.path(name))

    def names(self) -> list[str]:
        """See `Snapshotter.names`."""
        return sorted(entry[: -len(IMAGE_SUFFIX)] for entry in os.listdir(self._directory) if entry.endswith(IMAGE_SUFFIX))

    def publish(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """Rename a staged layer into place; implied directories take after the indexes `below` (base first)."""
        self.dress(staged, below)
        if staged.tree:
            remove_path(self.sums(name))
            remove_path(self.tree(name))
            os.rename(staged.tree, self.tree(name))
        if staged.skeleton:
            move(staged.skeleton, self.skeleton(name))
        move(staged.metadata, self.path(name))

    def dress(self, staged: Staged, below: Sequence[str]) -> None:
        """Let implied directories of a staged layer take after the indexes `below` (base first)."""
        if staged.implied:
            patched(staged.metadata, staged.implied, below, staged.tree)

    def skeleton(self, name: str) -> str:
        """Where the skeleton of a tree's tar is, whether it exists or not."""
        return os.path.join(self._directory, name + SKELETON_SUFFIX)

    def sums(self, name: str) -> str:
        """Where the digests of a tree's files are, whether they exist or not."""
        return os.path.join(self._directory, name + SUMS)

    def discard(self, staged: Staged) -> None:
        """See `Snapshotter.discard`."""
        for path in staged.paths:
            remove_path(path)

    def visible(self, names: Sequence[str]) -> list[str]:
        """The layers (base first) that can be seen from the top, top first: nothing below one whose root is opaque, and each layer once.

        Overlayfs does not look at the root's mark itself, and takes no layer twice (ELOOP). Of one that comes twice the upper is all that
        can be seen: it has every entry of the lower one.
        """
        found: list[str] = []
        for name in reversed(names):
            if name in found:
                continue
            found.append(name)
            if self._root_opaque(name):
                break
        return found

    def _root_opaque(self, name: str) -> bool:
        known = self._opaque.get(name)
        if known is None:
            with LayerIndex.open(self.index(name), name) as index:
                root = index.lookup(b"")
            known = self._opaque[name] = root is not None and root.opaque
        return known

    def remove(self, name: str, remover: Callable[[str], None] = remove_path) -> None:
        """Delete a layer's files; `remover` deletes the tree, which is out of the way first."""
        self._opaque.pop(name, None)
        remove_path(self.path(name))
        remove_path(self.sums(name))
        remove_path(self.skeleton(name))
        tree = self.tree(name)
        if os.path.isdir(tree):
            # A name of its own: the same layer may come back and go again while the first tree is still being deleted.
            aside = f"{tree}.{os.urandom(4).hex()}{_REMOVING}"
            os.rename(tree, aside)
            remover(aside)

    def sweep(self) -> None:
        """See `Snapshotter.sweep`: also trees whose image is missing."""
        for entry in os.listdir(self._directory):
            path = os.path.join(self._directory, entry)
            alone = os.path.isdir(path) and not os.path.exists(self.path(entry))
            beside = entry.removesuffix(SUMS).removesuffix(SKELETON_SUFFIX)
            if entry.endswith(_REMOVING) or alone or (beside != entry and not os.path.exists(self.path(beside))):
                remove_path(path)


def run_stage(
    workers: Workers, job: str, source: TarSource, scratch: str, limits: Limits, progress: Progress | None, more: Mapping[str, object] = {}
) -> Staged:
    """Run a staging job (of `layer.jobs`, or its namesake of `snapshot.arriving` where the source is lent) on a source in a worker."""
    lent = source.lent
    params = {
        "offset": source.offset,
        "length": source.length,
        "compression": source.compression,
        "verified": source.verified,
        "scratch": scratch,
        "limits": asdict(limits),
        **more,
    }
    if lent is None:
        return run_staging(workers, f"lamina.layer.jobs:{job}", params, [source.fd], progress)
    return run_staging(workers, f"lamina.snapshot.arriving:{job}", {**params, **lent.lend()}, [source.fd], progress, lent.take_back)


def run_stage_upper(
    workers: Workers,
    more: Mapping[str, object],
    upper: str,
    indexes: Sequence[str],
    scratch: str,
    limits: Limits,
    progress: Progress | None,
    over: Sequence[str] = (),
) -> Staged:
    """Run the job that makes a layer of an upper directory."""
    params = {"upper": upper, "over": list(over), "below": list(indexes), "scratch": scratch, "limits": asdict(limits), **more}
    return run_staging(workers, "lamina.layer.jobs:stage_upper", params, [], progress)


def run_staging(
    workers: Workers,
    job: str,
    params: Mapping[str, object],
    fds: Sequence[int],
    progress: Progress | None,
    other: Callable[[dict[str, Any]], None] | None = None,
) -> Staged:
    """Run a job that answers a staged layer; `progress` hears of the bytes it has done, `other` of all else."""

    def told(update: dict[str, Any]) -> None:
        if "bytes" not in update:
            assert other is not None
            other(update)
        elif progress is not None:
            progress(int(update["bytes"]))

    return Staged.decode(workers.run(job, params, fds, told))


def run_changes(workers: Workers, job: str, params: Mapping[str, object]) -> list[Change]:
    """Run a job that reports changes, see `layer.jobs.tell`."""
    found: list[Change] = []
    workers.run(job, params, (), lambda update: found.extend((path, kind) for path, kind in update["changes"]))
    return found
