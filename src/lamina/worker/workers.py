"""The seam: a job is named, gets plain parameters and descriptors, and answers with plain data."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lamina.errors import Internal

Report = Callable[[dict[str, Any]], None]
"""Takes an update of a running job: plain data, meant to be seldom (a few a second)."""

Job = Callable[[dict[str, Any], list[int], Report], dict[str, Any]]
"""What a job's function looks like: parameters, descriptors (closed after it returns), where updates go; answers plain data."""

_ROOM = "lamina."


class WorkerCrashed(Internal):
    """A worker ended in the middle of a job."""


class Workers(Protocol):
    """Runs jobs. Thread-safe; as many run at once as the driver has room for, others wait."""

    def run(
        self, job: str, params: Mapping[str, Any], fds: Sequence[int] = (), on_update: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Run `job` (`lamina.package.module:function`) to its end and return its answer.

        `fds` are duplicated for the job, the caller keeps its own. `on_update` is called in this thread; what it
        raises ends the job and comes out here. A job may be ended at any point: it must leave nothing behind but
        files in the scratch directory it was given.

        Raises:
            LaminaError: what the job raised: same kind, message and hint, the class itself where it is the same kind's leaf.
            WorkerCrashed: the process ended (a signal, out of memory); other jobs are not touched.
        """
        ...


def find(job: str) -> Job:
    """The function that a job's name means; only this project's own are found."""
    module, colon, name = job.partition(":")
    if not colon or not module.startswith(_ROOM) or not name.isidentifier():
        raise Internal(f"no such job: {job[:100]}")
    found: Job = getattr(importlib.import_module(module), name)
    return found


class InlineWorkers:
    """Runs jobs in the caller's thread: for tests, and for work too small to be worth a process."""

    def run(
        self, job: str, params: Mapping[str, Any], fds: Sequence[int] = (), on_update: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """See `Workers.run`; nothing crashes alone here."""
        own = [os.dup(fd) for fd in fds]
        try:
            return find(job)(dict(params), own, on_update or _dropped)
        finally:
            for fd in own:
                os.close(fd)


def _dropped(update: dict[str, Any]) -> None:
    """A report that nobody reads."""
