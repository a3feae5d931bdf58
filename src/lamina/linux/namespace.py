"""Namespaces and the processes in them: clone3, setns, unshare, pivot_root, host names."""

from __future__ import annotations

import ctypes
import os
import struct

from lamina.linux.libc import check, libc, machine, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x80, 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000
_CLONE_PIDFD, _CLONE_PARENT, _CLONE_INTO_CGROUP = 0x1000, 0x8000, 0x200000000
_CLONE3 = 435
_CLOSE_RANGE, _CLOSE_RANGE_CLOEXEC = 436, 4
_CLONE = {"x86_64": 56, "aarch64": 220}[machine]
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[machine]
_SIGCHLD = 17

KINDS = {
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "time": CLONE_NEWTIME,
}
"""The runtime specification's names of namespaces."""


def clone3(flags: int = 0, *, cgroup: int | None = None, sibling: bool = False) -> tuple[int, int]:
    """Fork into new namespaces; (0, -1) in the child, (pid, pidfd) in the parent, which must wait for it.

    `cgroup` is a descriptor of a v2 cgroup directory to start in. A `sibling` is a child of this process's parent. The interpreter is not
    told: only for processes with one thread, and a child that executes or ends soon.
    """
    pidfd = ctypes.c_int(-1)
    flags |= _CLONE_PIDFD | (0 if cgroup is None else _CLONE_INTO_CGROUP) | (_CLONE_PARENT if sibling else 0)
    # A sibling's end is signalled as this process's own will be; the kernel wants no signal named then.
    arguments = struct.pack("11Q", flags, ctypes.addressof(pidfd), 0, 0, 0 if sibling else _SIGCHLD, 0, 0, 0, 0, 0, cgroup or 0)
    pid = syscall(_CLONE3, "clone3", arguments, len(arguments))
    return pid, pidfd.value


def clone_sibling() -> int:
    """Fork a child of this process's parent, as `clone3` does, by the older call: filters that refuse that one let this through. 0 in the child."""
    return syscall(_CLONE, "clone", _CLONE_PARENT, 0, 0, 0, 0)


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(libc.unshare(flags), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """Join a namespace, or by a pidfd those of a process that `flags` name."""
    check(libc.setns(fd, flags), "setns")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    syscall(_PIVOT_ROOT, "pivot_root", os.fsencode(new), os.fsencode(old))


def set_host_name(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    check(libc.sethostname(encoded, len(encoded)), "sethostname")


def set_domain_name(name: str) -> None:
    """setdomainname(2)."""
    encoded = os.fsencode(name)
    check(libc.setdomainname(encoded, len(encoded)), "setdomainname")


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on as closed by execve."""
    syscall(_CLOSE_RANGE, "close_range", first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)


def write_maps(pid: int, maps: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Say what the ids of a process's new user namespace are outside; `uids` and `gids` are (inside, outside, how many). Once a
    namespace."""
    for file, key in (("uid_map", "uids"), ("gid_map", "gids")):
        fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, "".join(f"{inside} {outside} {count}\n" for inside, outside, count in maps[key]).encode())
        finally:
            os.close(fd)


def user_namespace(maps: Mapping[str, Sequence[Sequence[int]]]) -> int:
    """A descriptor of a user namespace with these maps, for id-mapping mounts. Forks: only for processes with one thread."""
    waiting, go = os.pipe()
    pid, pidfd = clone3(CLONE_NEWUSER)
    if pid == 0:
        os.close(go)
        os.read(waiting, 1)
        os._exit(0)
    try:
        write_maps(pid, maps)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (waiting, go, pidfd):
            os.close(fd)
        os.waitpid(pid, 0)
