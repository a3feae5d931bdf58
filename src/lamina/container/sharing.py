"""/dev/shm of containers that share their IPC namespace: a file system on the host, since others bind it too.

It is mounted below the container's folder while it runs. A container with an IPC namespace of its own has its /dev/shm inside only.
"""

from __future__ import annotations

import errno
import os

from lamina.container.document import number, text
from lamina.container.live import Roster
from lamina.container.model import Container, WrongState
from lamina.linux import mount

_SHM = "shm"
_HOST = "/dev/shm"
_SHAREABLE = "shareable"


def shared(container: Container) -> str:
    """The host directory of the /dev/shm that it shares; "" where it shares none of its own."""
    return f"{container.directory}/{_SHM}" if text(container.host_config, "IpcMode") == _SHAREABLE else ""


def prepare(container: Container) -> None:
    """Mount what others may share. Called before each start."""
    if not (place := shared(container)):
        return
    os.makedirs(place, 0o700, exist_ok=True)
    release(container)
    size = number(container.host_config, "ShmSize")
    flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
    mount.mount(_SHM, place, "tmpfs", flags, f"mode=1777,size={size}")


def release(container: Container) -> None:
    """Unmount it: the container has ended. Others that have it keep it."""
    if not (place := shared(container)):
        return
    try:
        mount.unmount(place, mount.MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def source(container: Container, roster: Roster) -> str:
    """The host directory that is its /dev/shm, "" where it has one inside.

    Raises:
        WrongState: the other container does not share its own.
    """
    kind, _, ref = text(container.host_config, "IpcMode").partition(":")
    if kind == "host":
        return _HOST
    if kind == _SHAREABLE:
        return shared(container)
    if kind != "container":
        return ""
    other = roster.find(ref).container
    mode = text(other.host_config, "IpcMode")
    if mode == "host":
        return _HOST
    if mode != _SHAREABLE:
        raise WrongState(f"cannot join IPC of a container {ref}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)")
    return shared(other)
