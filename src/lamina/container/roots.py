"""A container's root directory as a descriptor: of the running one through its process, of another by a detached mount.

The detached mount is made in a worker, is attached nowhere and goes with its descriptor: nothing is left to unmount.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.model import Container
from lamina.container.store import SCRATCH
from lamina.linux.overlay import mount_overlay_anywhere
from lamina.snapshot.protocol import RootMount


@dataclass(frozen=True, slots=True)
class Root:
    """How a worker reaches a root: `params` belong to its job's parameters, `fds` come first of its descriptors."""

    params: dict[str, Any]
    fds: Sequence[int] = field(default_factory=tuple)


@contextmanager
def reachable(live: Live, launcher: Launcher, containers: str, *, writable: bool = False) -> Iterator[Root]:
    """The root, for one job; `containers` is ROOT/containers. What does not run is kept from being started meanwhile."""
    with live.lock:
        fd = _process_root(live)
        if fd is None:
            yield mounted(launcher.root(live.container, writable=writable), containers)
            return
    try:
        yield Root({"open": True}, (fd,))
    finally:
        os.close(fd)


def _process_root(live: Live) -> int | None:
    """The root directory of its first process; None where there is none, or it ends at this moment."""
    if live.process is None:
        return None
    try:
        return os.open(f"/proc/{live.process.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def mounted(root: RootMount, containers: str) -> Root:
    """A root that the worker mounts."""
    lowers = [lower.path for lower in root.lowers]
    fds = [lower.fd for lower in root.lowers if lower.fd is not None]
    return Root({"lowers": lowers, "upper": root.upper, "work": root.work, "scratch": f"{containers}/{SCRATCH}"}, fds)


def directory(host_path: str) -> Root:
    """A directory of the host as a root: a volume's, a bind mount's source."""
    return Root({"directory": host_path})


@contextmanager
def opened(params: dict[str, Any], fds: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Worker side: the root's descriptor, and the job's other descriptors."""
    if "directory" in params:
        fd, others = os.open(params["directory"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fds
    elif "open" in params:
        fd, others = os.open(f"/proc/self/fd/{fds[0]}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fds[1:]
    else:
        waiting = list(fds)
        lowers = [(waiting.pop(0) if path is None else None, path) for path in params["lowers"]]
        mount = mount_overlay_anywhere(lowers, params["upper"], params["work"], params["scratch"])
        try:
            fd, others = os.open(f"/proc/self/fd/{mount}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), waiting
        finally:
            os.close(mount)
    try:
        yield fd, others
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Held:
    """A path that lies in a mount: the host directory, and the path in that."""

    source: str
    inside: str
    read_only: bool


def mount_point_of(container: Container, path: str) -> Held | None:
    """The mount that `path` lies in by its text: a volume's or bind's, or one of the engine's own files in /etc."""
    cleaned = posixpath.normpath(f"/{path.lstrip('/')}")
    trailing = "/." if path.endswith("/.") else "/" if path.endswith("/") else ""
    for mount in sorted(container.mounts, key=lambda mount: -len(mount.target)):
        if mount.source and (cleaned == mount.target or cleaned.startswith(f"{mount.target}/")):
            if os.path.isdir(mount.source):
                return Held(mount.source, (cleaned[len(mount.target) :] or "/") + trailing, mount.read_only)
            return Held(os.path.dirname(mount.source), f"/{os.path.basename(mount.source)}", mount.read_only)
    name = cleaned.removeprefix("/etc/")
    if name in ("hosts", "hostname", "resolv.conf") and os.path.exists(f"{container.directory}/{name}"):
        return Held(container.directory, f"/{name}", False)
    return None
