"""Every system call between clone3 and execve: what they are, and that a container starts with all of them or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Box, eventually
from lamina.linux import seccomp

HERE = Path(__file__).parent
pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")]

_HOUSEKEEPING = {"brk", "mmap", "munmap", "madvise", "mremap", "mprotect", "clock_gettime"}
"""The interpreter's own, depending on its version; the clock is a system call only where the vDSO cannot read it."""


def trace(box: Box, *options: str, ids: tuple[int, int] | None = None) -> tuple[list[str], dict[str, object]]:
    """Launch `touch /ran` in a default container under strace; init's calls, and how it went. `ids`: with a user namespace of its own."""
    launch = box.launch(["/bin/touch", "/ran"], ids=ids)
    document, fds = box.runtime._container(launch)
    (box.directory / "filter.bpf").write_bytes(os.pread(fds["filter"], 1 << 20, 0))
    (box.directory / "document.json").write_text(json.dumps(document))
    held, hold = os.pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, "-S", str(HERE / "driver.py"), str(box.directory), str(held)],
        pass_fds=[held], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    os.close(held)
    eventually(lambda: driver.poll() is not None or init_below(driver.pid))
    assert driver.poll() is None, driver.communicate()
    out = box.directory / "trace"
    strace = subprocess.Popen(["strace", "-s", "200", "-o", str(out), *options, "-p", init_below(driver.pid)], stderr=subprocess.PIPE)
    assert strace.stderr is not None
    assert b"attached" in strace.stderr.readline()
    os.write(hold, b"+")
    os.close(hold)
    said, errors = driver.communicate(timeout=120)
    strace.wait(120)
    assert said, errors
    lines = [line for line in out.read_text().splitlines() if "(" in line and line.split("(")[0] not in _HOUSEKEEPING]
    # The first call is the wait for this function.
    start = (
        next(index for index, line in enumerate(lines) if "prctl(PR_SET_PDEATHSIG" in line)
        if any("PDEATHSIG" in line for line in lines)
        else 0
    )
    end = next((index for index, line in enumerate(lines) if line.startswith("execve(") and line.endswith("= 0")), len(lines) - 1)
    return lines[start : end + 1], json.loads(said)


def init_below(pid: int) -> str:
    """The child of `pid` in a process namespace of its own, "" while there is none: mounting may fork another one before."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if os.readlink(f"/proc/{child}/ns/pid") != os.readlink("/proc/self/ns/pid"):
                return child
    return ""


def plain(line: str) -> str:
    """A call without what differs from run to run: descriptors, addresses, sizes, the directory's name."""
    line = re.sub(r"\s+= (-1 (\w+)|\S+).*", lambda match: f" = {match.group(2)}" if match.group(2) else "", line)
    line = re.sub(r"/\* \d+ vars \*/", "", re.sub(r"0x[0-9a-f]{5,}", "ADDRESS", line))
    line = re.sub(r"st_size=\d+|len=\d+", "SIZE", line)
    line = re.sub(
        r"\b(fsconfig|fsmount|move_mount|openat2|mknodat|fchmodat|symlinkat|mkdirat|close|fchdir|newfstatat|fcntl|open_tree|mount_setattr|ioctl|write|read)\(\d+",
        r"\1(FD",
        line,
    )
    # As newer C libraries ask for the same.
    line = re.sub(r"^fstat\(\d+, (.*)\)", r'newfstatat(FD, "", \1, AT_EMPTY_PATH)', line)
    line = re.sub(r'move_mount\(FD, "", \d+', 'move_mount(FD, "", FD', line)
    line = re.sub(r'(symlinkat\("[^"]*"), \d+', r"\1, FD", line)
    line = re.sub(r"dup2\(\d+, ", "dup2(FD, ", line)
    return line.rstrip()


def without_the_kernels_choice(lines: list[str]) -> list[str]:
    """Which paths there are to mask or to fix depends on the kernel: only that each is looked for counts. So does the number of
    version 1 hierarchies that are entered."""
    enter = ['write(FD, "0", 1)', "close(FD)"]
    while lines[1:5] == enter * 2:
        lines = lines[:1] + lines[3:]
    start = next(index for index, line in enumerate(lines) if '"dev/null"' in line)
    end = next(index for index, line in enumerate(lines) if line.startswith("read("))
    looked = [line.replace(" = ENOENT", "") for line in lines[start:end] if line.startswith("openat2(")]
    return lines[:start] + looked + lines[end:]


def test_the_calls_are_those_of_the_golden_file(box: Box) -> None:
    mode = "v1" if Path("/sys/fs/cgroup/pids").exists() else "v2"
    profile = ".apparmor" if box.runtime._has_profile else ""
    golden = HERE / "confinement" / f"trace.{mode}{profile}.txt"
    lines, result = trace(box)
    assert result == {"status": 0}
    found = without_the_kernels_choice([plain(line) for line in lines])
    if os.environ.get("LAMINA_WRITE_GOLDEN"):
        golden.write_text("\n".join(found) + "\n")
    if not golden.exists():
        pytest.skip(f"no trace was recorded for control groups {mode}{profile}")
    assert found == golden.read_text().splitlines()


def inject(boxes: Callable[[], Box], call: str, number: int, ids: tuple[int, int] | None = None) -> tuple[Box, dict[str, object]]:
    """Launch with the call of this name and number (from 1) failing with EPERM; the box, and how it went."""
    # The wait for this test is a read that comes before; strace counts it or not, as it came in the middle of it or between two calls.
    before = 1 if call == "read" else 0
    for attempt in range(10):
        box = boxes()
        seen, result = trace(box, "-e", f"inject={call}:error=EPERM:when={number + before - before * (attempt % 2)}", ids=ids)
        same = [row for row in seen if row.split("(")[0] == call]
        if "PDEATHSIG" in "".join(seen) and len(same) >= number and "(INJECTED)" in same[number - 1]:
            return box, result
        shutil.rmtree(box.directory)
    raise AssertionError(f"{call} number {number} was not hit")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_container_whose_setting_up_fails_anywhere_does_not_start(boxes: Callable[[], Box], tmp_path: Path) -> None:
    lines, _ = trace(boxes())
    counts: Counter[str] = Counter()
    before, survived = mounts(tmp_path), []
    for line in lines:
        call = line.split("(")[0]
        counts[call] += 1
        box, result = inject(boxes, call, counts[call])
        if result.get("kind") != ("not_executable" if call == "execve" else "failed") or (box.directory / "upper/ran").exists():
            survived.append(f"{call} number {counts[call]}: {line}")
        shutil.rmtree(box.directory)
        assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina-test/{box.name}"))
    assert survived == []
    assert mounts(tmp_path) == before


def mounts(place: Path) -> list[str]:
    """Mounts at or of something below a place. Others on this machine come and go as they like."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nor_does_one_with_a_user_namespace_where_its_own_calls_fail(boxes: Callable[[], Box]) -> None:
    ids = (1_000_000, 65536)
    usual = {plain(line) for line in trace(boxes())[0]}
    lines, done = trace(boxes(), ids=ids)
    if "cannot be used here" in str(done):
        pytest.skip(str(done["message"]))
    assert done == {"status": 0}
    counts: Counter[str] = Counter()
    survived = []
    for line in lines:
        call = line.split("(")[0]
        counts[call] += 1
        if plain(line) in usual:
            continue
        box, result = inject(boxes, call, counts[call], ids)
        if result.get("kind") != "failed" or (box.directory / "upper/ran").exists():
            survived.append(f"{call} number {counts[call]}: {line}")
        shutil.rmtree(box.directory)
    assert survived == [] and {"setgroups", "setresuid", "fsconfig"} <= set(counts)


def test_the_filter_is_the_last_but_the_privileges(box: Box) -> None:
    lines, _ = trace(box)
    names = [line.split("(")[0] for line in lines]
    assert names.index("seccomp") < names.index("setresuid") < names.index("capset") < names.index("execve")
    assert seccomp.compile_filter  # the filter itself is compared in tests/linux/test_seccomp.py


@pytest.mark.parametrize("ids", [None, (1_000_000, 65536)], ids=["", "user namespace"])
def test_on_kernels_whose_overlayfs_takes_no_descriptors_no_path_is_shown_either(box: Box, ids: tuple[int, int] | None) -> None:
    (box.directory / "out").mkdir()
    script = (
        "cat /proc/self/mountinfo > /info; chown 7:8 /bin/busybox; rm /bin/true; echo x > /dev/null; stat -c %u:%g /bin/sh /info > /owners"
    )
    launch = box.launch(["sh", "-c", script], security=["apparmor=unconfined"], ids=ids)
    document, fds = box.runtime._container(launch)
    (box.directory / "filter.bpf").write_bytes(os.pread(fds["filter"], 1 << 20, 0))
    (box.directory / "document.json").write_text(json.dumps(document))
    held, hold = os.pipe()
    os.write(hold, b"+")
    command = [sys.executable, "-S", str(HERE / "driver.py"), str(box.directory), str(held), "old"]
    done = subprocess.run(
        command, pass_fds=[held], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False
    )
    os.close(held)
    os.close(hold)
    if ids and "cannot be used here" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.stdout == '{"status": 0}\n', done.stderr
    shown = (box.directory / "upper/info").read_text()
    root = next(line for line in shown.splitlines() if line.split()[4] == "/")
    assert "lowerdir=0:1" in root and str(box.directory / "upper") not in shown and str(box.image) not in shown
    assert (box.directory / "upper/owners").read_text().split() == ["0:0", "0:0"]
    changed, made = os.stat(box.directory / "upper/bin/busybox"), os.stat(box.directory / "upper/info")
    assert (changed.st_uid, changed.st_gid, made.st_uid) == (7, 8, 0) and os.stat(box.directory / "upper/bin/true").st_rdev == 0
