"""What is told of the machine: kernel, memory, control groups."""

from __future__ import annotations

import os
import shlex
import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """Facts of the machine; `memory` is bytes, `cgroup_version` "1" or "2"."""

    name: str
    kernel: str
    architecture: str
    operating_system: str
    os_version: str
    cpus: int
    memory: int
    cgroup_version: str
    id: str


def read_host(root: str) -> Host:
    """The machine that this process runs on; the ID is one of machine and data root."""
    system = os.uname()
    release = _os_release()
    return Host(
        name=system.nodename,
        kernel=system.release,
        architecture=system.machine,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version="2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1",
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{_first_line('/etc/machine-id')} {os.path.realpath(root)}")),
    )


def file_system_of(path: str) -> str:
    """The type of the file system that holds `path`, in the kernel's word; "" where it is not told."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                if before.split()[2] == wanted:
                    return after.split()[0]
    except OSError:
        pass
    return ""


def _os_release() -> dict[str, str]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as file:
                pairs = (line.strip().partition("=") for line in file if "=" in line and not line.startswith("#"))
                return {name: " ".join(shlex.split(value)) for name, _, value in pairs}
        except (OSError, ValueError):
            continue
    return {}


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
