"""stats: what a container uses now, once or every second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from lamina.container.document import text
from lamina.container.live import Live
from lamina.container.model import ALIVE
from lamina.container.parts import Parts, Process
from lamina.container.times import NEVER, rfc3339
from lamina.container.waiters import REMOVED
from lamina.runtime.usage import blkio, interfaces, system_usage

Document = dict[str, Any]
_SECOND = 1.0
_IDLE: Document = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_NOTHING: Document = {
    "pids_stats": {},
    "blkio_stats": blkio([], []),
    "num_procs": 0,
    "storage_stats": {},
    "cpu_stats": _IDLE,
    "precpu_stats": _IDLE,
    "memory_stats": {},
}


class Meter:
    """See Containers.stats. Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def stats(self, live: Live, *, stream: bool, one_shot: bool) -> Iterator[Document]:
        """The API's ContainerStatsResponse: one, or one a second until the container is removed. `one_shot` takes no second look for the
        usage before, which the one answer otherwise holds too."""
        before = None if stream or one_shot else self._sample(live)
        with live.waiters.register(REMOVED, now=None) as gone:
            if before is not None and live.process is not None and gone.result(_SECOND) is not None:
                return
            while True:
                now = self._sample(live)
                yield _with_before(now, before)
                if not stream or live.removing or gone.result(_SECOND) is not None:
                    return
                before = now

    def _sample(self, live: Live) -> Document:
        container, process = live.container, live.process
        named = {"id": container.id, "name": f"/{container.name}", "os_type": "linux"}
        used = process.usage(self._memory) if process is not None and live.state.status in ALIVE else {}
        if not used or process is None:
            return {**named, "read": NEVER, "preread": NEVER, **_NOTHING}
        total, count = system_usage(_read("/proc/stat"))
        used["cpu_stats"] |= {"system_cpu_usage": total, "online_cpus": count}
        networks = self._networks(live, process)
        return {
            **named,
            "read": rfc3339(self._parts.clock()),
            "preread": NEVER,
            **_NOTHING,
            **used,
            **({"networks": networks} if networks else {}),
        }

    def _networks(self, live: Live, process: Process) -> dict[str, dict[str, int]]:
        """Counters of its own interfaces; not those of the host, where it has the host's network."""
        if text(live.container.host_config, "NetworkMode") == "host":
            return {}
        return interfaces(_read(f"/proc/{process.pid}/net/dev"))


def _with_before(now: Document, before: Document | None) -> Document:
    if before is None:
        return {**now, "precpu_stats": _IDLE}
    return {**now, "preread": before["read"], "precpu_stats": before["cpu_stats"]}


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
