"""cp: a path of a container as a tar, and a tar into a path of it."""

from __future__ import annotations

from typing import BinaryIO

from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.parts import Parts
from lamina.container.requests import PathStat
from lamina.errors import Unsupported


class Archives:
    """See Containers.archive_stat, archive_get, archive_put. `launcher.root(container)` is the container's root as a RootMount."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def stat(self, live: Live, path: str) -> PathStat:
        """See Containers.archive_stat."""
        raise Unsupported("cp is not there yet")

    def get(self, live: Live, path: str, out: int) -> PathStat:
        """See Containers.archive_get."""
        raise Unsupported("cp is not there yet")

    def put(self, live: Live, path: str, source: BinaryIO | int, *, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool) -> None:
        """See Containers.archive_put."""
        raise Unsupported("cp is not there yet")
