"""Control groups on what this host has mounted; conversions and device programs as data."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux import bpf, inotify
from lamina.runtime import cgroup
from lamina.runtime.cgroup import Cgroup, Hierarchy

HYBRID = """\
24 1 0:21 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
25 24 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
26 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 24 0:24 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
28 24 0:25 / /sys/fs/cgroup/nowhere rw,relatime - cgroup2 cgroup2 rw
"""
PURE = "30 1 0:26 / /sys/fs/cgroup/absent rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
DENY_ALL = {"allow": False, "access": "rwm"}


def test_hierarchies_are_read_from_mountinfo() -> None:
    found = cgroup.hierarchies(HYBRID)
    assert [(hierarchy.path.rsplit("/", 1)[1], hierarchy.controllers) for hierarchy in found[:3]] == [
        ("memory", ("memory",)), ("cpu,cpuacct", ("cpu", "cpuacct")), ("systemd", ("name=systemd",)),
    ]  # fmt: skip
    assert (cgroup.mode(found), cgroup.mode(found[:3]), cgroup.mode(cgroup.hierarchies(PURE)), cgroup.mode(())) == (
        "hybrid",
        "v1",
        "v2",
        "none",
    )


def test_killing_thaws_what_version_1_has_frozen_and_passes_over_what_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "freezer" / "box"
    group.mkdir(parents=True)
    (group / "freezer.state").write_text("FROZEN\n")
    (group / "cgroup.procs").write_text("0\n")
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    box = Cgroup("/box", [Hierarchy(str(tmp_path / "freezer"), ["freezer"], unified=False)])
    assert box.frozen
    box.kill()
    assert ((group / "freezer.state").read_text()[:6], killed) == ("THAWED", [])


def test_a_parent_that_another_launcher_makes_at_this_moment_has_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files(directory: str, value: str = "") -> None:
        for name in ("cpuset.cpus", "cpuset.mems"):
            Path(directory, name).write_text(value)

    make = os.mkdir

    def made(path: str, mode: int = 0o777) -> None:
        make(path, mode)
        files(path)

    files(str(tmp_path), "0-1\n")
    monkeypatch.setattr(os, "mkdir", made)
    os.mkdir(f"{tmp_path}/lamina")  # whose maker has not come further yet
    Cgroup.create("/lamina/box", {}, [Hierarchy(str(tmp_path), ["cpuset"], unified=False)])
    assert [(tmp_path / name / "cpuset.cpus").read_text() for name in ("lamina", "lamina/box")] == ["0-1", "0-1"]


def test_a_limited_container_starts_where_no_inotify_instance_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise OSError(24, "Too many open files")

    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "memory.events").write_text("oom_kill 0\n")
    monkeypatch.setattr(inotify, "instance", none_left)
    assert Cgroup("/box", [Hierarchy(str(tmp_path), ["memory"], unified=True)]).watch_oom() is None


def run_program(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Interpret a device program."""
    registers, position = [0] * 11, 0
    context = {0: access << 16 | kind, 4: major, 8: minor}
    while True:
        opcode, both, offset, value = bpf._INSTRUCTION.unpack_from(program, position * 8)
        destination, source = both & 15, both >> 4
        position += 1
        match opcode:
            case 0x61:
                registers[destination] = context[offset]
            case 0x54:
                registers[destination] &= value & 0xFFFFFFFF
            case 0x74:
                registers[destination] >>= value
            case 0xBC:
                registers[destination] = registers[source]
            case 0xB4:
                registers[destination] = value
            case 0x55:
                position += offset if registers[destination] != value else 0
            case 0x5D:
                position += offset if registers[destination] != registers[source] else 0
            case 0x15:
                position += offset if registers[destination] == value else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(hex(opcode))


def test_a_device_program_decides_by_the_last_rule_that_fits() -> None:
    rules = [DENY_ALL, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"},
             {"allow": True, "type": "c", "major": 136, "access": "rw"}, {"allow": False, "type": "c", "major": 136, "minor": 9, "access": "w"}]  # fmt: skip
    program = bpf.device_program(rules)
    mknod, read, write = 1, 2, 4
    assert run_program(program, 2, read | write, 1, 3) == 1
    assert run_program(program, 1, read, 1, 3) == 0
    assert run_program(program, 2, read, 1, 1) == 0
    assert run_program(program, 2, mknod, 1, 1) == 1
    assert run_program(program, 2, mknod | read, 1, 1) == 0
    assert run_program(program, 2, read | write, 136, 5) == 1
    assert run_program(program, 2, read | write, 136, 9) == 0
    assert run_program(program, 2, read, 136, 9) == 1


def reached(program: bytes) -> set[int]:
    """The instructions that some way through a device program comes by."""
    seen, ways = set[int](), [0]
    while ways:
        position = ways.pop()
        if position in seen:
            continue
        seen.add(position)
        opcode, _, offset, _ = bpf._INSTRUCTION.unpack_from(program, position * 8)
        if opcode != bpf._EXIT:
            ways.append(position + 1)
        if opcode in (bpf._UNLESS_EQUAL, bpf._UNLESS_EQUAL_REGISTER, bpf._IF_EQUAL):
            ways.append(position + 1 + offset)
    return seen


@pytest.mark.parametrize(
    "rules", [[DENY_ALL], [{"allow": True}], [{"allow": True, "type": "c"}], [DENY_ALL, {"allow": True, "type": "b", "access": "m"}]]
)
def test_a_device_program_has_no_instruction_that_is_never_reached(rules: list[dict[str, object]]) -> None:
    program = bpf.device_program(rules)
    assert reached(program) == set(range(len(program) // 8))


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.root
def test_a_group_takes_limits_holds_processes_freezes_kills_and_goes(sleeper: int) -> None:
    group = Cgroup.create(
        f"/lamina-test/{os.getpid()}", {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}, "cpu": {"shares": 512}, "devices": [DENY_ALL]}
    )
    try:
        group.attach(sleeper)
        assert group.pids() == [sleeper]
        group.freeze(frozen=True)
        group.freeze(frozen=False)
        assert group.oom_kills() == 0
        group.kill()
        os.waitpid(sleeper, 0)
        assert group.pids() == []
    finally:
        group.remove()
    assert not any(os.path.exists(directory) for directory in group.directories())
    Cgroup("/lamina-test", cgroup.here()).remove()


@pytest.mark.parametrize(
    ("kind", "order", "told"), [("freezer", "freezer.state", "freezer.state"), ("unified", "cgroup.freeze", "cgroup.events")]
)
def test_a_group_that_is_gone_counts_as_thawed_but_not_as_frozen(
    kind: str, order: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Cgroup("/gone", [cgroup.Hierarchy(str(tmp_path), [kind], unified=kind == "unified")])
    waited = list[float]()

    def removed(path: str, *_: str) -> None:
        """Its monitor is faster than who waits for the change."""
        assert path == f"{tmp_path}/gone/{order}"
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)

    monkeypatch.setattr(cgroup.time, "sleep", waited.append)
    group.freeze(frozen=False)
    monkeypatch.setattr(cgroup, "_write", removed)
    for frozen in (False, True):
        (tmp_path / "gone").mkdir()
        (tmp_path / "gone" / told).write_text("")
        with pytest.raises(FileNotFoundError) if frozen else contextlib.nullcontext():
            group.freeze(frozen=frozen)
    assert waited == []


def test_a_group_whose_processes_take_their_time_to_end_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Cgroup("/busy", [cgroup.Hierarchy(str(tmp_path), ["pids"], unified=False)])
    (tmp_path / "busy").mkdir()
    remove, tries, killed = os.rmdir, iter(range(1000)), list[bool]()

    def busy(path: str) -> None:
        if next(tries, None) is not None:
            raise OSError(errno.EBUSY, path)
        remove(path)

    monkeypatch.setattr(os, "rmdir", busy)
    monkeypatch.setattr(cgroup.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Cgroup, "kill", lambda self: killed.append(True))
    group.remove()
    assert not (tmp_path / "busy").exists() and killed == [True]


@pytest.mark.root
def test_a_group_goes_with_what_was_made_below_it() -> None:
    group = Cgroup.create(f"/lamina-test/deep/{os.getpid()}", {})
    for directory in group.directories():
        os.makedirs(f"{directory}/of its own/below")
    group.remove()
    assert not any(os.path.exists(directory) for directory in group.directories())
    for path in ("/lamina-test/deep", "/lamina-test"):
        Cgroup(path, cgroup.here()).remove()


@pytest.mark.root
def test_what_cannot_be_limited_is_named_and_nothing_remains() -> None:
    only = tuple(hierarchy for hierarchy in cgroup.here() if "memory" not in hierarchy.controllers)
    with pytest.raises(cgroup.CgroupUnavailable, match="memory"):
        Cgroup.create("/lamina-test/none", {"memory": {"limit": 1 << 20}}, only)
    group = Cgroup("/lamina-test/none", only)
    assert not any(os.path.exists(directory) for directory in group.directories())
    Cgroup("/lamina-test", cgroup.here()).remove()


@pytest.mark.root
def test_device_rules_hold() -> None:
    group = Cgroup.create(
        f"/lamina-test/{os.getpid()}", {"devices": [DENY_ALL, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}
    )
    try:
        script = "read x; head -c 0 /dev/null && echo null; head -c 1 /dev/zero 2>/dev/null || echo refused"
        process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        group.attach(process.pid)
        assert process.communicate(b"\n")[0] == b"null\nrefused\n"
    finally:
        group.remove()
    Cgroup("/lamina-test", cgroup.here()).remove()
