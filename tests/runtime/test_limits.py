"""What is written where for limits, on version 1, hybrid and pure version 2: groups made in fake trees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lamina.runtime import limits
from lamina.runtime.abilities import _weighs, abilities
from lamina.runtime.cgroup import Cgroup, CgroupUnavailable, Hierarchy

FULL: dict[str, Any] = {
    "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20, "swappiness": 10, "disableOOMKiller": True},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0", "realtimePeriod": 1000, "realtimeRuntime": 500},
    "pids": {"limit": 20},
    "blockIO": {"weight": 300, "weightDevice": [{"major": 8, "minor": 0, "weight": 200}], "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 5}]},
}  # fmt: skip
V1_FILES = {
    "memory": [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
        "memory.swappiness",
        "memory.oom_control",
    ],
    "cpu": ["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.rt_period_us", "cpu.rt_runtime_us"],
    "cpuset": ["cpuset.cpus", "cpuset.mems"],
    "pids": ["pids.max"],
    "blkio": ["blkio.weight", "blkio.weight_device", "blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device"],
}
V2_FILES = [
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "io.max",
    "memory.events",
    "cgroup.controllers",
]


class Tree:
    """A fake cgroup file system whose one group, /c, keeps every write in order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, v1: tuple[str, ...] = (), v2: tuple[str, ...] = ()) -> None:
        self.root, self.written = root, list[tuple[str, str]]()
        found = []
        for controller in v1:
            self._files(root / controller / "c", V1_FILES[controller])
            self._files(root / controller, V1_FILES[controller])
            found.append(Hierarchy(str(root / controller), [controller], unified=False))
        if v2:
            self._files(root / "unified/c", V2_FILES)
            found.append(Hierarchy(str(root / "unified"), v2, unified=True))
        self.group = Cgroup("/c", found)
        self.hierarchies = found
        monkeypatch.setattr("lamina.runtime.cgroup._write", self._write)

    @staticmethod
    def _files(directory: Path, names: list[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            (directory / name).write_text("max 100000\n" if name == "cpu.max" else "")

    def _write(self, path: str, value: str) -> None:
        Path(path).write_text(value)
        self.written.append((path.rpartition("/")[2], value))


def test_version_1_gets_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, v1=tuple(V1_FILES))
    tree.group.limit(FULL)
    assert tree.written == [
        ("memory.memsw.limit_in_bytes", str(96 << 20)), ("memory.limit_in_bytes", str(64 << 20)), ("memory.soft_limit_in_bytes", str(32 << 20)), ("memory.swappiness", "10"),
        ("memory.oom_control", "1"), ("cpu.rt_period_us", "1000"), ("cpu.rt_runtime_us", "500"), ("cpu.shares", "512"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000"),
        ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"), ("pids.max", "20"), ("blkio.weight", "300"), ("blkio.weight_device", "8:0 200"),
        ("blkio.throttle.read_bps_device", "8:0 1000"), ("blkio.throttle.write_iops_device", "8:16 5"),
    ]  # fmt: skip


def test_version_2_gets_what_means_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, v2=("memory", "cpu", "cpuset", "pids", "io"))
    tree.group.limit(FULL)
    assert tree.written == [
        ("memory.swap.max", str(32 << 20)), ("memory.max", str(64 << 20)), ("memory.low", str(32 << 20)), ("cpu.weight", "20"), ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"), ("pids.max", "20"), ("io.weight", "default 2930"), ("io.weight", "8:0 1920"), ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:16 wiops=5"),
    ]  # fmt: skip


def test_on_a_hybrid_host_each_controller_is_where_it_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, v1=("memory",), v2=("cpu", "cpuset", "pids", "io"))
    tree.group.limit({"memory": {"limit": 5}, "cpu": {"quota": -1}, "pids": {"limit": -1}})
    assert tree.written == [("memory.limit_in_bytes", "5"), ("cpu.max", "max 100000"), ("pids.max", "max")]
    with pytest.raises(CgroupUnavailable, match="blkio"):
        Cgroup("/c", tree.hierarchies[:1]).limit({"blockIO": {"weight": 20}})
    with pytest.raises(CgroupUnavailable, match=f"the control group {tmp_path}/memory/gone is gone"):
        Cgroup("/gone", tree.hierarchies).limit({"memory": {"limit": 5}})


@pytest.mark.parametrize(
    ("before", "limit", "swap", "first"),
    [
        ("100", 50, 80, "limit"),
        ("100", 200, 300, "swap"),
        ("100", 50, -1, "swap"),
        ("100", -1, 0, "swap"),
        ("100", 0, 80, "swap"),
        ("100", 50, 0, "limit"),
    ],
)
def test_version_1_is_never_asked_for_more_memory_than_memory_and_swap(before: str, limit: int, swap: int, first: str) -> None:
    asked = {"memory": {"limit": limit, "swap": swap}}
    files = [files[0] for files, _ in limits.writes("memory", asked, lambda _: before, unified=False)]
    assert files[0] == {"limit": "memory.limit_in_bytes", "swap": "memory.memsw.limit_in_bytes"}[first]


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ({"limit": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"swap": 300}, [("memory.swap.max", "200")]),
        ({"limit": 100, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "100")]),
        ({"limit": 100, "swap": 100}, [("memory.swap.max", "0"), ("memory.max", "100")]),
    ],
)
def test_version_2_limits_swap_alone(memory: dict[str, int], expected: list[tuple[str, str]]) -> None:
    found = limits.writes("memory", {"memory": memory}, lambda file: "100\n" if file == "memory.max" else "", unified=True)
    assert [(files[0], value) for files, value in found] == expected


def test_a_weight_goes_to_bfq_where_that_is_the_scheduler() -> None:
    found = list(
        limits.writes("blkio", {"blockIO": {"weight": 300}}, lambda file: "default 100" if file == "io.bfq.weight" else "", unified=True)
    )
    assert found == [(("io.bfq.weight", "io.weight"), "300")]


def test_abilities_are_what_the_trees_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = abilities(Tree(tmp_path / "1", monkeypatch, v1=tuple(V1_FILES)).hierarchies)
    new = abilities(Tree(tmp_path / "2", monkeypatch, v2=("memory", "cpu", "cpuset", "pids", "io")).hierarchies)
    bare = abilities(Tree(tmp_path / "3", monkeypatch, v1=("memory",)).hierarchies)
    assert (old.version, old.swappiness, old.oom_kill_disable, old.realtime, old.weight, old.throttle, old.pids) == (
        "v1",
        True,
        True,
        True,
        True,
        True,
        True,
    )
    assert (new.version, new.swappiness, new.oom_kill_disable, new.realtime, new.weight, new.throttle, new.pids) == (
        "v2",
        False,
        False,
        False,
        True,
        True,
        True,
    )
    assert (bare.memory, bare.quota, bare.cpuset, bare.pids, bare.throttle) == (True, False, False, False, False)


def test_version_2_weighs_single_disks_only_where_a_scheduler_or_the_cost_model_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = tmp_path / "scheduler"
    root = Cgroup("", Tree(tmp_path, monkeypatch, v2=("io",)).hierarchies)
    assert not _weighs(root, str(scheduler))
    scheduler.write_text("none [bfq] mq-deadline\n")
    assert _weighs(root, str(scheduler))
    scheduler.write_text("[none] bfq\n")
    assert not _weighs(root, str(scheduler))
    (tmp_path / "unified/io.cost.qos").write_text("254:0 enable=1 ctrl=auto\n")
    assert _weighs(root, str(scheduler))


def test_version_2_counts_kills_in_memory_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, v2=("memory",))
    watch = tree.group.watch_oom()
    assert watch is not None
    (tmp_path / "unified/c/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert tree.group.oom_kills() == 2
    assert os.read(watch, 4096)
    os.close(watch)
