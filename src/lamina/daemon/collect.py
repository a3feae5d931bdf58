"""Collection of what nothing needs: at start, and now and then while the engine is open."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from lamina.errors import LaminaError

INTERVAL = 3600.0
"""Seconds between two collections: what a failed pull left may be wanted by its repetition meanwhile."""
_log = logging.getLogger("lamina.daemon")


class Collection:
    """Calls `collect` every `interval` seconds from a thread of its own, until it is closed. A failure is logged, not raised."""

    def __init__(self, collect: Callable[[], object], interval: float = INTERVAL) -> None:
        self._collect, self._interval = collect, interval
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collection", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, after the collection that may be under way. Idempotent."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._interval):
            try:
                self._collect()
            except (LaminaError, OSError) as error:
                _log.warning("collecting what is not needed any more failed: %s", error)
