"""Published escapes and leaks of runc, containerd and dockerd that could apply here; test_hazards.py has those about links and /proc."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Box, eventually
from lamina.errors import LaminaError
from lamina.linux import libc
from lamina.runtime.launch import Mount

pytestmark = pytest.mark.root
IDS = (1_000_000, 65536)


def sets(text: str) -> dict[str, int]:
    """Capability sets of a status file, by name."""
    return {name: int(value, 16) for name, value in re.findall(r"Cap(\w+):\s+(\w+)", text)}


@pytest.mark.parametrize("user", ["", "12:12"])
def test_no_capability_is_inheritable_or_ambient(box: Box, user: str) -> None:
    """CVE-2022-29162, CVE-2022-24769 (inheritable), CVE-2016-8867 (ambient): a user must not get them by executing a file."""
    box.start("sh", "-c", "cat /proc/self/status; sleep 100", user=user)
    eventually(lambda: "CapAmb" in (box.directory / "log").read_text())
    first = sets((box.directory / "log").read_text().encode().decode("unicode_escape"))
    later = sets(box.exec("cat", "/proc/self/status", user=user)[1])
    for found in (first, later):
        assert found["Inh"] == found["Amb"] == 0
        assert bool(found["Eff"]) == (user == "")


def test_a_privileged_exec_is_not_inheritable_either(box: Box) -> None:
    box.start("sleep", "100")
    assert sets(box.exec("cat", "/proc/self/status", privileged=True)[1])["Inh"] == 0


def test_leaving_the_supplementary_groups_gains_nothing(box: Box) -> None:
    """CVE-2022-36109, CVE-2023-25173: what a group is forbidden (mode 0604) was open to who left that group by setgroups."""
    (box.directory / "upper/etc").mkdir(parents=True)
    (box.directory / "upper/etc/passwd").write_text("ada:x:77:78::/:\n")
    _, text = box.run("grep", "Groups:", "/proc/self/status", user="ada")
    assert "78" in text.split()


def test_control_groups_cannot_be_mounted_or_written(box: Box) -> None:
    """CVE-2022-0492: release_agent of a version 1 hierarchy runs as the host's root."""
    script = """
        mkdir /c; mount -t cgroup -o rdma x /c 2>/dev/null && echo MOUNTED
        unshare -U -r -C -m sh -c 'mount -t cgroup -o rdma x /c' 2>/dev/null && echo MOUNTED
        for file in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs); do
            (echo 1 > $file) 2>/dev/null && echo WROTE $file
        done; echo done"""
    assert box.run("sh", "-c", script) == (0, "done\n")


def test_nor_by_the_root_of_a_user_namespace(box: Box) -> None:
    """CVE-2023-25809: the hierarchy was writable in user namespaces."""
    script = "find /sys/fs/cgroup -type f | while read f; do (echo 1 > $f) 2>/dev/null && echo WROTE $f; done; echo done"
    try:
        assert box.run("sh", "-c", script, ids=IDS) == (0, "done\n")
    except LaminaError as error:
        pytest.skip(error.message)


def test_nobody_can_speak_to_the_engine_through_abstract_sockets(box: Box) -> None:
    """CVE-2020-15257: a container in the host's network reaches every abstract socket there is."""
    box.start("sleep", "100", network="host")
    record = json.loads((box.directory / "monitor.json").read_text())
    box.runtime._zygote.warm()
    assert box.runtime._zygote._process is not None
    pids = [os.getpid(), record["monitor"], box.runtime._zygote._process.pid]
    ours = {_target(pid, name) for pid in pids for name in os.listdir(f"/proc/{pid}/fd")}
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert not [words[7] for words in lines if len(words) > 7 and words[7].startswith("@") and f"socket:[{words[6]}]" in ours]


def _target(pid: int, name: str) -> str:
    """What a descriptor leads to; nothing where it was closed meanwhile."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{name}")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("when", ["start", "exec"])
def test_no_descriptor_of_the_engines_is_open_inside(box: Box, when: str) -> None:
    """CVE-2024-21626, CVE-2016-9962: a directory of the host's among them leads out."""
    script = "for fd in /proc/self/fd/*; do readlink $fd; done"
    if when == "start":
        _, text = box.run("sh", "-c", script)
    else:
        box.start("sleep", "100")
        _, text = box.exec("sh", "-c", script)
    assert not [line for line in text.splitlines() if not re.match(r"(pipe|socket):|/dev/(null|pts)|/proc/\d+/fd|/proc/self/fd", line)], (
        text
    )


def test_a_mount_target_in_a_shared_directory_makes_nothing_on_the_host(box: Box, tmp_path: Path) -> None:
    """CVE-2024-45310: what is missing of a mount's target was made through a link that another container had put there."""
    shared, source, host = tmp_path / "shared", tmp_path / "source", tmp_path / "host"
    for path in (shared, source, host):
        path.mkdir()
    (shared / "link").symlink_to(f"/../../../../../../../../..{host}")
    mounts = [Mount("bind", "/shared", str(shared)), Mount("bind", "/shared/link/made/below", str(source))]
    try:
        box.run("true", mounts=mounts)
    except LaminaError:
        pass
    assert not list(host.iterdir())


def test_targets_that_change_while_they_are_mounted_lead_nowhere(boxes: Callable[[], Box], tmp_path: Path) -> None:
    """CVE-2021-30465: two containers share a volume; one exchanges a directory for a link while the other mounts on it."""
    shared, source, host = tmp_path / "shared", tmp_path / "source", tmp_path / "host"
    for path in (shared / "target", source, host):
        path.mkdir(parents=True)
    (shared / "link").symlink_to(f"../../../../../../..{host}")
    stop = threading.Event()
    exchanging = threading.Thread(target=_exchange, args=(shared, stop))
    exchanging.start()
    try:
        for _ in range(15):
            mounts = [Mount("bind", "/shared", str(shared)), Mount("bind", "/shared/target", str(source))]
            try:
                boxes().run("touch", "/shared/target/x", mounts=mounts)
            except LaminaError:
                continue
    finally:
        stop.set()
        exchanging.join()
    assert not list(host.iterdir()) and not any(str(host) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _exchange(directory: Path, stop: threading.Event) -> None:
    """renameat2(RENAME_EXCHANGE) of target and link, until told."""
    number = {"x86_64": 316, "aarch64": 276}[libc.machine]
    fd = os.open(directory, os.O_PATH)
    while not stop.is_set():
        libc.syscall(number, "renameat2", fd, b"target", fd, b"link", 2)
    os.close(fd)


def test_a_file_named_as_the_runtime_can_be_executed_without_reaching_it(box: Box) -> None:
    """CVE-2019-5736, second way: a library that the runtime's interpreter would load, and /proc/self/exe as the command."""
    for path in ("/proc/self/exe", "/proc/self/fd/3", "/proc/thread-self/exe"):
        try:
            box.start(path)
        except LaminaError:
            continue
        assert box.process is not None
        box.process.wait(120)
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if str(box.directory) in line]


def test_masked_files_stay_masked_for_exec_and_after_unmounting_attempts(box: Box) -> None:
    """CVE-2018-10892, CVE-2017-16539 and others: files of /proc that act on the host."""
    box.start("sleep", "100")
    script = """for p in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /proc/scsi /proc/interrupts /sys/firmware; do
        umount $p 2>/dev/null && echo UNMOUNTED $p; [ -e $p ] && { find $p -type f | grep . ; cat $p 2>/dev/null; }; done
        for p in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/kernel/modprobe; do (echo x > $p) 2>/dev/null && echo WROTE $p; done; echo done"""
    assert box.exec("sh", "-c", script) == (0, "done\n")


def test_a_socket_to_the_machine_below_is_refused(box: Box) -> None:
    """AF_VSOCK reaches the hypervisor's services, which trust whoever asks."""
    assert socket.AF_VSOCK == 40
    assert box.run("sh", "-c", "true")[0] == 0
    rules = [rule for rule in box.spec["linux"]["seccomp"]["syscalls"] if "socket" in rule["names"]]
    assert rules and all(rule.get("args") for rule in rules)
