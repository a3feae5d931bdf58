"""A container's root directory as a descriptor: of the running one through its process, of another by a detached mount.

The detached mount is made in a worker, is attached nowhere and goes with its descriptor: nothing is left to unmount.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.model import Container
from lamina.linux.overlay import mount_overlay_anywhere
from lamina.snapshot.protocol import RootMount


@dataclass(frozen=True, slots=True)
class Root:
    """How a worker reaches a root: `params` and `fds` are the first of its job's. `shift` counts the descriptors that are the root's."""

    params: dict[str, Any]
    fds: Sequence[int] = field(default_factory=tuple)


@contextmanager
def reachable(live: Live, launcher: Launcher, scratch: str, *, writable: bool = False) -> Iterator[Root]:
    """The root, for one job. What does not run is kept from being started meanwhile."""
    with live.lock:
        if live.process is not None:
            fd = os.open(f"/proc/{live.process.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            yield mounted(launcher.root(live.container, writable=writable), scratch)
            return
    try:
        yield Root({"open": True}, (fd,))
    finally:
        os.close(fd)


def mounted(root: RootMount, scratch: str) -> Root:
    """A root that the worker mounts. `scratch` is a directory that may be covered for a moment."""
    lowers = [lower.path for lower in root.lowers]
    fds = [lower.fd for lower in root.lowers if lower.fd is not None]
    return Root({"lowers": lowers, "upper": root.upper, "work": root.work, "scratch": scratch}, fds)


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


def volume_below(container: Container, path: str) -> tuple[str, str, bool] | None:
    """For a container that does not run: the mount that `path` (absolute, clean) lies in, as (host directory, rest, read-only)."""
    for mount in sorted(container.mounts, key=lambda mount: -len(mount.target)):
        if mount.source and (path == mount.target or path.startswith(f"{mount.target}/")):
            return mount.source, path[len(mount.target) :] or "/", mount.read_only
    return None
