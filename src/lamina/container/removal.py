"""Removing trees: small ones here, whatever is larger in a worker, so that no thread of the daemon loops over many entries."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lamina.linux.removing import discard_tree
from lamina.worker import Workers

_HERE = 48


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
