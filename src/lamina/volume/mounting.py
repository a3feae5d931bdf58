"""Volumes that are a mount: mounted on the host while somebody uses them, once for all, as Docker's local driver does."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading

from lamina.errors import Internal
from lamina.linux import mount
from lamina.volume.options import MountCall, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OCTAL = re.compile(rb"\\([0-7]{3})")


class VolumeNotMounted(Internal):
    """The kernel, or the server that has the volume, refused."""


class Mounting:
    """Who uses which mounted volume. Thread-safe; a server that does not answer holds up the users of its volume only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._users: dict[str, set[str]] = {}

    def use(self, mountpoint: str, options: Mapping[str, str], user: str) -> None:
        """Mount it, unless it is; it stays until every user has let go.

        Raises:
            VolumeNotMounted: in one sentence; the user has nothing then.
        """
        with self._turn(mountpoint):
            if not mounted(mountpoint):
                perform(call(options, _address), mountpoint)
            self._users.setdefault(mountpoint, set()).add(user)

    def release(self, mountpoint: str, user: str) -> None:
        """A user lets go; the last one unmounts. Repeating does nothing."""
        if mountpoint not in self._users:
            return
        with self._turn(mountpoint):
            users = self._users.get(mountpoint, set())
            users.discard(user)
            if not users:
                self._users.pop(mountpoint, None)
                unmount_below(mountpoint)

    def found(self, mountpoint: str, user: str) -> None:
        """At start: somebody who runs uses it."""
        self._users.setdefault(mountpoint, set()).add(user)

    def settle(self, root: str) -> None:
        """At start, when all users are known: unmount below `root` what nobody uses."""
        for place in places(root):
            if not any(place == used or place.startswith(f"{used}/") for used in self._users):
                _unmount(place)

    def _turn(self, mountpoint: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(mountpoint, threading.Lock())


def perform(asked: MountCall, target: str) -> None:
    """Mount it. Raises VolumeNotMounted."""
    try:
        mount.mount(asked.device, target, asked.kind, asked.flags, asked.data)
        if asked.flags & mount.MS_BIND and asked.flags & ~(mount.MS_BIND | mount.MS_REC):
            # A bind takes its attributes in a second step.
            mount.mount(asked.device, target, "", asked.flags & ~mount.MS_REC | mount.MS_REMOUNT)
        if asked.propagation:
            mount.mount("", target, "", asked.propagation)
    except OSError as error:
        unmount_below(target)
        reason = os.strerror(error.errno or errno.EIO).lower()
        words = f"error while mounting volume '{target}': failed to mount local volume: {asked.words(target)}: {reason}"
        raise VolumeNotMounted(words) from None


def mounted(path: str) -> bool:
    """Whether something is mounted there: a bind from the same file system too, which os.path.ismount does not see."""
    return path in places(path)


def places(root: str) -> list[str]:
    """Mount points at and below `root`, the last mounted first."""
    found = []
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            place = os.fsdecode(_OCTAL.sub(lambda code: bytes([int(code[1], 8)]), line.split(b" ", 5)[4]))
            if place == root or place.startswith(f"{root}/"):
                found.append(place)
    return found[::-1]


def unmount_below(root: str) -> None:
    """Unmount what is mounted at and below `root`: nothing that removes files may ever reach what a volume was a mount of.

    Raises:
        OSError: something stays mounted.
    """
    for place in places(root):
        _unmount(place)


def _unmount(place: str) -> None:
    try:
        mount.unmount(place, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def _address(host: str) -> str:
    """The address of a server, which may be one already.

    Raises:
        VolumeNotMounted: nobody knows the name.
    """
    try:
        return str(socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        raise VolumeNotMounted(f"error resolving passed in network volume address: no such host: {host[:200]}") from None
