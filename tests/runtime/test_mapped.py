"""Containers with a user namespace of their own: id-mapped, not copied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Box, eventually
from lamina.errors import LaminaError
from lamina.runtime.launch import Limits, Mount, RuntimeFailed

pytestmark = pytest.mark.root
FIRST, COUNT = 1_000_000, 65536
IDS = (FIRST, COUNT)


@pytest.fixture
def box(boxes: Callable[[], Box]) -> Box:
    """A container's directory; a skip where this kernel cannot map ids."""
    made, probe = boxes(), boxes()
    try:
        probe.run("true", ids=IDS)
    except LaminaError as error:
        if "cannot be used here" in error.message:
            pytest.skip(error.message)
        raise
    return made


def test_root_inside_is_nobody_outside_and_what_it_writes_is_roots_on_disk(box: Box) -> None:
    process = box.start("sh", "-c", "touch /mine; chown 7:8 /bin/busybox; mkdir /dev/shm/d; echo ready; sleep 100", ids=IDS)
    eventually(lambda: "ready" in (box.directory / "log").read_text())
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\nGid:\t{FIRST}\t" in status
    assert Path(f"/proc/{process.pid}/uid_map").read_text().split() == ["0", str(FIRST), str(COUNT)]
    mine, changed = os.stat(box.directory / "upper/mine"), os.stat(box.directory / "upper/bin/busybox")
    assert (mine.st_uid, mine.st_gid) == (0, 0) and (changed.st_uid, changed.st_gid) == (7, 8)
    assert os.stat(f"/proc/{process.pid}/root/mine").st_uid == FIRST


def test_files_of_the_image_belong_to_root_inside(box: Box) -> None:
    _, text = box.run("sh", "-c", "stat -c %u:%g /bin /bin/busybox /etc/hosts /proc /sys /dev /dev/pts /dev/shm /; id", ids=IDS)
    assert text.split() == ["0:0"] * 3 + ["65534:65534"] * 2 + ["0:0"] * 4 + ["uid=0", "gid=0", "groups=0"], (
        "all but /proc and /sys, the kernel's"
    )


def test_its_own_devices_work_and_no_others(box: Box) -> None:
    script = (
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; mknod /made c 1 3 2>&1 || echo refused; ls /dev"
    )
    _, text = box.run("sh", "-c", script, ids=IDS)
    assert text.splitlines()[:2] == ["3", "1"] and "refused" in text and "tty" in text and "ptmx" in text


def test_a_terminal_is_whose_it_is(box: Box) -> None:
    code, text = box.run("sh", "-c", "tty; stat -c %u $(tty); stty size", ids=IDS, tty=True)
    assert code == 0 and text.split()[:2] == ["/dev/pts/0", "0"]


def test_streams_can_be_opened_again_by_path(box: Box) -> None:
    assert box.run("sh", "-c", "echo out > /dev/stdout", ids=IDS, user="5:5") == (0, "out\n")


def test_exec_is_inside_too(box: Box) -> None:
    box.start("sleep", "100", ids=IDS)
    assert box.exec("sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '; touch /by-exec") == (0, f"0\n 0 {FIRST} {COUNT}\n")
    assert os.stat(box.directory / "upper/by-exec").st_uid == 0
    assert box.exec("id", "-u", user="33") == (0, "33\n")
    assert box.exec("sh", "-c", "echo out > /dev/stdout", user="33") == (0, "out\n")
    assert box.exec("sh", "-c", "echo out > $(tty)", tty=True) == (0, "out\r\n")


def test_binds_are_mapped_and_keep_their_attributes(box: Box, tmp_path: Path) -> None:
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
        os.chown(tmp_path / name / "file", 12, 13)
    mounts = [Mount("bind", "/rw", str(tmp_path / "rw")), Mount("bind", "/ro", str(tmp_path / "ro"), readonly=True)]
    script = "stat -c %u:%g /rw/file; touch /rw/new; touch /ro/new 2>&1"
    _, text = box.run("sh", "-c", script, ids=IDS, mounts=mounts)
    assert text.startswith("12:13\n") and "Read-only file system" in text
    assert os.stat(tmp_path / "rw/new").st_uid == 0 and not (tmp_path / "ro/new").exists()


def test_limits_and_hardening_hold(box: Box) -> None:
    script = "ulimit -n; cat /proc/self/oom_score_adj; (echo x > /proc/sys/kernel/domainname) 2>&1; grep -c Seccomp:.2 /proc/self/status"
    _, text = box.run("sh", "-c", script, ids=IDS, limits=Limits(rlimits={"nofile": (123, 456)}), oom_score_adj=300)
    assert text.splitlines()[:2] == ["123", "300"] and "Read-only file system" in text and "1" in text.splitlines()


def test_capabilities_reach_no_further_than_the_namespace(box: Box) -> None:
    script = "mount -t tmpfs x /mnt && echo inside; dmesg; cat /proc/1/root/proc/kmsg; echo 1 > /proc/sysrq-trigger; date -s 2001-01-01; chroot /proc/1/root true && echo c"
    _, text = box.run(
        "sh",
        "-c",
        "exec 2>&1; mkdir /mnt;" + script,
        ids=IDS,
        cap_add=["ALL"],
        security=["seccomp=unconfined", "systempaths=unconfined", "apparmor=unconfined"],
    )
    assert text.startswith("inside\n") and text.count("ermission denied") + text.count("not permitted") >= 3


def test_an_id_that_is_not_mapped_is_refused(box: Box) -> None:
    for user, number in (("70000", 70000), ("0:80000", 80000)):
        with pytest.raises(RuntimeFailed, match=f"id {number} is outside of the container's user namespace, which has 65536"):
            box.start("true", ids=IDS, user=user)


def test_namespaces_of_others_are_not_joined(box: Box) -> None:
    with pytest.raises(LaminaError, match="cannot join namespaces of others"):
        box.start("true", ids=IDS, netns="/proc/self/ns/net")


def test_a_bind_that_cannot_be_mapped_is_named(box: Box) -> None:
    with pytest.raises(RuntimeFailed, match="user namespaces cannot be used here: /proc, or what is mounted below it, cannot be id-mapped"):
        box.start("true", ids=IDS, mounts=[Mount("bind", "/host", "/proc")])
