"""Processes for whatever loops in Python over entries or bytes, so that the daemon's threads only wait."""

from __future__ import annotations

from lamina.worker.pool import WorkerPool
from lamina.worker.workers import InlineWorkers, Report, WorkerCrashed, Workers

__all__ = ["InlineWorkers", "Report", "WorkerCrashed", "WorkerPool", "Workers"]
