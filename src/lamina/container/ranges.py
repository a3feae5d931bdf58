"""User namespaces of containers: which, and whose ids on the host each has.

Files are id-mapped, on disk are the container's own ids. So a range is a container's only while it runs: it may have another one next time,
and nothing is written down; a running one's is read from the kernel.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lamina.container.document import Document, flag, text
from lamina.container.model import Container
from lamina.errors import InvalidArgument, Unavailable

HOST, AUTO, REMAP = "host", "auto", "remap"
COUNT = 1 << 16
_FIRST, _RANGES = 0x20000000, 1 << 14
"""Ids that systemd's documentation leaves to containers (524288 to 1878982655), and no user of the host has."""


class NoUserNamespace(InvalidArgument):
    """What is asked for does not go with a user namespace of the container's own."""


@dataclass(frozen=True, slots=True)
class UserNamespaces:
    """What containers get that say nothing: HOST, AUTO (a range each), or REMAP (all the same, `remap`: first id and how many)."""

    default: str = HOST
    remap: tuple[int, int] = (_FIRST - COUNT, COUNT)


@dataclass
class Ranges:
    """Gives running containers their ids. Thread-safe."""

    settings: UserNamespaces = field(default_factory=UserNamespaces)
    _taken: dict[str, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mode(self, host: Document) -> str:
        """HOST, AUTO or REMAP for a container."""
        return text(host, "UsernsMode") or self.settings.default

    def take(self, container: Container, joined: Container | None = None) -> None:
        """Before its start. `joined` is a container whose namespaces it shares: with them go its user namespace and its ids.

        Raises:
            Unavailable: more run than there are ranges.
            NoUserNamespace: one of the two has none.
        """
        mode = self.mode(container.host_config)
        theirs = self.of(joined) if joined else None
        if joined and (mode == HOST) != (theirs is None):
            raise NoUserNamespace(f"cannot share namespaces of container {joined.name}: only one of the two has a user namespace")
        if mode == HOST:
            return
        with self._lock:
            if theirs or container.id not in self._taken:
                self._taken[container.id] = theirs or (self.settings.remap if mode == REMAP else self._free(int(container.id[:8], 16)))

    def _free(self, begin: int) -> tuple[int, int]:
        used = {first for first, _ in self._taken.values()}
        for number in range(_RANGES):
            first = _FIRST + (begin + number) % _RANGES * COUNT
            if first not in used:
                return first, COUNT
        raise Unavailable("there are no more ids for user namespaces: too many containers run")

    def of(self, container: Container) -> tuple[int, int] | None:
        """First id on the host, and how many; None where it has the host's."""
        return self._taken.get(container.id)

    def release(self, container: Container) -> None:
        """It has ended, or did not start."""
        with self._lock:
            self._taken.pop(container.id, None)

    def restore(self, container: Container, pid: int) -> None:
        """It was found running."""
        try:
            with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
                inside, first, count = (int(word) for word in file.readline().split())
        except (OSError, ValueError):
            return
        if (inside, first) != (0, 0):
            with self._lock:
                self._taken[container.id] = (first, count)


def check_user_namespace(host: Mapping[str, Any], mode: str) -> None:
    """Refuse what cannot be with a user namespace, in Docker's words where it has some.

    Raises:
        NoUserNamespace
    """
    if mode == HOST:
        return
    if flag(host, "Privileged"):
        raise NoUserNamespace(
            "privileged mode is incompatible with user namespaces. You must run the container in the host namespace when running privileged mode"
        )
    for key, called in (("NetworkMode", "host's network"), ("PidMode", "host PID"), ("IpcMode", "host IPC")):
        if text(host, key) == "host":
            raise NoUserNamespace(f"cannot share the {called} namespace when user namespaces are enabled")


def subordinate(user: str, path: str = "/etc/subuid") -> tuple[int, int]:
    """The first range of a user in /etc/subuid (or subgid).

    Raises:
        InvalidArgument: there is none.
    """
    with open(path, encoding="utf-8") as file:
        lines = [line.strip().split(":") for line in file]
    for words in lines:
        if len(words) == 3 and words[0] == user and words[1].isdigit() and words[2].isdigit():
            return int(words[1]), int(words[2])
    raise InvalidArgument(f"{path} has no range for {user}", hint=f"usermod --add-subuids 100000-165535 {user}")


def remapped(word: str, path: str = "/etc/subuid") -> UserNamespaces:
    """dockerd's `userns-remap`: `default` is a range of the engine's own, another word a user of /etc/subuid.

    Raises:
        InvalidArgument: see subordinate.
    """
    if word == "default":
        return UserNamespaces(REMAP)
    user = word.partition(":")[0]
    if not os.path.exists(path):
        raise InvalidArgument(f"there is no {path} to find the range of {user} in")
    return UserNamespaces(REMAP, subordinate(user, path))
