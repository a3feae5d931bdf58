"""Jobs that stage a layer whose tar arrives in a client's connection, which is lent to them."""

from __future__ import annotations

from typing import Any

from lamina.layer.jobs import stage_incoming
from lamina.layer.stream import exactly
from lamina.worker import Report
from lamina.worker.incoming import arriving


def stage_erofs(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """See `layer.jobs.stage_erofs`."""
    with arriving(params, fds[0], report) as body:
        wanted = params["length"]
        return stage_incoming(params, body.pieces if wanted is None else exactly(body.pieces, wanted), report, body.interrupt)


def stage_overlay(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """See `layer.jobs.stage_overlay`."""
    return stage_erofs({**params, "extract": True}, fds, report)
