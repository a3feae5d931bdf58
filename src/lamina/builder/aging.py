"""SOURCE_DATE_EPOCH for what a command wrote: no time later than it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from lamina.builder.context import Heartbeat
from lamina.worker.workers import Report


def age_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: set every time of `paths` below `upper` that is later than `newest` (nanoseconds) to it. Nobody may be writing there."""
    newest, beat = params["newest"], Heartbeat(report)
    for path in params["paths"]:
        beat()
        place = os.path.join(params["upper"], path.lstrip("/"))
        with suppress(FileNotFoundError):
            if os.lstat(place).st_mtime_ns > newest:
                os.utime(place, ns=(newest, newest), follow_symlinks=False)
    return {}
