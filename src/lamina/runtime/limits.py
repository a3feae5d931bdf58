"""What to write where for OCI `linux.resources`, in control groups of version 1 and 2: pure, but for values that are read back.

Zygote and monitors load this file, so it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Read = Callable[[str], str]
    """The text of one of the group's files, "" where there is none."""
    Write = tuple[tuple[str, ...], str]
    """Files of which the first that exists is written, and the value."""
    Section = Mapping[str, Any]

_THROTTLES = (
    # OCI's key, version 1's file, version 2's word in io.max
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)


def writes(controller: str, resources: Mapping[str, Any], read: Read, *, unified: bool) -> Iterator[Write]:
    """The writes that set one controller's limits, in an order that the kernel takes. What is absent or 0 is left as it is."""
    section = resources.get(_SECTIONS[controller]) or {}
    return (_VERSION_2 if unified else _VERSION_1)[controller](section, read)


def _memory_1(memory: Section, read: Read) -> Iterator[Write]:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit == -1 and not swap:
        swap = -1
    pair = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap)]
    # Memory may at no moment be more than memory and swap together: what grows goes first.
    if limit and swap and (swap == -1 or int(read("memory.limit_in_bytes") or 0) < swap):
        pair.reverse()
    for file, value in pair:
        if value:
            yield (file,), str(value)
    if reservation := memory.get("reservation"):
        yield ("memory.soft_limit_in_bytes",), str(reservation)
    if memory.get("swappiness") is not None:
        yield ("memory.swappiness",), str(memory["swappiness"])
    if memory.get("disableOOMKiller"):
        yield ("memory.oom_control",), "1"


def _memory_2(memory: Section, read: Read) -> Iterator[Write]:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit == -1 and not swap:
        swap = -1
    if swap:
        now = str(limit) if limit else read("memory.max").strip()
        unlimited = swap == -1 or now in ("", "max", "-1")
        yield ("memory.swap.max",), "max" if unlimited else str(max(0, swap - int(now)))
    if limit:
        yield ("memory.max",), _or_max(limit)
    if reservation := memory.get("reservation"):
        yield ("memory.low",), _or_max(reservation)


def _cpu_1(cpu: Section, read: Read) -> Iterator[Write]:
    del read
    # A runtime that is longer than its period is refused, whichever comes first: Docker's order.
    for key, file in (
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
        ("shares", "cpu.shares"),
        ("period", "cpu.cfs_period_us"),
        ("quota", "cpu.cfs_quota_us"),
    ):
        if value := cpu.get(key):
            yield (file,), str(value)


def _cpu_2(cpu: Section, read: Read) -> Iterator[Write]:
    if shares := cpu.get("shares"):
        # 2 to 262144 become 1 to 10000, as runc converts them.
        yield ("cpu.weight",), str(1 + (max(2, min(262144, shares)) - 2) * 9999 // 262142)
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota or period:
        now = [*read("cpu.max").split(), "max", "100000"]
        yield ("cpu.max",), f"{_or_max(quota) if quota else now[0]} {period or (now[1] if now[1].isdigit() else '100000')}"


def _cpuset(cpu: Section, read: Read) -> Iterator[Write]:
    del read
    for key, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if value := cpu.get(key):
            yield (file,), str(value)


def _pids(pids: Section, read: Read) -> Iterator[Write]:
    del read
    if "limit" in pids:
        yield ("pids.max",), str(pids["limit"]) if pids["limit"] > 0 else "max"


def _block_1(block: Section, read: Read) -> Iterator[Write]:
    del read
    if weight := block.get("weight"):
        yield ("blkio.weight", "blkio.bfq.weight"), str(weight)
    for device in block.get("weightDevice") or ():
        yield ("blkio.weight_device", "blkio.bfq.weight_device"), f"{_device(device)} {device['weight']}"
    for key, file, _ in _THROTTLES:
        for device in block.get(key) or ():
            yield (file,), f"{_device(device)} {device['rate']}"


def _block_2(block: Section, read: Read) -> Iterator[Write]:
    bfq = bool(read("io.bfq.weight"))
    if weight := block.get("weight"):
        yield ("io.bfq.weight", "io.weight"), str(weight) if bfq else f"default {_weight_2(weight)}"
    for device in block.get("weightDevice") or ():
        yield ("io.bfq.weight", "io.weight"), f"{_device(device)} {device['weight'] if bfq else _weight_2(device['weight'])}"
    for key, _, word in _THROTTLES:
        for device in block.get(key) or ():
            yield ("io.max",), f"{_device(device)} {word}={device['rate'] or 'max'}"


def _weight_2(weight: int) -> int:
    """10 to 1000 become 1 to 10000."""
    return 1 + (weight - 10) * 9999 // 990


def _device(device: Mapping[str, Any]) -> str:
    return f"{device['major']}:{device['minor']}"


def _or_max(value: int) -> str:
    return "max" if value == -1 else str(value)


_SECTIONS = {"memory": "memory", "cpu": "cpu", "cpuset": "cpu", "pids": "pids", "blkio": "blockIO"}
CONTROLLERS = tuple(_SECTIONS)
_VERSION_1 = {"memory": _memory_1, "cpu": _cpu_1, "cpuset": _cpuset, "pids": _pids, "blkio": _block_1}
_VERSION_2 = {"memory": _memory_2, "cpu": _cpu_2, "cpuset": _cpuset, "pids": _pids, "blkio": _block_2}
