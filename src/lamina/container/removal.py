"""Removing trees: small ones here, whatever is larger in a worker, so that no thread of the daemon loops over many entries."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from lamina.content.later import Later
from lamina.linux.removing import discard_tree
from lamina.worker import Workers

_HERE = 48
_SMALL = 4 << 20
_MOST_WAITING = 64
_DELAY = 0.05


class Removals:
    """Removes folders that nobody finds any more after whoever asked has gone on. Thread-safe.

    A file system that tells its disk what is free (the mount option discard) waits for that disk once a file. What holds more than a few
    files, or 4 MiB, is gone when `add` returns, since somebody may wait for the room; and so is each one when many wait. A killed engine's
    are left to the next (`ContainerStore.leftovers`).
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting: deque[str] = deque()
        self._later = Later(self._work, delay=_DELAY)

    def add(self, path: str) -> None:
        """Remove `path` and everything below it, at once or soon."""
        if len(self._waiting) < _MOST_WAITING and _is_small(path):
            self._waiting.append(path)
            self._later.request()
        else:
            remove_tree(path, self._workers)

    def flush(self) -> None:
        """Return when all that was added is gone."""
        self._later.flush()

    def _work(self) -> None:
        while self._waiting:
            remove_tree(self._waiting.popleft(), self._workers)


def _is_small(path: str) -> bool:
    try:
        return _weighed(path, _HERE, _SMALL)[0] > 0
    except OSError:
        return False


def _weighed(path: str, entries: int, size: int) -> tuple[int, int]:
    """What is left of a budget of entries and bytes below `path`; nothing of the entries where either is used up."""
    with os.scandir(path) as found:
        for entry in found:
            entries -= 1
            if entry.is_dir(follow_symlinks=False):
                entries, size = _weighed(entry.path, entries, size)
            else:
                size -= entry.stat(follow_symlinks=False).st_blocks * 512
            if entries <= 0 or size < 0:
                return 0, 0
    return entries, size


def remove_tree(path: str, workers: Workers) -> None:
    """Remove `path` and everything below; absent is fine."""
    if not remove_small_tree(path, _HERE):
        workers.run("lamina.container.removal:remove_job", {"path": path})


def remove_small_tree(path: str, budget: int) -> bool:
    """Remove a tree of at most about `budget` entries; False means that more is left, or that something stood in the way."""
    try:
        return _remove(path, budget) > 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _remove(path: str, budget: int) -> int:
    """What is left of the budget; 0 when it is used up."""
    with os.scandir(path) as entries:
        for entry in entries:
            budget -= 1
            if budget <= 0:
                return 0
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            else:
                budget = _remove(entry.path, budget)
                if budget <= 0:
                    return 0
    os.rmdir(path)
    return budget


def remove_job(params: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Worker job: remove the tree at `path`."""
    del fds, report
    discard_tree(params["path"])
    return {}
