"""A new container's empty volumes take the image's content."""

from __future__ import annotations

import os

from lamina.container.launching import Launcher
from lamina.container.model import Container
from lamina.container.parts import Parts
from lamina.container.roots import mounted as mounted_root


class Seeder:
    """Fills volumes. Thread-safe; the copying happens in a worker."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def seed(self, record: Container, *, mounted: bool = False) -> None:
        """Copy what the image has at the target of each empty volume that wants it. What is not in the image stays as it is.

        Volumes that are a mount wait for a start: with `mounted` they are mounted, and it is their turn.
        """
        wanting = [mount for mount in record.mounts if mount.kind == "volume" and mount.copy and self._is_mount(mount.name) == mounted]
        targets = {mount.target: mount.source for mount in wanting if _empty(mount.source)}
        if not targets:
            return
        root = mounted_root(self._launcher.root(record, writable=False), self._parts.root)
        self._parts.workers.run("lamina.container.files:seed_job", {**root.params, "targets": targets}, root.fds)

    def _is_mount(self, volume: str) -> bool:
        return bool(self._parts.volumes.get(volume).options)


def _empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None
