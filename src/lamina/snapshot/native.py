"""The native driver: a container is a full copy of what its layers show, so no kernel needs to stack anything.

Layers are kept as the overlay driver keeps them. Copies share blocks with them where the file system can (reflinks). What was
written is found by comparison with the layers below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from lamina.content.files import write_file
from lamina.layer.staged import Staged
from lamina.snapshot.layers import run_changes, run_staging
from lamina.snapshot.protocol import Change, Lower, Own, Progress, RootMount
from lamina.snapshot.trees import Trees

COPIED = "copied.json"
"""Beside an upper directory: when it was filled, and with what besides the layers' files."""


class NativeSnapshotter(Trees):
    """See `protocol.Snapshotter`."""

    name = "native"

    def prepare(self, own: Own, below: Sequence[str]) -> None:
        """See `Snapshotter.prepare`. Copies everything."""
        if own.over:
            self._workers.run("lamina.layer.clone:clone_job", {"source": own.over[0], "target": own.upper})
            copy_record(os.path.dirname(own.over[0]), os.path.dirname(own.upper))
            return
        for name in below:
            self._lower(name)
        params = {**self._stack(below), "target": own.upper, "init": own.init}
        found = self._workers.run("lamina.layer.copyjobs:make_copy", params)
        with open(_record(own.upper), "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(found, file)

    def root(self, own: Own, below: Sequence[str], *, writable: bool = True) -> RootMount:
        """See `Snapshotter.root`."""
        return RootMount((), own.upper) if writable else RootMount((Lower(path=own.upper),))

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
        """See `Snapshotter.stage_upper`, and `changes`."""
        del over
        params = {**self._copy(upper, below), "scratch": scratch, "limits": asdict(self._limits)}
        params |= {"extract": True, "uncached": not cached}
        return run_staging(self._workers, "lamina.layer.copyjobs:stage_copy", params, [], progress)

    def changes(self, upper: str, below: Sequence[str], over: Sequence[str] = ()) -> list[Change]:
        """See `Snapshotter.changes`. The directory has what it stands on, too."""
        return run_changes(self._workers, "lamina.layer.copyjobs:copy_changes", self._copy(upper, below))

    def changed(self, upper: str, below: Sequence[str]) -> bool:
        """See `Snapshotter.changed`."""
        return bool(self.changes(upper, below))

    def written(self, upper: str, below: Sequence[str]) -> int:
        """See `Snapshotter.written`."""
        return int(self._workers.run("lamina.layer.copyjobs:copy_written", self._copy(upper, below))["bytes"])

    def _copy(self, upper: str, below: Sequence[str]) -> dict[str, Any]:
        """What describes a copy. Without its record everything in it is compared."""
        known: dict[str, Any] = {"finished": 0, "extra": []}
        with suppress(OSError, ValueError), open(_record(upper), encoding="utf-8", errors="surrogateescape") as file:
            known = json.load(file)
        return {**self._stack(below), "upper": upper, "finished": int(known["finished"]), "extra": list(known["extra"])}


def copy_record(source: str, target: str) -> None:
    """Note of a copy of a copy (of the directories beside them) what it was given besides the layers' files. All of it is to be
    compared."""
    with suppress(OSError, ValueError), open(f"{source}/{COPIED}", encoding="utf-8", errors="surrogateescape") as file:
        known = json.load(file)
        write_file(f"{target}/{COPIED}", json.dumps({**known, "finished": 0}).encode("utf-8", "surrogateescape"))


def _record(upper: str) -> str:
    return os.path.join(os.path.dirname(upper), COPIED)
