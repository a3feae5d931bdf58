"""Resource limits of a request: refused where they make no sense, dropped with a warning where this kernel cannot set them. Pure.

The words are Docker's: clients and their users know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.container.document import Document, number, objects, text
from lamina.errors import InvalidArgument
from lamina.runtime.abilities import RLIMITS, Abilities, numbers

MINIMUM = 6 << 20
"""Bytes of memory below which a container would not start."""
_LEAST_CPU = 10**7
"""In NanoCpus: the kernel's shortest quota, a millisecond, in the usual period of a hundred."""
_LEAST_SHARES, _MOST_SHARES = 2, 1 << 18
"""The kernel takes other numbers for these without a word."""
_MOST_PIDS = 1 << 22
"""The kernel's PID_MAX_LIMIT: pids.max takes no more."""
_MOST = (1 << 63) - 1
"""The highest number that clients in Go can read."""
KEYS = frozenset(
    {
        "CpuShares",
        "Memory",
        "NanoCpus",
        "BlkioWeight",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpusetCpus",
        "CpusetMems",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "OomKillDisable",
        "PidsLimit",
        "KernelMemory",
        "KernelMemoryTCP",
        "CpuCount",
        "CpuPercent",
        "IOMaximumIOps",
        "IOMaximumBandwidth",
        "Ulimits",
    }
)
"""The fields of a HostConfig that limit resources."""
_THROTTLES = (
    ("BlkioDeviceReadBps", "BPS Block I/O read limit", "Block I/O BPS read limit"),
    ("BlkioDeviceWriteBps", "BPS Block I/O write limit", "Block I/O BPS write limit"),
    ("BlkioDeviceReadIOps", "IOPS Block read limit", "Block I/O IOPS read limit"),
    ("BlkioDeviceWriteIOps", "IOPS Block write limit", "Block I/O IOPS write limit"),
)


class InvalidLimit(InvalidArgument):
    """A limit that cannot be meant, or that contradicts another."""


class Checked:
    """A host configuration whose limits are being checked: `host` is changed in place, `warnings` grows."""

    def __init__(self, host: dict[str, Any], can: Abilities) -> None:
        self.host, self.can = host, can
        self.warnings: list[str] = []

    def drop(self, words: str, able: bool, *keys: str) -> None:
        """Where any of these is set and the kernel cannot do it: leave them out, and say so."""
        if not able and any(self.host.get(key) for key in keys):
            self.warnings.append(words)
            for key in keys:
                self.host.pop(key, None)


def checked(host: Document, can: Abilities, *, update: bool = False) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The host configuration with the limits that will hold, and Docker's warnings. `update` allows what makes sense only beside older
    limits.

    Raises:
        InvalidLimit, InvalidDocument: a value or a pair of values makes no sense.
    """
    work = Checked(dict(host), can)
    _memory(work, update=update)
    _processors(work)
    _sets(work)
    _block(work)
    _ulimits(work)
    return work.host, tuple(work.warnings)


def _memory(work: Checked, *, update: bool) -> None:
    host, can = work.host, work.can
    if number(host, "Memory") and number(host, "Memory") < MINIMUM:
        raise InvalidLimit("Minimum memory limit allowed is 6MB")
    work.drop(_unable("memory limit capabilities", "Limitation discarded."), can.memory, "Memory", "MemorySwap")
    memory, swap = number(host, "Memory"), number(host, "MemorySwap")
    if memory > 0 and swap != -1 and not can.swap:
        work.warnings.append(_unable("swap limit capabilities", "Memory limited without swap."))
        swap = host["MemorySwap"] = -1
    if 0 < swap < memory:
        raise InvalidLimit("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not memory and swap > 0 and not update:
        raise InvalidLimit("You should always set the Memory limit when using Memoryswap limit, see usage")
    _swappiness(work)
    work.drop(_unable("memory soft limit capabilities", "Limitation discarded."), can.reservation, "MemoryReservation")
    reservation = number(host, "MemoryReservation")
    if 0 < reservation < MINIMUM:
        raise InvalidLimit("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise InvalidLimit("Minimum memory limit can not be less than memory reservation limit, see usage")
    if memory > 0 and not swap and not update:
        host["MemorySwap"] = min(memory * 2, _MOST)
    # The kernel took it away (5.16); Docker's API does not know it since 1.42.
    work.drop(_unable("kernel memory limit capabilities", "Limitation discarded."), False, "KernelMemory", "KernelMemoryTCP")
    _out_of_memory(work)
    work.drop(_unable("PIDs limit capabilities", "PIDs limit discarded."), can.pids, "PidsLimit")
    if host.get("PidsLimit") is not None and number(host, "PidsLimit") <= 0:
        host["PidsLimit"] = 0 if update else None  # not limited
    if number(host, "PidsLimit") > _MOST_PIDS:
        raise InvalidLimit(f"Invalid value: {number(host, 'PidsLimit')}, the kernel takes a PIDs limit of at most {_MOST_PIDS}")


def _swappiness(work: Checked) -> None:
    if work.host.get("MemorySwappiness") == -1:
        work.host["MemorySwappiness"] = None
    if work.host.get("MemorySwappiness") is None:
        return
    if not work.can.swappiness:
        work.warnings.append(_unable("memory swappiness capabilities", "Memory swappiness discarded."))
        work.host["MemorySwappiness"] = None
        return
    value = number(work.host, "MemorySwappiness")
    if not 0 <= value <= 100:
        raise InvalidLimit(f"Invalid value: {value}, valid memory swappiness range is 0-100")


def _out_of_memory(work: Checked) -> None:
    host, can = work.host, work.can
    if not can.oom_kill_disable and host.get("OomKillDisable") is not None:
        if host["OomKillDisable"]:
            work.warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        host["OomKillDisable"] = None
    if host.get("OomKillDisable") and not number(host, "Memory"):
        work.warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
        )
    score = number(host, "OomScoreAdj")
    if not -1000 <= score <= 1000:
        raise InvalidLimit(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    if score < can.lowest_oom_score:
        work.warnings.append(
            f"The score for running out of memory will be {can.lowest_oom_score}, not {score}: this host does not let the engine lower it."
        )


def _processors(work: Checked) -> None:
    host, can = work.host, work.can
    nano, period, quota = number(host, "NanoCpus"), number(host, "CpuPeriod"), number(host, "CpuQuota")
    if nano > 0 and period > 0:
        raise InvalidLimit("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano > 0 and quota > 0:
        raise InvalidLimit("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if nano > 0 and not can.quota:
        raise InvalidLimit("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
    if nano and not _LEAST_CPU <= nano <= can.processors * 10**9:
        raise InvalidLimit(f"range of CPUs is from 0.01 to {can.processors}.00, as there are only {can.processors} CPUs available")
    _realtime(work)
    shares = number(host, "CpuShares")
    if shares < 0:
        raise InvalidLimit(f"invalid CPU shares ({shares}): value must be a positive integer")
    if 0 < shares < _LEAST_SHARES:
        raise InvalidLimit(f"the minimum allowed cpu-shares is {_LEAST_SHARES}")
    if shares > _MOST_SHARES:
        raise InvalidLimit(f"the maximum allowed cpu-shares is {_MOST_SHARES}")
    work.drop(_unable("CPU shares", "Shares discarded."), can.shares, "CpuShares")
    work.drop("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.", can.quota, "CpuPeriod", "CpuQuota")
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidLimit("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        raise InvalidLimit("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    work.drop("linux does not support CPU percent. Percent discarded.", False, "CpuPercent")


def _realtime(work: Checked) -> None:
    period, runtime = number(work.host, "CpuRealtimePeriod"), number(work.host, "CpuRealtimeRuntime")
    if (period or runtime) and not work.can.realtime:
        raise InvalidLimit("kernel does not support CPU real-time scheduler")
    if period and runtime > period:
        raise InvalidLimit("cpu real-time runtime cannot be higher than cpu real-time period")


def _sets(work: Checked) -> None:
    work.drop(_unable("cpuset", "Cpuset discarded."), work.can.cpuset, "CpusetCpus", "CpusetMems")
    for key, words, kind, there in (("CpusetCpus", "cpus", "CPUs", work.can.cpus), ("CpusetMems", "mems", "memory nodes", work.can.mems)):
        wanted = text(work.host, key)
        try:
            missing = numbers(wanted) - there
        except ValueError:
            raise InvalidLimit(f"Invalid value {wanted[:100]} for cpuset {words}") from None
        if missing:
            raise InvalidLimit(f"Requested {kind} are not available - requested {wanted[:100]}, available: {ranges(there)}")


def ranges(values: frozenset[int]) -> str:
    """Numbers as `0-3,7`."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and parts[-1][1] == value - 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _block(work: Checked) -> None:
    host, can = work.host, work.can
    work.drop(_unable("Block I/O weight", "Weight discarded."), can.weight, "BlkioWeight")
    weight = number(host, "BlkioWeight")
    if weight and not 10 <= weight <= 1000:
        raise InvalidLimit("Range of blkio weight is from 10 to 1000")
    for key, words in (("IOMaximumBandwidth", "maximum bandwidth"), ("IOMaximumIOps", "maximum IOPs")):
        if number(host, key):
            raise InvalidLimit(f"invalid option: QoS {words} configuration is not supported on linux")
    work.drop(_unable("Block I/O weight_device", "Weight-device discarded."), can.weight_device, "BlkioWeightDevice")
    for key, words, short in _THROTTLES:
        if negative := [device for device in objects(host, key) if number(device, "Rate") < 0]:
            raise InvalidLimit(f"invalid rate for device {text(negative[0], 'Path')[:100]}: {number(negative[0], 'Rate')} is less than 0")
        work.drop(_unable(words, f"{short} discarded."), can.throttle, key)


def check_ulimit(name: str, soft: int, hard: int) -> None:
    """-1 is no limit. Raises InvalidLimit."""
    if name not in RLIMITS:
        raise InvalidLimit(f"invalid ulimit type: {name[:100]}")
    if hard != -1 and (soft > hard or soft == -1):
        raise InvalidLimit(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")


def _ulimits(work: Checked) -> None:
    for limit in objects(work.host, "Ulimits"):
        name, soft, hard = text(limit, "Name"), number(limit, "Soft"), number(limit, "Hard")
        check_ulimit(name, soft, hard)
        highest = work.can.hard_limits.get(name)
        if highest is not None and (hard == -1 or hard > highest):
            work.warnings.append(f"The ulimit {name} will be {highest}, not {hard}: this host does not let the engine raise it.")


def _unable(what: str, then: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. {then}"


def merged(host: Document, changes: Document) -> dict[str, Any]:
    """A container's host configuration after an update that was checked: what was given and is not zero replaces what was.

    Raises:
        InvalidLimit: the changes contradict what holds already.
    """
    _refuse_conflicts(host, changes)
    given = {key: value for key, value in changes.items() if key in KEYS and (value or (key == "PidsLimit" and value is not None))}
    return {**host, **given}


def _refuse_conflicts(host: Mapping[str, Any], changes: Document) -> None:
    for new, old, words in (
        ("NanoCpus", "CpuPeriod", "Nano CPUs cannot be updated as CPU Period has already been set"),
        ("NanoCpus", "CpuQuota", "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ("CpuPeriod", "NanoCpus", "CPU Period cannot be updated as NanoCPUs has already been set"),
        ("CpuQuota", "NanoCpus", "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ):
        if number(changes, new) > 0 and number(host, old) > 0:
            raise InvalidLimit(f"Conflicting options: {words}")
    memory, swap = number(changes, "Memory"), number(changes, "MemorySwap")
    # Without swap limits of its own the older one is 0 or -1, which Docker compares all the same.
    if memory and not swap and memory > number(host, "MemorySwap") and number(host, "MemorySwap") > 0:
        raise InvalidLimit("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
