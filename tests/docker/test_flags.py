"""Every flag of `docker run` and `docker create` that is not the network's: what it does, or in which words it is refused."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, cli_version, control_groups, docker_cli, eventually

NONE = ("--network", "none")
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
DISK = next((f"/dev/{name}" for name in ("vda", "sda", "nvme0n1", "xvda") if Path(f"/dev/{name}").is_block_device()), "/dev/loop0")
HEALTH = ["--health-cmd", "true", "--health-interval", "1m", "--health-retries", "4", "--health-start-interval", "1s", "--health-start-period", "2s",
          "--health-timeout", "5s"]  # fmt: skip
EVERY = [
    "--annotation", "an=notation", "-a", "stdout", "--cap-add", "SYS_TIME", "--cap-drop", "KILL", "--cgroup-parent", "/parent", "--cgroupns", "host",
    "--cpu-shares", "100", "--cpu-period", "50000", "--cpu-quota", "20000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--device",
    "/dev/null:/dev/nought:rw", "--device-cgroup-rule", "c 1:3 r", "--domainname", "example.org", "-e", "A=b", "--group-add", "20", "--hostname",
    "host", "-i", "--ipc", "shareable", "-l", "label=x", "-m", "64m", "--memory-reservation", "32m", "--memory-swap", "96m", "--mount",
    "type=tmpfs,dst=/mnt,tmpfs-size=1m", "--mount", "type=bind,src=/etc,dst=/etc2,bind-recursive=writable,ro", "--oom-score-adj", "200",
    "--oom-kill-disable", "--pid", "host", "--pids-limit", "50", "--privileged", "--read-only", "--restart", "always", "--runtime", "lamina",
    "--security-opt", "no-new-privileges", "--security-opt", "systempaths=unconfined", "--shm-size", "1m", "--stop-signal", "INT",
    "--stop-timeout", "3", "--sysctl", "net.ipv4.ip_forward=1", "--tmpfs", "/tmp:size=1m", "-t", "--ulimit", "core=0", "-u", "1:1", "--userns",
    "host", "-v", "/etc:/host:ro", "-w", "/tmp", "--entrypoint", "sh", "--expose", "80", "--uts", "", "--memory-swappiness", "10",
    "--blkio-weight", "300", "--blkio-weight-device", f"{DISK}:200", "--device-read-bps", f"{DISK}:1mb", "--device-write-bps", f"{DISK}:1mb",
    "--device-read-iops", f"{DISK}:100", "--device-write-iops", f"{DISK}:100", "--kernel-memory", "50m", "--init", *HEALTH,
]  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: none of this depends on the storage driver."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


def said(daemon: Daemon, flags: list[str], script: str) -> list[str]:
    """The lines that a script writes in a container with these flags."""
    return daemon.docker("run", "--rm", *NONE, *flags, BASE, "sh", "-c", script).stdout.splitlines()


def inspected(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.docker("inspect", name).stdout)[0]
    return found


# --- limits


@pytest.mark.covers("cli:run --memory", "cli:run --memory-swap", "cli:run --memory-reservation", "cli:run --cpus", "cli:run --cpu-shares",
                    "cli:run --cpuset-cpus", "cli:run --cpuset-mems", "cli:run --pids-limit", "cli:run --ulimit", "cli:run --oom-score-adj")  # fmt: skip
def test_limits_are_what_the_kernel_holds_to(daemon: Daemon) -> None:
    flags = ["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--cpus", "0.5", "-c", "512", "--cpuset-cpus", "0",
             "--cpuset-mems", "0", "--pids-limit", "20", "--ulimit", "core=0", "--ulimit", "nofile=100:200", "--oom-score-adj", "300"]  # fmt: skip
    files = (
        ["memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.mems", "pids.max"]
        if UNIFIED
        else ["memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.soft_limit_in_bytes",
              "cpu*/cpu.cfs_quota_us", "cpu*/cpu.shares", "cpuset/cpuset.cpus", "cpuset/cpuset.mems", "pids/pids.max"]
    )  # fmt: skip
    expected = (
        [str(64 << 20), str(32 << 20), str(32 << 20), "50000 100000", "20", "0", "0", "20"]
        if UNIFIED
        else [str(64 << 20), str(96 << 20), str(32 << 20), "50000", "512", "0", "0", "20"]
    )
    script = f"cd /sys/fs/cgroup; cat {' '.join(files)}; ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"
    assert said(daemon, flags, script) == [*expected, "100", "200", "0", "300"]


@pytest.mark.covers("cli:run --cpu-period", "cli:run --cpu-quota", "cli:run --device-read-bps", "cli:run --device-write-bps",
                    "cli:run --device-read-iops", "cli:run --device-write-iops", "cli:run --oom-kill-disable", "cli:run --memory-swappiness",
                    "cli:run --blkio-weight", "cli:run --blkio-weight-device", "cli:run --kernel-memory")  # fmt: skip
def test_what_this_kernel_cannot_limit_is_warned_about_and_the_rest_holds(daemon: Daemon, name: str) -> None:
    flags = ["--cpu-period", "50000", "--cpu-quota", "20000", "--device-read-bps", f"{DISK}:1mb", "--device-write-bps", f"{DISK}:2mb",
             "--device-read-iops", f"{DISK}:100", "--device-write-iops", f"{DISK}:200", "--oom-kill-disable", "-m", "64m", "--memory-swappiness",
             "10", "--blkio-weight", "300", "--blkio-weight-device", f"{DISK}:200", "--kernel-memory", "50m"]  # fmt: skip
    create = daemon.lamina if cli_version() == 26 else daemon.docker  # docker's 26.1 sends empty lists for --device-read-bps and its kind
    made = create("create", "--name", name, *NONE, *flags, BASE, "sh", "-c", "cd /sys/fs/cgroup; cat cpu.max cpu*/cpu.cfs_quota_us; cat io.max blkio/blkio.throttle.*_device; "
                         "cat memory/memory.oom_control memory/memory.swappiness")  # fmt: skip
    host = inspected(daemon, name)["HostConfig"]
    assert (host["CpuPeriod"], host["CpuQuota"]) == (50000, 20000)
    for key, words in (
        ("BlkioWeight", "Block I/O weight "), ("BlkioWeightDevice", "Block I/O weight_device"), ("BlkioDeviceReadBps", "BPS Block I/O read limit"),
        ("BlkioDeviceWriteIOps", "IOPS Block write limit"), ("MemorySwappiness", "memory swappiness"), ("OomKillDisable", "support OomKillDisable"),
    ):  # fmt: skip
        assert bool(host[key]) != (words in made.stderr), key
    shown = daemon.docker("start", "-a", name, code=None).stdout
    assert ("20000 50000" if UNIFIED else "20000\n") in shown
    if host["BlkioDeviceReadBps"]:
        assert ("rbps=1048576 wbps=2097152 riops=100 wiops=200" if UNIFIED else " 1048576\n") in shown
    if host["OomKillDisable"]:
        assert "oom_kill_disable 1" in shown and shown.splitlines()[-1] == "10"


@pytest.mark.covers("cli:run --cpu-rt-period", "cli:run --cpu-rt-runtime")
def test_a_limit_that_the_kernel_refuses_is_one_sentence_and_leaves_nothing(daemon: Daemon) -> None:
    refused = daemon.docker("run", "--rm", *NONE, "--cpu-rt-period", "1000000", "--cpu-rt-runtime", "950000", BASE, "true", code=125)
    assert "cpu.rt_runtime_us" in refused.stderr or "kernel does not support CPU real-time scheduler" in refused.stderr
    longer = daemon.docker("create", *NONE, "--cpu-rt-period", "10000", "--cpu-rt-runtime", "20000", BASE, "true", code=1)
    assert "real-time" in longer.stderr
    assert daemon.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-m", "4m"], "Minimum memory limit allowed is 6MB"),
        (["-m", "64m", "--memory-swap", "32m"], "Minimum memoryswap limit should be larger than memory limit"),
        (["--memory-swap", "64m"], "You should always set the Memory limit when using Memoryswap limit"),
        (["-m", "64m", "--memory-reservation", "65m"], "Minimum memory limit can not be less than memory reservation limit"),
        (["--cpus", "4096"], "range of CPUs is from 0.01 to"),
        (["--cpus", "1", "--cpu-quota", "2000"], "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (["--cpu-period", "10"], "CPU cfs period can not be less than 1ms"),
        (["--cpuset-cpus", "4095"], "Requested CPUs are not available - requested 4095, available: 0"),
        (["--cpuset-mems", "0-x"], "Invalid value 0-x for cpuset mems"),
        (["--cpuset-cpus", "0,,"], "Invalid value 0,, for cpuset cpus"),
        (["--network", "container"], "invalid network mode: invalid container format container:<name|id>"),
        (["--oom-score-adj", "2000"], "range for oom score adj is [-1000, 1000]"),
        (["--ulimit", "nonsense=1"], "invalid ulimit type"),
        (["--ipc", "nonsense"], "invalid IPC mode: nonsense"),
        (["--isolation", "hyperv"], "invalid isolation 'hyperv' on linux"),
        (["--security-opt", "nonsense=1"], "invalid --security-opt"),
        (["--cap-add", "NONSENSE"], 'invalid CapAdd: unknown capability: "CAP_NONSENSE"'),
        (["--gpus", "all"], 'could not select device driver "" with capabilities: [[gpu]]'),
        (["--storage-opt", "size=1X"], "invalid size: '1X'"),
        (["--storage-opt", "size=1M"], "the least that can be capped is 8M"),
        (["--storage-opt", "speed=1"], "unknown storage option: speed"),
        (["--runtime", "nonsense"], "unknown or invalid runtime name: nonsense"),
        (["--stop-signal", "SIGNONSENSE"], "invalid signal: SIGNONSENSE"),
        (["-w", "relative"], "the working directory 'relative' is invalid, it needs to be an absolute path"),
        (["--health-interval", "1us"], "Interval in Healthcheck cannot be less than 1ms"),
        (["--restart", "sometimes"], "invalid restart policy: unknown policy 'sometimes'"),
        (["--restart", "always", "--rm"], "onflicting options: "),
        (["--uts", "host", "--hostname", "x"], "conflicting options: hostname and the UTS mode"),
        (["--uts", "host", "--domainname", "x"], "conflicting options: domain name and the UTS mode"),
        (["--hostname", "x" * 65], "is too long (maximum 64 bytes)"),
        (["--hostname", "ü" * 33], "is too long (maximum 64 bytes)"),
        (["--volumes-from", "nobody"], "No such container: nobody"),
        (["--volume-driver", "nfs9", "-v", "named:/v"], 'plugin "nfs9" not found'),
        (["--tmpfs", "/t:nonsense=1"], "invalid tmpfs option"),
        (["--mount", "type=bind,src=/nonsense/path,dst=/x"], "bind source path does not exist: /nonsense/path"),
        (["-v", "/etc:/x", "--mount", "type=tmpfs,dst=/x"], "Duplicate mount point: /x"),
        (["--device-cgroup-rule", "nonsense"], "invalid device cgroup format 'nonsense'"),
        (["--shm-size", "-1"], ""),
        (["--sysctl", "kernel.nonsense=1"], "sysctl 'kernel.nonsense=1' is not "),
        (["--userns", "nonsense"], "invalid USER mode"),
        (["--cgroupns", "nonsense"], "invalid CGROUP mode"),
        (["--pid", "nonsense"], "invalid PID mode"),
        (["--attach", "nonsense"], "valid streams are STDIN, STDOUT and STDERR"),
        (["--cpu-count", "2"], "is only supported on a Docker daemon running on windows"),
        (["--cpu-percent", "2"], "is only supported on a Docker daemon running on windows"),
        (["--io-maxbandwidth", "2m"], "is only supported on a Docker daemon running on windows"),
        (["--io-maxiops", "2"], "is only supported on a Docker daemon running on windows"),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.covers(
    "cli:run --cpu-count", "cli:run --cpu-percent", "cli:run --io-maxbandwidth", "cli:run --io-maxiops", "cli:run --gpus", "cli:run --isolation",
    "cli:create --cpu-count", "cli:create --cpu-percent", "cli:create --io-maxbandwidth", "cli:create --io-maxiops", "cli:create --gpus",
    "cli:create --isolation", "cli:create --cpu-rt-period", "cli:create --cpu-rt-runtime", "cli:create --volume-driver", "cli:run --volume-driver",
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_dockers_words(daemon: Daemon, flags: list[str], words: str) -> None:
    refused = daemon.docker("create", *([] if flags[0] in ("--uts", "--network") else NONE), *flags, BASE, "true", code=None)
    assert refused.returncode in (1, 125), refused
    assert words in refused.stderr
    assert daemon.docker("ps", "-aq").stdout == ""
    assert daemon.docker("volume", "ls", "-q").stdout == ""


def test_memory_that_runs_out_is_told_while_it_runs_and_afterwards(daemon: Daemon, name: str) -> None:
    begin = time.time()
    # The child is killed, the shell goes on: told by an event at once.
    script = "cat /dev/zero | head -c 100m | tail > /dev/null; echo survived; sleep 1000"
    daemon.docker("run", "-d", "--name", name, *NONE, "-m", "24m", "--memory-swap", "24m", BASE, "sh", "-c", script)
    eventually(lambda: inspected(daemon, name)["State"]["OOMKilled"], "nobody noticed that memory ran out")
    assert inspected(daemon, name)["State"]["Running"]
    daemon.docker("kill", name)
    state = inspected(daemon, name)["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    told = daemon.docker("events", "--since", f"{int(begin)}", "--until", f"{int(time.time()) + 1}", "-f", f"container={name}", "-f", "event=oom", "--format", "{{.Action}}")  # fmt: skip
    assert set(told.stdout.split()) == {"oom"}


# --- namespaces


@pytest.mark.covers("cli:run --ipc")
def test_ipc_is_private_shared_the_hosts_or_none(daemon: Daemon, name: str) -> None:
    daemon.docker(
        "run",
        "-d",
        "--name",
        name,
        *NONE,
        "--ipc",
        "shareable",
        "--shm-size",
        "3m",
        BASE,
        "sh",
        "-c",
        "echo mine > /dev/shm/file; sleep 1000",
    )
    shared = said(daemon, ["--ipc", f"container:{name}"], "until grep . /dev/shm/file; do sleep 0.02; done; readlink /proc/self/ns/ipc")
    assert shared == ["mine", daemon.docker("exec", name, "readlink", "/proc/self/ns/ipc").stdout.strip()]
    assert said(daemon, ["--ipc", "host"], "readlink /proc/self/ns/ipc") == [os.readlink("/proc/self/ns/ipc")]
    assert said(daemon, ["--ipc", "none"], "ls -d /dev/shm 2>&1; true")[0].startswith("ls: /dev/shm")
    private = daemon.docker("run", "-d", *NONE, BASE, "sleep", "1000").stdout.strip()
    refused = daemon.docker("run", "--rm", *NONE, "--ipc", f"container:{private}", BASE, "true", code=125)
    assert "non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in refused.stderr
    daemon.docker("rm", "-f", name, private)
    assert str(daemon.data / "containers") not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.covers("cli:run --pid", "cli:run --uts", "cli:run --userns", "cli:run --cgroupns", "cli:run --cgroup-parent")
def test_namespaces_of_the_host_and_of_others_are_joined(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "4321")
    assert any("sleep 4321" in line for line in said(daemon, ["--pid", f"container:{name}"], "ps"))
    links = "for kind in pid uts user cgroup; do readlink /proc/self/ns/$kind; done"
    assert said(daemon, ["--pid", "host", "--uts", "host", "--userns", "host", "--cgroupns", "host"], links) == [
        os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "uts", "user", "cgroup")
    ]
    parent = f"/parent-{os.getpid()}"
    try:
        assert f"{parent}/" in said(daemon, ["--cgroup-parent", parent, "--cgroupns", "host"], "cat /proc/self/cgroup")[0]
    finally:
        for directory in control_groups([parent.strip("/")]):
            os.rmdir(directory)
    stopped = daemon.docker("create", *NONE, BASE, "true").stdout.strip()
    assert "non running container" in daemon.docker("run", "--rm", *NONE, "--pid", f"container:{stopped}", BASE, "true", code=125).stderr
    daemon.docker("rm", stopped)


# --- the root, devices, confinement


def test_a_tmpfs_is_shared_if_asked(daemon: Daemon) -> None:
    shown = daemon.docker("run", "--rm", "--tmpfs", "/one:shared", "--tmpfs", "/two", *NONE, BASE, "cat", "/proc/self/mountinfo").stdout
    told = {line.split()[4]: line.partition(" - ")[0].split()[6:] for line in shown.splitlines()}
    assert [word.partition(":")[0] for word in told["/one"]] == ["shared"]
    assert told["/two"] == []


@pytest.mark.covers("cli:run --tmpfs", "cli:run --shm-size", "cli:run --read-only", "cli:run --group-add", "cli:run --domainname", "cli:run --sysctl", "cli:run --stop-signal",
                    "cli:run --stop-timeout", "cli:run --annotation", "cli:run --label")  # fmt: skip
def test_flags_about_the_root_and_the_process(daemon: Daemon, name: str) -> None:
    flags = ["--tmpfs", "/t:exec,size=1m,mode=700", "--tmpfs", "/u", "--shm-size", "5m", "--read-only", "--group-add", "nogroup", "--group-add", "1234",
             "--domainname", "example.org", "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000"]  # fmt: skip
    script = ("grep -E ' (/t|/u|/dev/shm|/|/etc/hosts) ' /proc/mounts | cut -d' ' -f2,4 | cut -c1-60; id -G; touch /x 2>&1; "
              "cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")  # fmt: skip
    lines = said(daemon, flags, script)
    mounts = {place: options.split(",") for place, options in (line.split(" ") for line in lines[:5])}
    assert "ro" in mounts["/"] and "ro" in mounts["/etc/hosts"]
    assert "noexec" not in mounts["/t"] and {"size=1024k", "mode=700"} <= set(mounts["/t"])
    assert {"noexec", "nosuid", "nodev"} <= set(mounts["/u"]) and "size=5120k" in mounts["/dev/shm"]
    assert sorted(lines[5].split()) == ["0", "1234", "65534"]
    assert lines[6:] == ["touch: /x: Read-only file system", "example.org", "1", "9000"]
    daemon.docker("run", "-d", "--name", name, *NONE, "--stop-signal", "USR1", "--stop-timeout", "60", "--label", "a=b", "--annotation", "c=d", BASE,
                  "sh", "-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.02; done")  # fmt: skip
    facts = inspected(daemon, name)
    assert (
        facts["Config"]["StopSignal"],
        facts["Config"]["StopTimeout"],
        facts["Config"]["Labels"],
        facts["HostConfig"]["Annotations"],
    ) == ("USR1", 60, {"a": "b"}, {"c": "d"})
    eventually(lambda: "ready" in daemon.docker("logs", name).stdout, "its trap is not set")
    daemon.docker("stop", name)
    assert inspected(daemon, name)["State"]["ExitCode"] == 7


def test_a_sysctl_of_the_hosts_is_refused(daemon: Daemon) -> None:
    refused = daemon.docker("run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", BASE, "true", code=125)
    assert 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace' in refused.stderr


@pytest.mark.covers("cli:run --init", "cli:create --init")
@pytest.mark.skipif(not any(shutil.which(init) for init in ("docker-init", "tini-static")), reason="no static init here")
def test_an_init_reaps_and_passes_signals_on(daemon: Daemon, name: str) -> None:
    assert said(daemon, ["--init"], "cat /proc/1/cmdline | tr '\\0' ' '")[0].startswith("/sbin/docker-init -- sh")
    daemon.docker("create", "--name", name, *NONE, "--init", BASE, "sleep", "1000")
    daemon.docker("start", name)
    # A first process that does not listen yet gets no signals: it does once it has a child.
    eventually(lambda: len(daemon.docker("top", name).stdout.splitlines()) == 3, "init started nothing")
    daemon.docker("kill", "-s", "TERM", name)
    assert daemon.docker("wait", name).stdout == "143\n"


@pytest.mark.covers("cli:run --device", "cli:run --device-cgroup-rule")
def test_devices_are_there_with_the_rights_given(daemon: Daemon, tmp_path: Path) -> None:
    script = "for file in /dev/first /dev/second; do ls -l $file | cut -c1-1; (: > $file) 2>/dev/null && echo written || echo refused; done"
    assert (
        said(
            daemon,
            ["--device", "/dev/kmsg:/dev/first:w", "--device", "/dev/kmsg:/dev/second:w", "--device-cgroup-rule", "c 10:200 rwm"],
            script,
        )
        == ["c", "written"] * 2
    )
    assert said(daemon, ["--device", "/dev/kmsg:/dev/first:r", "--device", "/dev/null:/dev/second"], script) == [
        "c",
        "refused",
        "c",
        "written",
    ]
    allowed = "mknod /dev/third c 1 11 && (: > /dev/third) 2>/dev/null && echo written || echo refused"
    assert said(daemon, [], allowed) == ["refused"]
    assert said(daemon, ["--device-cgroup-rule", "c 1:11 w"], allowed) == ["written"]
    missing = daemon.docker("run", "--rm", *NONE, "--device", "/dev/nonsense", BASE, "true", code=127)
    assert 'error gathering device information while adding custom device "/dev/nonsense": no such file or directory' in missing.stderr
    (tmp_path / "file").touch()
    none = daemon.docker("run", "--rm", *NONE, "--device", str(tmp_path), BASE, "true", code=125)
    assert f'custom device "{tmp_path}": not a device node' in none.stderr


@pytest.mark.covers("cli:run --security-opt", "cli:run --cap-add", "cli:run --cap-drop")
def test_confinement_is_loosened_and_tightened(daemon: Daemon, tmp_path: Path) -> None:
    facts = "grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status | cut -f2; grep -c ' /proc/' /proc/mounts; true"
    flags = ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined",
             "--security-opt", "label=disable", "--security-opt", "apparmor=unconfined", "--cap-drop", "ALL", "--cap-add", "CHOWN"]  # fmt: skip
    assert said(daemon, flags, facts) == ["0000000000000001", "1", "0", "0"]
    profile = tmp_path / "profile.json"
    profile.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})
    )
    for cli in (daemon.docker, daemon.lamina):
        done = cli("run", "--rm", *NONE, "--security-opt", f"seccomp={profile}", BASE, "mkdir", "/x", code=1)
        assert "Operation not permitted" in done.stderr
        assert "opening seccomp profile" in cli("create", "--security-opt", "seccomp=/nonsense", BASE, code=None).stderr


# --- mounts


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a shared mount of its own."""
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", tmp_path], check=True)
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_only_what_the_host_shares_is_shared(daemon: Daemon, name: str, place: Path) -> None:
    source = place / "a b"
    source.mkdir()
    for cli in (daemon.docker, daemon.lamina):
        cli("run", "--rm", *NONE, "-v", f"{source}:/x:rshared", BASE, "true")
        subprocess.run(["mount", "--bind", source, source], check=True)
        try:
            subprocess.run(["mount", "--make-slave", source], check=True)
            cli("run", "--rm", *NONE, "-v", f"{source}:/x:slave", BASE, "true")
            done = cli("run", "--name", name, *NONE, "-v", f"{source}:/x:shared", BASE, "true", code=125)
            words = f"path {source} is mounted on {source} but it is not a shared mount"
            assert words in done.stderr and inspected(daemon, name)["State"]["Error"] == words
            cli("rm", name)
            subprocess.run(["mount", "--make-private", source], check=True)
            done = cli("run", "--rm", *NONE, "--mount", f"type=bind,src={source},dst=/x,bind-propagation=rslave", BASE, "true", code=125)
            assert f"path {source} is mounted on {source} but it is not a shared or slave mount" in done.stderr
            cli("run", "--rm", *NONE, "-v", f"{source}:/x", BASE, "true")
        finally:
            subprocess.run(["umount", source], check=True)


@pytest.mark.covers("cli:run --volume")
@pytest.mark.parametrize("flags", [["-v", "/dev:/dev:ro"], ["-v", "/dev:/dev", "--ipc", "shareable"]], ids=" ".join)
def test_the_hosts_dev_is_seen_with_what_is_mounted_there(daemon: Daemon, flags: list[str]) -> None:
    def below(mounts: list[str]) -> set[tuple[str, str]]:
        return {(words[1], words[2]) for words in map(str.split, mounts) if words[1].startswith("/dev/")}

    assert below(said(daemon, flags, "cat /proc/mounts")) == below(Path("/proc/mounts").read_text().splitlines())


@pytest.mark.covers("cli:run --volume", "cli:run --mount")
def test_a_bind_of_the_data_root_is_a_slave_of_it(daemon: Daemon, name: str) -> None:
    root = str(daemon.data)
    for flags in (["-v", f"{root}:/x:ro"], ["--mount", f"type=bind,src={root}/containers,dst=/x"], ["-v", "/:/x:ro"]):
        daemon.docker("run", "--name", name, *NONE, *flags, BASE, "true")
        assert [mount["Propagation"] for mount in inspected(daemon, name)["Mounts"]] == ["rslave"]
        daemon.docker("rm", name)
    refused = daemon.docker("create", *NONE, "-v", f"{root}:/x:rprivate", BASE, "true", code=1).stderr
    assert f'daemon root: "{root}", bind mount source: "{root}", propagation: "rprivate"' in refused


@pytest.mark.covers("cli:run --mount", "cli:run --volumes-from")
def test_mounts_in_long_form_and_from_other_containers(daemon: Daemon, name: str, place: Path) -> None:
    (place / "file").write_text("host's\n")
    daemon.docker("create", "--name", name, *NONE, "-v", "taken:/v", "-v", f"{place}:/b", BASE, "true")
    flags = ["--mount", f"type=bind,src={place},dst=/h,ro,bind-recursive=disabled,bind-propagation=rslave", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
             "--mount", "type=volume,src=named,dst=/n", "--mount", "dst=/anonymous", "--volumes-from", f"{name}:ro"]  # fmt: skip
    script = 'cat /h/file /b/file; for place in h t n anonymous v b; do grep -q " /$place .*[ ,]ro," /proc/mounts && echo $place; done; stat -c %a /t'
    assert said(daemon, flags, script) == ["host's", "host's", "h", "v", "b", "700"]
    assert sorted(daemon.docker("volume", "ls", "-q").stdout.split()) == ["named", "taken"]
    daemon.docker("rm", name)
    daemon.docker("volume", "rm", "named", "taken")


# --- files of the client, streams, pulling


@pytest.mark.covers("cli:run --env-file", "cli:run --label-file", "cli:run --cidfile")
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_the_clients_files(daemon: Daemon, name: str, tmp_path: Path, cli: str) -> None:
    (tmp_path / "env").write_text("# a comment\nA=from the file\n\nB=over\nHOME\n")
    (tmp_path / "labels").write_text("one=1\ntwo=\n")
    command = getattr(daemon, cli)
    done = command("run", "--name", name, *NONE, "--env-file", str(tmp_path / "env"), "-e", "B=ridden", "--label-file", str(tmp_path / "labels"), "--label", "two=2",
                   "--cidfile", str(tmp_path / "cid"), BASE, "sh", "-c", "echo $A; echo $B; echo $HOME")  # fmt: skip
    assert done.stdout.splitlines() == ["from the file", "ridden", str(daemon.root)]
    facts = inspected(daemon, name)
    assert facts["Config"]["Labels"] == {"one": "1", "two": "2"}
    assert (tmp_path / "cid").read_text() == facts["Id"]
    assert command("run", *NONE, "--cidfile", str(tmp_path / "other"), "--pull", "never", "absent:1", code=None).returncode
    assert not (tmp_path / "other").exists()
    again = command("run", *NONE, "--cidfile", str(tmp_path / "cid"), BASE, "true", code=None)
    assert again.returncode and "container ID file found" in again.stderr
    for verb, code in (("run", 127), ("create", 1)):
        nowhere = command(verb, *NONE, "--cidfile", str(tmp_path / "none" / "cid"), BASE, "true", code=None)
        assert (
            nowhere.returncode == code
            and f"failed to create the container ID file: open {tmp_path}/none/cid: no such file" in nowhere.stderr
        )
    assert command("create", "--env-file", str(tmp_path / "nonsense"), BASE, code=None).returncode


@pytest.mark.covers("cli:run --attach", "cli:create --attach")
def test_only_the_streams_that_were_asked_for(daemon: Daemon, name: str) -> None:
    script = "echo out; echo err >&2; read line; echo got $line"
    assert daemon.docker("run", "--rm", *NONE, "-a", "stdout", BASE, "sh", "-c", script).stdout == "out\ngot\n"
    done = daemon.docker("run", "--rm", *NONE, "-i", "-a", "stdin", "-a", "stderr", BASE, "sh", "-c", script, stdin="word\n")
    assert (done.stdout.strip(), done.stderr) in (("", "err\n"), (done.stdout.strip(), "err\n"))
    daemon.docker("create", "--name", name, *NONE, "-a", "stderr", BASE, "sh", "-c", script)
    config = inspected(daemon, name)["Config"]
    assert (config["AttachStdin"], config["AttachStdout"], config["AttachStderr"]) == (False, False, True)


@pytest.mark.covers(
    "cli:run --sig-proxy",
    "cli:run --detach-keys",
    "cli:attach --detach-keys",
    "cli:attach --sig-proxy",
    "cli:start --detach-keys",
    "cli:exec --detach-keys",
)
def test_detach_keys_leave_it_running_and_signals_are_proxied_unless_not_wanted(daemon: Daemon, name: str) -> None:
    def typed(*words: str, keys: bytes, seen: bytes) -> int:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [docker_cli(), *words], stdin=slave, stdout=slave, stderr=slave, env=daemon.environment(), start_new_session=True
        )
        os.close(slave)
        shown = b""
        while seen not in shown:
            shown += os.read(master, 4096)
        os.write(master, keys)
        code = process.wait(120)
        os.close(master)
        return code

    script = "echo ready; while read x; do echo ready; done"
    typed("run", "-it", "--name", name, *NONE, "--detach-keys", "ctrl-x,q", BASE, "sh", "-c", script, keys=b"\x18q", seen=b"ready")
    assert inspected(daemon, name)["State"]["Running"]
    typed("attach", "--detach-keys", "ctrl-a", name, keys=b"\n\x01", seen=b"")
    typed("exec", "-it", "--detach-keys", "ctrl-e,e", name, "sh", "-c", "echo ready; read x", keys=b"\x05e", seen=b"ready")
    daemon.docker("kill", name)
    typed("start", "-ai", "--detach-keys", "a,b", name, keys=b"ab", seen=b"ready")
    assert inspected(daemon, name)["State"]["Running"]
    daemon.docker("rm", "-f", name)
    # Without the proxy a signal is the client's own.
    command = [
        docker_cli(),
        "run",
        "--name",
        name,
        "--sig-proxy=false",
        *NONE,
        BASE,
        "sh",
        "-c",
        "trap 'exit 9' INT; while echo ready; do sleep 0.02; done",
    ]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, env=daemon.environment(), start_new_session=True)
    assert client.stdout is not None and client.stdout.readline() == b"ready\n"
    client.terminate()
    daemon.docker("exec", name, "true")
    client.kill()
    client.wait(120)
    client.stdout.close()
    assert inspected(daemon, name)["State"]["Running"]
    attached = subprocess.Popen(
        [docker_cli(), "attach", "--sig-proxy=true", name], stdout=subprocess.PIPE, env=daemon.environment(), start_new_session=True
    )
    assert attached.stdout is not None and attached.stdout.readline() == b"ready\n"
    attached.send_signal(signal.SIGINT)
    attached.stdout.read()
    attached.wait(120)
    attached.stdout.close()
    assert inspected(daemon, name)["State"]["ExitCode"] == 9


@pytest.mark.covers("cli:run --pull", "cli:create --pull", "cli:run --quiet", "cli:create --quiet", "cli:run --platform", "cli:create --platform", "cli:run --disable-content-trust",
                    "cli:create --disable-content-trust", "cli:run --runtime", "cli:run --use-api-socket", "cli:create --use-api-socket")  # fmt: skip
@pytest.mark.docker_cli(0, 29)
def test_where_the_image_comes_from(daemon: Daemon) -> None:
    for cli in (daemon.docker, daemon.lamina):
        for command in ("run", "create"):
            assert "no such image" in cli(command, "--pull", "never", "127.0.0.1:1/absent", code=None).stderr.lower()
            assert cli(command, "--pull", "always", "--quiet", "127.0.0.1:1/absent", code=None).returncode in (1, 125)
            other = cli(command, "--platform", "linux/arm64", "--pull", "never", BASE, code=None).stderr
            assert "does not match the specified platform (linux/arm64)" in other
        flags = [
            "--platform",
            "linux/amd64",
            "--pull",
            "missing",
            "--disable-content-trust=true",
            "--runtime",
            "lamina",
            "--quiet",
            "--use-api-socket",
        ]
        shown = cli("run", "--rm", *NONE, *flags, BASE, "test", "-S", "/var/run/docker.sock")
        assert (shown.stdout, shown.stderr) == ("", "")


@pytest.mark.covers("cli:run --health-cmd", "cli:run --health-interval", "cli:run --health-retries", "cli:run --health-start-interval", "cli:run --health-start-period",
                    "cli:run --health-timeout", "cli:run --no-healthcheck", "cli:run --restart", "cli:run --expose")  # fmt: skip
def test_what_is_kept_for_later_is_shown(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, *HEALTH, "--expose", "80", "--restart", "on-failure:3", BASE, "sleep", "1000")
    facts = inspected(daemon, name)
    second = 10**9
    assert facts["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"], "Interval": 60 * second, "Timeout": 5 * second, "Retries": 4, "StartPeriod": 2 * second, "StartInterval": second,
    }  # fmt: skip
    assert facts["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert "80/tcp" in facts["Config"]["ExposedPorts"]
    daemon.docker("rm", "-f", name)
    daemon.docker("run", "-d", "--name", name, *NONE, "--no-healthcheck", BASE, "sleep", "1000")
    assert inspected(daemon, name)["Config"]["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.docker_cli(28)
@pytest.mark.covers(
    "cli:create --annotation", "cli:create --attach", "cli:create --blkio-weight", "cli:create --blkio-weight-device", "cli:create --cap-add",
    "cli:create --cap-drop", "cli:create --cgroup-parent", "cli:create --cgroupns", "cli:create --cpu-period", "cli:create --cpu-quota",
    "cli:create --cpu-shares", "cli:create --cpuset-cpus", "cli:create --cpuset-mems", "cli:create --device", "cli:create --device-cgroup-rule",
    "cli:create --device-read-bps", "cli:create --device-read-iops", "cli:create --device-write-bps", "cli:create --device-write-iops",
    "cli:create --domainname", "cli:create --entrypoint", "cli:create --env", "cli:create --expose", "cli:create --group-add",
    "cli:create --health-cmd", "cli:create --health-interval", "cli:create --health-retries", "cli:create --health-start-interval",
    "cli:create --health-start-period", "cli:create --health-timeout", "cli:create --hostname", "cli:create --interactive", "cli:create --ipc",
    "cli:create --kernel-memory", "cli:create --label", "cli:create --memory", "cli:create --memory-reservation", "cli:create --memory-swap",
    "cli:create --memory-swappiness", "cli:create --mount", "cli:create --name", "cli:create --oom-kill-disable", "cli:create --oom-score-adj",
    "cli:create --pid", "cli:create --pids-limit", "cli:create --privileged", "cli:create --read-only", "cli:create --restart",
    "cli:create --runtime", "cli:create --security-opt", "cli:create --shm-size", "cli:create --stop-signal", "cli:create --stop-timeout",
    "cli:create --sysctl", "cli:create --tmpfs", "cli:create --tty", "cli:create --ulimit", "cli:create --user", "cli:create --userns",
    "cli:create --uts", "cli:create --volume", "cli:create --workdir",
)  # fmt: skip
def test_create_takes_every_flag_and_both_clients_ask_for_the_same(daemon: Daemon, name: str) -> None:
    by_docker = daemon.docker("create", "--name", name, *NONE, *EVERY, BASE, "-c", "true")
    by_lamina = daemon.lamina("create", "--name", f"{name}-own", *NONE, *EVERY, BASE, "-c", "true")
    docker, own = inspected(daemon, name), inspected(daemon, f"{name}-own")
    daemon.docker("rm", f"{name}-own")
    for key in ("Config", "HostConfig", "Mounts", "Path", "Args"):
        assert docker[key] == own[key], key
    assert by_docker.stderr == by_lamina.stderr
    host = docker["HostConfig"]
    shown = {"CapAdd": ["CAP_SYS_TIME"], "CgroupParent": "/parent", "IpcMode": "shareable", "OomScoreAdj": 200, "PidsLimit": 50, "Memory": 64 << 20,
             "ReadonlyRootfs": True, "Sysctls": {"net.ipv4.ip_forward": "1"}, "Tmpfs": {"/tmp": "size=1m"}, "Init": True}  # fmt: skip
    assert {key: host[key] for key in shown} == shown


@pytest.mark.covers("cli:create --env-file", "cli:create --label-file", "cli:create --cidfile", "cli:create --cpus", "cli:create --volumes-from",
                    "cli:create --no-healthcheck", "cli:create --rm")  # fmt: skip
def test_create_reads_the_clients_files_too(daemon: Daemon, name: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=b\n")
    (tmp_path / "labels").write_text("c=d\n")
    daemon.docker("create", "--name", f"{name}-from", "-v", f"{tmp_path}:/v", BASE, "true")
    identity = daemon.docker("create", "--name", name, "--env-file", str(tmp_path / "env"), "--label-file", str(tmp_path / "labels"), "--cidfile", str(tmp_path / "cid"),
                             "--cpus", "0.25", "--volumes-from", f"{name}-from", "--no-healthcheck", "--rm", *NONE, BASE, "cat", "/v/labels").stdout.strip()  # fmt: skip
    facts = inspected(daemon, name)
    assert ((tmp_path / "cid").read_text(), facts["Config"]["Labels"], facts["HostConfig"]["NanoCpus"]) == (
        identity,
        {"c": "d"},
        250_000_000,
    )
    assert "A=b" in facts["Config"]["Env"] and facts["HostConfig"]["AutoRemove"]
    assert daemon.docker("start", "-a", name).stdout == "c=d\n"
    assert "no such" in daemon.docker("inspect", name, code=1).stderr.lower()
    daemon.docker("rm", f"{name}-from")
