"""Containers without a mount namespace of their own, which OCI bundles may ask for and the engine never does: their root is mounted
where the bundle says, in the host's sight or in another's, and somebody has to unmount it."""

from __future__ import annotations

import os

from lamina.linux import mount, namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def mount_number(fd: int) -> int:
    """The kernel's number of the mount that a descriptor is of."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"mnt_id:")), 0)


def remove(placed: Mapping[str, Any], root: str = "") -> None:
    """Unmount `placed` ({path, namespace, inode, number}): `root` where the caller holds it, else what is at its path if that is still the
    same mount.

    Nothing where it, or the mount namespace it is in, is gone.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _remove(placed, root)
        except OSError:
            pass  # gone, or never mounted
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _remove(placed: Mapping[str, Any], root: str) -> None:
    if placed["namespace"]:
        fd = os.open(placed["namespace"], os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(fd).st_ino != placed["inode"]:
            return
        namespace.setns(fd, namespace.CLONE_NEWNS)
    if not root:
        fd = os.open(placed["path"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if mount_number(fd) != placed["number"]:
            return
        root = f"/proc/self/fd/{fd}"
    mount.unmount(root, mount.MNT_DETACH)
