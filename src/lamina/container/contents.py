"""What a container's file system holds: changes against its image, and all of it as a tar."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.container.launching import Launcher
from lamina.container.lifecycle import LifeCycle
from lamina.container.live import Live
from lamina.container.parts import Parts
from lamina.container.requests import Change
from lamina.container.roots import reachable
from lamina.spec.digest import Digest
from lamina.worker.outgoing import Target, taken

_KINDS = {"M": 0, "A": 1, "D": 2}


class Contents:
    """See Containers.changes and Containers.export. Thread-safe; the looking happens in workers."""

    def __init__(self, parts: Parts, launcher: Launcher, life: LifeCycle) -> None:
        self._parts, self._launcher, self._life = parts, launcher, life

    def changes(self, live: Live) -> Sequence[Change]:
        """See Containers.changes."""
        with self._life.still(live, pause=False):  # a snapshot taken meanwhile would move what is being read
            container = live.container
            layer = Digest.parse(container.layer) if container.layer else None
            found = self._parts.layers.changes(layer, container.writes, self._launcher.over(container))
        return [Change(path, _KINDS[kind]) for path, kind in found]

    def export(self, live: Live, out: Target) -> None:
        """See Containers.export."""
        with reachable(live, self._launcher, self._parts.root, bare=True) as root:
            fd, more, heard = taken(out)
            self._parts.workers.run("lamina.container.files:export_job", {**root.params, **more}, [*root.fds, fd], heard)
        self._parts.emit(live.event("export"))
