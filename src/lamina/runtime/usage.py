"""What a control group has used, in the words of the API's stats: version 1 and 2 read to the same shape. Pure but for the files it
reads."""

from __future__ import annotations

from typing import Any, Protocol

Document = dict[str, Any]
_NANOSECONDS_A_TICK = 10_000_000
_UNLIMITED = 1 << 62


class Files(Protocol):
    """See `cgroup.Cgroup`."""

    def read(self, controller: str, file: str) -> str: ...

    def unified(self, controller: str) -> bool: ...


def usage(group: Files, machine_memory: int) -> Document:
    """`cpu_stats` (without the system's), `memory_stats`, `blkio_stats` and `pids_stats`. Where no limit is set, it is the machine's
    memory, in bytes."""
    return {
        "pids_stats": _pids(group),
        "blkio_stats": _blkio_2(group) if group.unified("blkio") else _blkio_1(group),
        "cpu_stats": _cpu_2(group) if group.unified("cpuacct") else _cpu_1(group),
        "memory_stats": _memory_2(group, machine_memory) if group.unified("memory") else _memory_1(group, machine_memory),
    }


def _pids(group: Files) -> Document:
    current, limit = group.read("pids", "pids.current").strip(), group.read("pids", "pids.max").strip()
    found = {"current": int(current)} if current.isdigit() else {}
    return {**found, **({"limit": int(limit) if limit.isdigit() else (1 << 64) - 1} if current else {})}


def _pairs(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[name] = int(value)
    return found


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _cpu(total: int, user: int, kernel: int, throttling: tuple[int, int, int], each: list[int]) -> Document:
    periods, throttled, time = throttling
    used: Document = {"total_usage": total, "usage_in_kernelmode": kernel, "usage_in_usermode": user}
    return {
        "cpu_usage": {**used, **({"percpu_usage": each} if each else {})},
        "throttling_data": {"periods": periods, "throttled_periods": throttled, "throttled_time": time},
    }


def _cpu_1(group: Files) -> Document:
    ticks, throttling = _pairs(group.read("cpuacct", "cpuacct.stat")), _pairs(group.read("cpu", "cpu.stat"))
    return _cpu(
        _number(group.read("cpuacct", "cpuacct.usage")),
        ticks.get("user", 0) * _NANOSECONDS_A_TICK,
        ticks.get("system", 0) * _NANOSECONDS_A_TICK,
        (throttling.get("nr_periods", 0), throttling.get("nr_throttled", 0), throttling.get("throttled_time", 0)),
        [int(word) for word in group.read("cpuacct", "cpuacct.usage_percpu").split()],
    )


def _cpu_2(group: Files) -> Document:
    found = _pairs(group.read("cpu", "cpu.stat"))
    return _cpu(
        found.get("usage_usec", 0) * 1000,
        found.get("user_usec", 0) * 1000,
        found.get("system_usec", 0) * 1000,
        (found.get("nr_periods", 0), found.get("nr_throttled", 0), found.get("throttled_usec", 0) * 1000),
        [],
    )


def _memory_1(group: Files, machine: int) -> Document:
    limit = _number(group.read("memory", "memory.limit_in_bytes"))
    return {
        "usage": _number(group.read("memory", "memory.usage_in_bytes")),
        "max_usage": _number(group.read("memory", "memory.max_usage_in_bytes")),
        "stats": _pairs(group.read("memory", "memory.stat")),
        "failcnt": _number(group.read("memory", "memory.failcnt")),
        "limit": min(limit or _UNLIMITED, machine),
    }


def _memory_2(group: Files, machine: int) -> Document:
    limit = group.read("memory", "memory.max").strip()
    document = {
        "usage": _number(group.read("memory", "memory.current")),
        "stats": _pairs(group.read("memory", "memory.stat")),
        "limit": min(int(limit) if limit.isdigit() else machine, machine),
    }
    out = _pairs(group.read("memory", "memory.events")).get("oom", 0)
    return {**document, **({"failcnt": out} if out else {})}


_BLKIO = (
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


def blkio(transferred: list[Document], served: list[Document]) -> Document:
    return {"io_service_bytes_recursive": transferred or None, **dict.fromkeys(_BLKIO), "io_serviced_recursive": served or None}


def _blkio_1(group: Files) -> Document:
    def entries(what: str) -> list[Document]:
        for scheduler in ("bfq", "throttle"):
            found = _entries_1(group.read("blkio", f"blkio.{scheduler}.{what}_recursive"))
            if found:
                return found
        return []

    return blkio(entries("io_service_bytes"), entries("io_serviced"))


def _entries_1(text: str) -> list[Document]:
    """Lines like `8:0 Read 4096`; the last one is a sum."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and ":" in words[0]:
            major, _, minor = words[0].partition(":")
            found.append({"major": int(major), "minor": int(minor), "op": words[1].lower(), "value": int(words[2])})
    return found


def _blkio_2(group: Files) -> Document:
    """Lines like `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`."""
    transferred: list[Document] = []
    served: list[Document] = []
    for line in group.read("blkio", "io.stat").splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        facts = {key: value for key, _, value in (word.partition("=") for word in words)}
        for key, operation, into in (
            ("rbytes", "read", transferred),
            ("wbytes", "write", transferred),
            ("rios", "read", served),
            ("wios", "write", served),
        ):
            if facts.get(key, "").isdigit():
                into.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(facts[key])})
    return blkio(transferred, served)


def system_usage(stat: str) -> tuple[int, int]:
    """Nanoseconds that all processors of the machine were in use or idle, and how many there are: from /proc/stat's text."""
    total, count = 0, 0
    for line in stat.splitlines():
        if line.startswith("cpu "):
            total = sum(int(word) for word in line.split()[1:8]) * _NANOSECONDS_A_TICK
        elif line.startswith("cpu"):
            count += 1
    return total, count


def interfaces(text: str) -> dict[str, dict[str, int]]:
    """The API's `networks` from the text of a namespace's /proc/net/dev, without its loopback interface."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.strip() != "lo" and len(words) >= 12:
            names = ("bytes", "packets", "errors", "dropped")
            found[name.strip()] = {
                **{f"rx_{key}": int(words[number]) for number, key in enumerate(names)},
                **{f"tx_{key}": int(words[8 + number]) for number, key in enumerate(names)},
            }
    return found
