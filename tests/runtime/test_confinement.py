"""What a process in a default container sees and may do, against what was recorded of dockerd's default container."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Box
from lamina.runtime import apparmor

HERE = Path(__file__).parent / "confinement"
PRIVATE_CGROUP = "a private cgroup namespace: the host's paths of groups are not shown (Docker: on cgroup v2 only)"
NO_BRIDGE = "the container of this test has a loopback interface only, dockerd's was on a bridge"
EXPLAINED = [
    # line (of either side), why it differs
    (r"ns cgroup (initial|private)", PRIVATE_CGROUP),
    (r"cgroup \S*:/(docker/<ID>)?", PRIVATE_CGROUP),
    (r"mount /sys/fs/cgroup/\w+ type=cgroup src=cgroup root=/(docker/<ID>)? opts=ro,nosuid,nodev,noexec,relatime .*", PRIVATE_CGROUP),
    (r"mount /sys/fs/cgroup type=tmpfs .*", "the directory of the hierarchies is read-only too"),
    (r"path /sys/fs/cgroup directory nonempty mount=r[ow]", "the directory of the hierarchies is read-only too"),
    (r"cgdev c 10:200 rwm", "no tun device by default, as Docker 28"),
    (r"devcg tun .*", "no tun device by default, as Docker 28"),
    (r"(mount|path) /proc/interrupts .*", "masked, as Docker 28"),
    (r"mount / type=overlay .* prop= (master|private)", "the root is private: nothing of the host's propagates into it"),
    (r"addr inet <v4>/16 eth0", NO_BRIDGE),
    (r"addr inet6 ::1/128 host", NO_BRIDGE),
    (r"net eth0 .*", NO_BRIDGE),
    (r"route .*", NO_BRIDGE),
    (r"hosts <v4>\t<HOSTNAME>", NO_BRIDGE),
    (r"sysctl net/ipv6/conf/(all|default)/disable_ipv6 [01]", NO_BRIDGE),
    (r"sysctl net/ipv4/(ip_forward|conf/\w+/rp_filter) \d", NO_BRIDGE),
]
OF_THE_MACHINE = [
    # What the engine inherits from its host or from who started it.
    r"stat ppid=0 pgrp=self session=self tty=0 prio=\d+ nice=\d+",
    r"limit Max (open files|pending signals|processes|locked memory|core file size|stack size) .*",
    r"status (Cpus_allowed_list|Mems_allowed_list|Speculation\w*): .*",
    r"cgval cpuset/cpuset.cpus .*",
    r"resolv .*",
    r"sysctl (net/core/somaxconn|kernel/\S+) .*",
    r"path /proc/(acpi|config.gz|timer_list|keys|sched_debug|latency_stats|scsi|asound|kcore|fs|bus)\b.*",
    r"mount /proc/(acpi|timer_list|keys|sched_debug|latency_stats|scsi|asound|kcore|bus)\b.*",
    r"(mount|path) /sys/(firmware|devices/virtual/powercap)\b.*",
    r"open-w /(proc|sys)/\S+ absent",
    r"apparmor .*",
]

pytestmark = pytest.mark.root


def fingerprint(box: Box, **options: object) -> list[str]:
    """Run the script in a container; its lines."""
    code, text = box.run("sh", "-s", stdin=(HERE / "fingerprint.sh").read_bytes(), **options)
    assert code == 0, text
    return text.splitlines()


def unexplained(mine: list[str], recorded: list[str], patterns: list[str]) -> list[str]:
    """Lines on one side only that no pattern matches."""
    different = [f"- {line}" for line in recorded if line not in mine] + [f"+ {line}" for line in mine if line not in recorded]
    return [line for line in different if not any(re.fullmatch(pattern, line[2:]) for pattern in patterns)]


def test_it_is_dockerds_default_or_stricter(box: Box) -> None:
    if not Path("/sys/fs/cgroup/pids").exists():
        pytest.skip("dockerd's record was made on a host with version 1 control groups")
    recorded = (HERE / "fingerprint.dockerd.txt").read_text().splitlines()
    mine = fingerprint(box)
    assert unexplained(mine, recorded, [pattern for pattern, _ in EXPLAINED] + OF_THE_MACHINE) == []


def test_no_explanation_has_become_idle(box: Box) -> None:
    if not Path("/sys/fs/cgroup/pids").exists():
        pytest.skip("dockerd's record was made on a host with version 1 control groups")
    recorded = (HERE / "fingerprint.dockerd.txt").read_text().splitlines()
    mine = fingerprint(box)
    different = [line for line in recorded if line not in mine] + [line for line in mine if line not in recorded]
    idle = [pattern for pattern, _ in EXPLAINED if not any(re.fullmatch(pattern, line) for line in different)]
    assert idle == [r"sysctl net/ipv4/(ip_forward|conf/\w+/rp_filter) \d"] or idle == []


def test_no_path_of_the_hosts_layers_is_visible(box: Box) -> None:
    _, text = box.run("cat", "/proc/self/mountinfo")
    root = next(line for line in text.splitlines() if line.split()[4] == "/")
    assert str(box.image) not in text and str(box.directory / "upper") not in text and str(box.directory / "work") not in text
    assert "/" not in re.sub(r"lowerdir\+?=/?[\d:]*", "", root.partition(" - ")[2]).replace("upperdir=u/", "upperdir=").replace(
        "workdir=u/", "workdir="
    )


def test_a_user_has_no_capabilities_and_its_groups(boxes: Callable[[], Box]) -> None:
    box = boxes()
    (box.directory / "upper/etc").mkdir(parents=True)
    (box.directory / "upper/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
    (box.directory / "upper/etc/group").write_text("root:x:0:\nada:x:1000:\nengines:x:44:ada\n")
    script = "id; echo $HOME; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status; echo x > /x || echo refused"
    _, text = box.run("sh", "-c", script, user="ada")
    assert "uid=1000(ada) gid=1000(ada) groups=44(engines),1000(ada)" in text
    assert "/home/ada" in text and "refused" in text
    assert "CapPrm:\t0000000000000000" in text and "CapEff:\t0000000000000000" in text and "CapBnd:\t00000000a80425fb" in text


def test_capabilities_are_added_and_dropped(box: Box) -> None:
    _, text = box.run("sh", "-c", "grep CapEff /proc/self/status; hostname other && hostname", cap_add=["SYS_ADMIN"], cap_drop=["CHOWN"])
    assert int(re.findall(r"CapEff:\s+(\w+)", text)[0], 16) == (0xA80425FB | 1 << 21) & ~1
    assert text.endswith("other\n")


def test_privileged_is_privileged(box: Box) -> None:
    script = "mkdir /m && mount -t tmpfs x /m && echo mounted; grep -E 'Seccomp:|CapEff' /proc/self/status; cat /proc/kallsyms | head -c1 | wc -c; ls /dev/shm"
    code, text = box.run("sh", "-c", script, privileged=True)
    assert code == 0 and "mounted" in text and "Seccomp:\t0" in text
    held = re.findall(r"CapBnd:\s+(\w+)", Path("/proc/self/status").read_text())[0]
    assert int(re.findall(r"CapEff:\s+(\w+)", text)[0], 16) == int(held, 16)


def test_no_new_privileges(box: Box) -> None:
    _, text = box.run("grep", "-E", "NoNewPrivs|Seccomp:", "/proc/self/status", security=["no-new-privileges"])
    assert text == "NoNewPrivs:\t1\nSeccomp:\t2\n"


def test_a_read_only_root_can_be_written_only_where_something_is_mounted(box: Box) -> None:
    _, text = box.run("sh", "-c", "touch /x; touch /dev/shm/x && echo shm; touch /dev/x && echo dev", readonly=True)
    assert "touch: /x: Read-only file system" in text and "shm" in text


def test_a_working_directory_that_is_not_there_is_made_before_the_root_is_read_only(box: Box) -> None:
    assert box.run("sh", "-c", "pwd; touch x", readonly=True, cwd="/new/one") == (1, "/new/one\ntouch: x: Read-only file system\n")


def test_nothing_of_the_engine_is_inherited(box: Box) -> None:
    _, text = box.run(
        "sh", "-c", "ls /proc/self/fd | wc -l; cat /proc/1/environ | tr '\\0' '\\n'; cat /proc/1/cmdline | tr '\\0' ' '; cat /proc/1/comm"
    )
    lines = text.splitlines()
    assert lines[0] == "4"  # 0, 1, 2, and the one that ls reads the directory by
    assert {line.partition("=")[0] for line in lines if re.match(r"\w+=", line)} == {"PATH", "HOSTNAME", "HOME"}


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("runc"), reason="runc is not installed")
def test_the_same_bundle_under_runc_gives_the_same_fingerprint(box: Box, tmp_path: Path) -> None:
    import json
    import subprocess

    mine = fingerprint(box)
    bundle = tmp_path / "bundle"
    shutil.copytree(box.image, bundle / "rootfs", symlinks=True)
    spec = json.loads(json.dumps(box.spec))
    spec["process"]["args"] = ["sh", "-s"]
    spec["process"]["env"].append("HOME=/")
    del spec["process"]["apparmorProfile"]
    (bundle / "config.json").write_text(json.dumps(spec))
    with open(HERE / "fingerprint.sh", "rb") as script:
        done = subprocess.run(
            ["runc", "--root", str(tmp_path / "runc"), "run", "-b", str(bundle), f"fp{box.name}"],
            stdin=script,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    explained = [
        r"mount / type=(overlay|<hostfs>) .*",  # runc runs on a plain directory here
        r"root-dir .*",
        r"stat (/|/.dockerenv) .*",
        r"mount /sys/fs/cgroup type=tmpfs .*",
        r"path /sys/fs/cgroup directory nonempty mount=r[ow]",
        r"path /sys/(kernel|module|fs)\S* .*",
        r"cgdir \S+ .*",
        r"mount /sys/fs/cgroup/\S+ type=cgroup2? .*",
        r"limit .*",
        r"dev \./console .*",
        r"fd \d .*",
        r"status (THP_enabled|CoreDumping|Seccomp_filters).*",
        r"try pivot_root .*",
        r"(cgdev|devcg) .*tun.*|cgdev c 10:200 rwm",  # runc adds the tun device to every container's rules
    ]
    different = unexplained(mine, done.stdout.splitlines(), explained)
    assert not different, "\n".join(different)


def test_a_privileged_container_has_the_devices_it_is_given(box: Box) -> None:
    devices = [{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666}]
    _, text = box.run("sh", "-c", "stat -c %t:%T /dev/net/tun", privileged=True, devices=devices)
    assert text == "a:c8\n"


@pytest.mark.skipif(not apparmor.enabled(), reason="this kernel has AppArmor off")
def test_the_profile_of_default_containers_is_entered(boxes: Callable[[], Box]) -> None:
    if not apparmor.is_loaded(apparmor.DEFAULT):
        pytest.skip("there is no apparmor_parser")
    first, second = boxes(), boxes()
    assert first.run("cat", "/proc/self/attr/current") == (0, f"{apparmor.DEFAULT} (enforce)\n")
    assert second.run("cat", "/proc/self/attr/current", privileged=True) == (0, "unconfined\n")
