"""Upper directories as overlayfs fills them: they hold what was written and nothing else."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from lamina.snapshot.layers import run_changes
from lamina.snapshot.mountpoints import dress_like, fitting
from lamina.snapshot.protocol import Change, Lower, Own, RootMount
from lamina.worker.workers import Workers


class Stacked(ABC):
    """The part of a driver that is the same wherever overlayfs stacks its layers."""

    _workers: Workers

    @abstractmethod
    def lowers(self, names: Sequence[str]) -> tuple[Lower, ...]:
        """See `Snapshotter.lowers`."""

    @abstractmethod
    def index(self, name: str) -> str:
        """See `Snapshotter.index`."""

    def prepare(self, own: Own, below: Sequence[str]) -> None:
        """See `Snapshotter.prepare`. An empty directory is ready; what the root is like is part of a snapshot."""
        if own.over:
            dress_like(own.upper, own.over[0])

    def root(self, own: Own, below: Sequence[str], *, writable: bool = True) -> RootMount:
        """See `Snapshotter.root`."""
        image = self.lowers(below)
        lowers = (*map(_at, own.over), *([Lower(path=fitting(own.init, image))] if own.init else []), *image)
        if not writable:
            return RootMount((Lower(path=own.upper), *lowers))
        return RootMount(lowers, own.upper, own.work, own.volatile)

    def changes(self, upper: str, below: Sequence[str], over: Sequence[str] = ()) -> list[Change]:
        """See `Snapshotter.changes`."""
        params = {"upper": upper, "over": list(over), "below": [self.index(name) for name in below]}
        return run_changes(self._workers, "lamina.layer.jobs:upper_changes", params)

    def changed(self, upper: str, below: Sequence[str]) -> bool:
        """See `Snapshotter.changed`."""
        with os.scandir(upper) as entries:
            return next(entries, None) is not None

    def written(self, upper: str, below: Sequence[str]) -> int:
        """See `Snapshotter.written`."""
        return int(self._workers.run("lamina.layer.jobs:upper_written", {"upper": upper})["bytes"])


def _at(path: str) -> Lower:
    return Lower(path=path)
