"""What this host's control groups can limit, and what the engine itself may raise: read once, at the engine's start."""

from __future__ import annotations

import glob
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lamina.linux import capability
from lamina.runtime import cgroup
from lamina.runtime.cgroup import Cgroup, Hierarchy

_SYS_RESOURCE = 24
_UNLIMITED = 1 << 63
RLIMITS = {
    "core": 4,
    "cpu": 0,
    "data": 2,
    "fsize": 1,
    "locks": 10,
    "memlock": 8,
    "msgqueue": 12,
    "nice": 13,
    "nofile": 7,
    "nproc": 6,
    "rss": 5,
    "rtprio": 14,
    "rttime": 15,
    "sigpending": 11,
    "stack": 3,
}
"""Resource limits by Docker's names, with the kernel's numbers."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """Each flag says that the kernel has the file for a limit. `cpus` and `mems` are the processors and memory nodes there are.

    `hard_limits` are the resource limits (ulimits) that the engine cannot raise further, by Docker's names; `lowest_oom_score` is how low
    it may set a process's score.
    """

    version: str = "v2"
    memory: bool = True
    swap: bool = True
    reservation: bool = True
    swappiness: bool = False
    oom_kill_disable: bool = False
    shares: bool = True
    quota: bool = True
    realtime: bool = False
    cpuset: bool = True
    pids: bool = True
    weight: bool = True
    weight_device: bool = True
    throttle: bool = True
    cpus: frozenset[int] = frozenset({0})
    mems: frozenset[int] = frozenset({0})
    processors: int = 1
    hard_limits: Mapping[str, int] = field(default_factory=dict)
    lowest_oom_score: int = -1000


def abilities(found: Sequence[Hierarchy] | None = None) -> Abilities:
    """Look at this host, or at the hierarchies given."""
    hierarchies = cgroup.here() if found is None else found
    root = Cgroup("", hierarchies)
    unified = next((hierarchy.controllers for hierarchy in hierarchies if hierarchy.unified), ())
    free = bool(capability.held()[0] >> _SYS_RESOURCE & 1)

    def has(controller: str, *files: str) -> bool:
        if root.unified(controller):
            return ("io" if controller == "blkio" else controller) in unified
        return any(root.has(controller, file) for file in files)

    def only_1(controller: str, file: str) -> bool:
        return not root.unified(controller) and has(controller, file)

    return Abilities(
        version=cgroup.mode(hierarchies),
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        reservation=has("memory", "memory.soft_limit_in_bytes"),
        swappiness=only_1("memory", "memory.swappiness"),
        oom_kill_disable=only_1("memory", "memory.oom_control"),
        shares=has("cpu", "cpu.shares"),
        quota=has("cpu", "cpu.cfs_quota_us"),
        realtime=only_1("cpu", "cpu.rt_runtime_us"),
        cpuset=has("cpuset", "cpuset.cpus"),
        pids=has("pids", "pids.max", "cgroup.procs"),
        weight=has("blkio", "blkio.weight", "blkio.bfq.weight"),
        weight_device=_weighs(root) if root.unified("blkio") else has("blkio", "blkio.weight_device", "blkio.bfq.weight_device"),
        throttle=has("blkio", "blkio.throttle.read_bps_device"),
        cpus=numbers(_first(root, "cpuset.cpus.effective", "cpuset.cpus") or _online("cpu")),
        mems=numbers(_first(root, "cpuset.mems.effective", "cpuset.mems") or _online("node")),
        processors=os.cpu_count() or 1,
        hard_limits={} if free else _hard_limits(),
        lowest_oom_score=-1000 if free else _own_oom_score(),
    )


def numbers(text: str) -> frozenset[int]:
    """`0-3,7` as numbers.

    Raises:
        ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) > 1 << 16:
            raise ValueError(part)
        if int(last or first) < int(first):
            raise ValueError(part)
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _weighs(root: Cgroup, schedulers: str = "/sys/block/*/queue/scheduler") -> bool:
    """Whether version 2 takes weights for single disks: where one has BFQ, or the cost model is turned on (io.cost.qos is the root's
    only)."""
    if "enable=1" in root.read("blkio", "io.cost.qos"):
        return True
    for path in glob.glob(schedulers):
        with suppress(OSError), open(path, encoding="ascii") as file:
            if "[bfq]" in file.read():
                return True
    return False


def _first(root: Cgroup, *files: str) -> str:
    return next((text for file in files if (text := root.read("cpuset", file).strip())), "")


def _online(kind: str) -> str:
    try:
        with open(f"/sys/devices/system/{kind}/online", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "0"


def _hard_limits() -> dict[str, int]:
    found = {name: resource.getrlimit(number)[1] for name, number in RLIMITS.items()}
    return {name: hard for name, hard in found.items() if 0 <= hard < _UNLIMITED}


def _own_oom_score() -> int:
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())
