"""Layers extracted into directories, as two drivers keep them.

The metadata image is written all the same: it is the index that `which`, `ls` and `diff` read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from lamina.content.files import disk_bytes, move
from lamina.errors import LaminaError
from lamina.layer.erofs.reader import check_all, read_superblock
from lamina.layer.errors import LayerDamaged
from lamina.layer.index import LayerIndex
from lamina.layer.staged import Staged, StagedBlob, TarSource
from lamina.layer.tree import Limits
from lamina.layer.treecheck import problem
from lamina.linux.removing import remove_path
from lamina.snapshot.layers import LayerFiles, run_stage, run_stage_upper
from lamina.snapshot.merging import Depth, MergedStacks
from lamina.snapshot.protocol import Lower, Progress, Rebuilt
from lamina.spec.digest import Digest
from lamina.spec.mediatype import OCI_LAYER_ZSTD
from lamina.worker.workers import Workers

_SHARD = 2000
"""Above this many inodes a tree is looked at by several workers."""


class Trees:
    """The part of a driver that is about trees. See `protocol.Snapshotter`."""

    def __init__(self, root: str, workers: Workers, limits: Limits | None = None, depth: Depth | None = None) -> None:
        self._files = LayerFiles(os.path.join(root, "layers"))
        self._stacks = MergedStacks(root, "", depth)
        self._workers, self._limits = workers, limits or Limits()
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def stage(self, source: TarSource, scratch: str, progress: Progress | None = None) -> Staged:
        """See `Snapshotter.stage`. Where nobody keeps the tar, a zstd copy is made of it."""
        more = {"copy": not source.kept}
        return run_stage(self._workers, "stage_overlay", source, scratch, self._limits, progress, more)

    def stage_upper(
        self,
        upper: str,
        below: Sequence[str],
        scratch: str,
        progress: Progress | None = None,
        *,
        over: Sequence[str] = (),
        cached: bool = True,
    ) -> Staged:
        """See `Snapshotter.stage_upper`. A copy is for later (`copy`): the upper directory is still there."""
        indexes = [self.index(name) for name in below]
        return run_stage_upper(
            self._workers, {"extract": True, "uncached": not cached}, upper, indexes, scratch, self._limits, progress, over
        )

    def publish(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """See `Snapshotter.publish`."""
        if self.exists(name):
            for path in filter(None, (staged.metadata, staged.skeleton, staged.tree)):
                remove_path(path)
            return
        self._files.publish(staged, name, [self.index(lower) for lower in below] if staged.implied else ())

    def discard(self, staged: Staged) -> None:
        """See `Snapshotter.discard`."""
        self._files.discard(staged)

    def lowers(self, names: Sequence[str]) -> tuple[Lower, ...]:
        """See `Snapshotter.lowers`."""
        below, above = self._stacks.split(self._files.visible(names)[::-1])
        found = [self._lower(name) for name in reversed(above)]
        if below:
            for name in below:
                self._lower(name)
            found.append(Lower(path=self._stacks.have(below, self._merge).path))
        return tuple(found)

    def index(self, name: str) -> str:
        """See `Snapshotter.index`."""
        return self._files.index(name)

    def tree(self, name: str) -> str | None:
        """See `Snapshotter.tree`."""
        self.index(name)
        return self._files.tree(name)

    def rebuilt(self, name: str) -> Rebuilt | None:
        """See `Snapshotter.rebuilt`."""
        skeleton, tree = self._files.skeleton(name), self._files.tree(name)
        return Rebuilt(skeleton, tree) if os.path.isdir(tree) and os.path.isfile(skeleton) else None

    def copy(self, name: str, diff_id: Digest, scratch: str) -> StagedBlob:
        """See `Snapshotter.copy`."""
        parts = self.rebuilt(name)
        if parts is None:
            raise LayerDamaged(f"layer {name} is damaged: its tree or its skeleton is missing")
        params = {"skeleton": parts.skeleton, "tree": parts.tree, "diff_id": str(diff_id), "name": name, "scratch": scratch}
        made = self._workers.run("lamina.layer.jobs:copy_tree", params)
        return StagedBlob(made["path"], Digest.parse(made["digest"]), made["size"], OCI_LAYER_ZSTD)

    def exists(self, name: str) -> bool:
        """See `Snapshotter.exists`."""
        return self._files.exists(name)

    def names(self) -> list[str]:
        """See `Snapshotter.names`."""
        return self._files.names()

    def usage(self, name: str) -> int:
        """See `Snapshotter.usage`. A worker counts what is in the tree."""
        measured = self._workers.run("lamina.layer.jobs:tree_usage", {"path": self._files.tree(name)})
        return disk_bytes(self._files.path(name)) + disk_bytes(self._files.skeleton(name)) + int(measured["bytes"])

    def check(self, name: str, *, deep: bool = False) -> None:
        """See `Snapshotter.check`. Of the tree, its top is looked at; `deep`: every name, type and size in it."""
        fd = os.open(self.index(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            superblock = check_all(fd, name) if deep else read_superblock(fd, name)
        finally:
            os.close(fd)
        self._check_tree(name)
        if deep:
            self._check_files(name, superblock.inodes)

    def replace(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """See `Snapshotter.replace`. Trees are mended where they are, for the containers that run on them."""
        tree = self._files.tree(name)
        if staged.tree is None:
            self.remove(name)
            self.publish(staged, name, below)
            return
        if os.path.isdir(tree):
            self._mend(staged, staged.tree, name, below)
        else:
            self._files.remove(name)
            self.publish(staged, name, below)
        self._uncheck(name)
        for key in self._stacks.holding(name):
            with suppress(LaminaError):  # another of its layers is to be mended yet, and then this too
                self.mend_stack(key)

    def _mend(self, staged: Staged, fresh: str, name: str, below: Sequence[str]) -> None:
        """The tree becomes what the staged one, `fresh`, is, and stays where it is."""
        self._files.dress(staged, [self.index(lower) for lower in below] if staged.implied else ())
        params = {"tree": self._files.tree(name), "fresh": fresh, "metadata": staged.metadata, "name": name}
        self._workers.run("lamina.layer.treecheck:mend_tree", params)
        remove_path(self._files.sums(name))
        if staged.skeleton:
            move(staged.skeleton, self._files.skeleton(name))
        move(staged.metadata, self._files.path(name))
        remove_path(fresh)

    def learn(self, name: str, source: TarSource, scratch: str) -> None:
        """See `Snapshotter.learn`."""
        path = self._files.sums(name)
        if os.path.isfile(path):
            return
        staged = run_stage(self._workers, "stage_erofs", source, scratch, self._limits, None)
        try:
            with LayerIndex.open(self.index(name), name) as index:
                if index.diff_id != staged.diff_id.encoded:
                    raise LayerDamaged(f"layer {name} is damaged: what is kept of it has other bytes")
            made = os.path.join(scratch, f"sums-{name}")
            with open(staged.blobs[0].path, "rb") as tar:
                params = {"metadata": self.index(name), "name": name, "path": made}
                self._workers.run("lamina.layer.treecheck:make_sums", params, [tar.fileno()])
            move(made, path)
        finally:
            self._files.discard(staged)

    def _check_files(self, name: str, inodes: int) -> None:
        """All of a tree, large ones by several workers. Contents are looked at where their digests are known."""
        sums = self._files.sums(name)
        shards = min(os.cpu_count() or 1, 4) if inodes > _SHARD else 1
        params = {
            "metadata": self.index(name),
            "tree": self._files.tree(name),
            "name": name,
            "shards": shards,
            "sums": sums if os.path.isfile(sums) else "",
        }

        def run(shard: int) -> list[list[str]]:
            found: list[list[str]] = self._workers.run("lamina.layer.treecheck:check_tree", {**params, "shard": shard})["paths"]
            return found

        with ThreadPoolExecutor(shards, "check") as threads:
            paths = [path for found in threads.map(run, range(shards)) for path in found]
        if (damage := problem(name, paths)) is not None:
            raise damage

    def _uncheck(self, name: str) -> None:
        with self._lock:
            self._checked.discard(name)

    def damaged_stacks(self, of: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """See `Snapshotter.damaged_stacks`."""
        return self._stacks.damaged(self._check_merged, None if of is None else self._files.visible(of)[::-1])

    def mend_stack(self, key: str) -> None:
        """See `Snapshotter.mend_stack`."""
        self._stacks.mend(key, self._mend_merged)

    def remove(self, name: str) -> None:
        """See `Snapshotter.remove`."""
        self._uncheck(name)
        for key in self._stacks.holding(name):
            self._stacks.remove(key)
        self._files.remove(name, self._remove_tree)

    def trim(self, stacks: Iterable[Sequence[str]]) -> None:
        """See `Snapshotter.trim`."""
        for key in self._stacks.unneeded(self._files.visible(names)[::-1] for names in self._stacks.high(stacks)):
            self._stacks.remove(key)

    def release(self, stacks: Iterable[Sequence[str]]) -> None:
        """See `Snapshotter.release`. Nothing is mounted."""

    def sweep(self) -> None:
        """See `Snapshotter.sweep`."""
        self._files.sweep()
        self._stacks.sweep()

    def _merge(self, path: str, names: Sequence[str]) -> None:
        """Hard links to the layers' files: nothing is copied."""
        os.mkdir(path, 0o755)
        self._workers.run("lamina.layer.copyjobs:make_copy", {**self._stack(names), "target": path, "link": True})

    def _check_merged(self, path: str, names: Sequence[str]) -> None:
        found = self._workers.run("lamina.layer.treecheck:check_merged", {**self._stack(names), "tree": path})["paths"]
        if (damage := problem(os.path.basename(path), found)) is not None:
            raise damage

    def _mend_merged(self, path: str, names: Sequence[str]) -> None:
        fresh = f"{path}.fresh"
        remove_path(fresh)
        try:
            self._merge(fresh, names)
            self._workers.run("lamina.layer.treecheck:mend_merged", {**self._stack(names), "tree": path, "fresh": fresh})
        finally:
            remove_path(fresh)

    def _stack(self, names: Sequence[str]) -> dict[str, Any]:
        """The files of a stack, base first, for jobs over full copies."""
        return {"below": [self.index(name) for name in names], "trees": [self._files.tree(name) for name in names]}

    def _lower(self, name: str) -> Lower:
        if name not in self._checked:
            self.check(name)
            with self._lock:
                self._checked.add(name)
        else:
            self.index(name)
            self._check_tree(name)
        return Lower(path=self._files.tree(name))

    def _remove_tree(self, path: str) -> None:
        """In the background: the tree is out of the way already, and `sweep` takes what a killed daemon leaves."""
        threading.Thread(target=self._delete, args=(path,), name="delete", daemon=True).start()

    def _delete(self, path: str) -> None:
        with suppress(LaminaError):
            self._workers.run("lamina.layer.jobs:remove_tree", {"path": path})

    def _check_tree(self, name: str) -> None:
        if not os.path.isdir(self._files.tree(name)):
            raise LayerDamaged(f"layer {name} is damaged: its tree {self._files.tree(name)} is missing")
