"""What a container's file system holds: changes against its image, and all of it as a tar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.parts import Parts
from lamina.container.requests import Change
from lamina.container.roots import reachable
from lamina.spec.digest import Digest

_KINDS = {"M": 0, "A": 1, "D": 2}


class Contents:
    """See Containers.changes and Containers.export. Thread-safe; the looking happens in workers."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def changes(self, live: Live) -> Sequence[Change]:
        """See Containers.changes."""
        container = live.container
        layer = Digest.parse(container.layer) if container.layer else None
        return [Change(path, _KINDS[kind]) for path, kind in self._parts.layers.changes(layer, container.upper)]

    def export(self, live: Live, out: int, progress: Callable[[int], None] | None) -> None:
        """See Containers.export."""
        del progress
        with reachable(live, self._launcher, self._parts.root, bare=True) as root:
            self._parts.workers.run("lamina.container.files:export_job", root.params, [*root.fds, out])
        self._parts.emit(live.event("export"))
