"""A new container's empty volumes take the image's content."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lamina.container.launching import Launcher
from lamina.container.model import Container, MountPoint
from lamina.container.parts import Parts
from lamina.container.removal import remove_tree
from lamina.container.roots import mounted as mounted_root
from lamina.errors import LaminaError
from lamina.worker import Workers


class Seeder:
    """Fills volumes. Thread-safe; the copying happens in a worker."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher
        self._changed = threading.Condition()
        self._filling: frozenset[str] = frozenset()

    def seed(self, record: Container, *, mounted: bool = False) -> None:
        """Copy what the image has at the target of each empty volume that wants it. What is not in the image stays as it is.

        Volumes that are a mount wait for a start: with `mounted` they are mounted, and it is their turn.
        """
        wanting = [mount for mount in record.mounts if mount.kind == "volume" and mount.copy and self._is_mount(mount.name) == mounted]
        with self._alone(frozenset(mount.name for mount in wanting)):
            empty = [mount for mount in wanting if _empty(mount.source)]
            if not empty:
                return
            root = mounted_root(self._launcher.root(record, writable=False), self._parts.root)
            params = {**root.params, "targets": {mount.target: mount.source for mount in empty}}
            with self._parts.volumes.filling([mount.name for mount in empty]):
                try:
                    self._parts.workers.run("lamina.container.files:seed_job", params, root.fds)
                except BaseException:
                    self._clear(record, empty)
                    raise

    @contextmanager
    def _alone(self, names: frozenset[str]) -> Iterator[None]:
        """Of containers that are made at the same time with the same empty volume one fills it, and the others find it full."""
        with self._changed:
            self._changed.wait_for(lambda: not names & self._filling)
            self._filling |= names
        try:
            yield
        finally:
            with self._changed:
                self._filling -= names
                self._changed.notify_all()

    def _clear(self, record: Container, filled: Sequence[MountPoint]) -> None:
        """Half of it would be taken for all of it by the next container. What another one may be using stays."""
        for mount in filled:
            if set(self._parts.volumes.users(mount.name)) <= {record.id}:
                with suppress(OSError, LaminaError):
                    for name in os.listdir(mount.source):
                        _remove(f"{mount.source}/{name}", self._parts.workers)

    def _is_mount(self, volume: str) -> bool:
        return bool(self._parts.volumes.get(volume).options)


def _remove(path: str, workers: Workers) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path, workers)
    else:
        os.unlink(path)


def _empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None
