"""What a container's file system holds: changes against its image, and all of it as a tar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.parts import Parts
from lamina.container.requests import Change
from lamina.errors import Unsupported


class Contents:
    """See Containers.changes and Containers.export."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def changes(self, live: Live) -> Sequence[Change]:
        """See Containers.changes."""
        raise Unsupported("diff is not there yet")

    def export(self, live: Live, out: int, progress: Callable[[int], None] | None) -> None:
        """See Containers.export."""
        raise Unsupported("export is not there yet")
