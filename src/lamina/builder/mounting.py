"""What RUN --mount shows, made ready on the host while the command runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lamina.builder.agentsocket import agent_socket
from lamina.builder.extraction import CannotMount
from lamina.builder.given import Agent
from lamina.linux.mount import MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, move_mount, unmount
from lamina.linux.openat2 import open_in_root
from lamina.linux.overlay import mount_overlay_anywhere
from lamina.runtime.initlayer import write_init_layer
from lamina.runtime.launch import Mount
from lamina.snapshot.protocol import Own, RootMount
from lamina.worker.workers import Report, Workers


class NothingThere(CannotMount):
    """What is to be mounted does not exist."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One mount of a RUN at `target`.

    The bytes of a `secret`, or a socket to an `agent`, either with `mode`, `uid` and `gid`; a tmpfs with `options`; or the host's `path`;
    or `source` in the root that `root` makes of directories of its own, where writes are dropped afterwards: of a `volume` a folder, which
    is empty where the root has none. `folder` says which of both is mounted where it is a host path.
    """

    target: str
    path: str = ""
    root: Callable[[Own], RootMount] | None = None
    source: str = ""
    readonly: bool = False
    options: tuple[str, ...] = ()
    folder: bool = True
    volume: bool = False
    secret: bytes | None = None
    agent: Agent | None = None
    mode: int = 0
    uid: int = 0
    gid: int = 0


class Mounts:
    """The mounts of one step, below `directory`, which is the step's own."""

    def __init__(self, directory: str, workers: Workers) -> None:
        self._directory, self._workers = os.path.join(directory, "mounts"), workers

    @contextmanager
    def made(self, shown: Sequence[Shown]) -> Iterator[list[tuple[Mount, bool]]]:
        """What the runtime is to mount, and whether it is a folder; unmounted again when the context is left."""
        with ExitStack() as stack:
            yield [self._one(number, each, stack) for number, each in enumerate(shown)]

    def points(self, root: dict[str, Any], mounts: Sequence[tuple[Mount, bool]]) -> str:
        """An init layer with the mount points that `root` lacks; "" where it lacks none. What lies in another mount is not its business."""
        targets = [each.target.rstrip("/") for each, _ in mounts]
        lacking = [
            [each.target, folder]
            for each, folder in mounts
            if not any(each.target.startswith(f"{other}/") for other in targets if other != each.target.rstrip("/"))
        ]
        path = os.path.join(self._directory, "points")
        write_init_layer(path)
        answer = self._workers.run("lamina.builder.extraction:points_job", {"root": root, "targets": lacking, "path": path})
        return path if answer["made"] else ""

    def _one(self, number: int, shown: Shown, stack: ExitStack) -> tuple[Mount, bool]:
        if shown.secret is not None or shown.agent is not None:
            return Mount("bind", shown.target, self._given(number, shown, stack), readonly=shown.secret is not None), False
        if not shown.path and shown.root is None:
            return Mount("tmpfs", shown.target, readonly=shown.readonly, options=shown.options), True
        path, folder = shown.path, shown.folder
        if shown.root is not None:
            root = self._stacked(number, shown.root, stack.callback)
            path, folder = (self._volume(number, root, shown.source), True) if shown.volume else _inside(root, shown.source)
        return Mount("bind", shown.target, path, readonly=shown.readonly), folder

    def _given(self, number: int, shown: Shown, stack: ExitStack) -> str:
        """The path of a secret's file, in memory only, or of an agent's socket."""
        place = os.path.join(self._directory, str(number), "root")
        os.makedirs(place, mode=0o700)
        if shown.agent is not None:
            return stack.enter_context(agent_socket(place, shown.agent, mode=shown.mode, uid=shown.uid, gid=shown.gid))
        stack.callback(detach, place)
        mount("lamina", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")
        path = os.path.join(place, "secret")
        with open(path, "xb") as file:
            file.write(shown.secret or b"")
            os.fchown(file.fileno(), shown.uid, shown.gid)
            os.fchmod(file.fileno(), shown.mode)
        return path

    def _volume(self, number: int, root: str, source: str) -> str:
        try:
            path, folder = _inside(root, source)
        except NothingThere:
            path = os.path.join(self._directory, str(number), "empty")
            os.mkdir(path, 0o755)
            return path
        if not folder:
            raise CannotMount(f"cannot mount volume over existing file, file exists {source}")
        return path

    def _stacked(self, number: int, root: Callable[[Own], RootMount], later: Callable[..., object]) -> str:
        """Where the files of a stack can be read and written now."""
        place = os.path.join(self._directory, str(number))
        for name in ("root", "upper", "work"):
            os.makedirs(f"{place}/{name}")
        made = root(Own(f"{place}/upper", f"{place}/work", volatile=True))
        if not made.lowers:
            return made.upper or f"{place}/upper"
        later(detach, f"{place}/root")
        fds = [lower.fd for lower in made.lowers if lower.fd is not None]
        params = {"place": place, "paths": [lower.path if lower.fd is None else None for lower in made.lowers]}
        self._workers.run("lamina.builder.mounting:mount_job", params, fds)
        return f"{place}/root"


def mount_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: mount layers (`paths`, None for one that comes as a descriptor; top first) at `place`/root, writable."""
    place, left = params["place"], iter(fds)
    lowers = [(next(left), None) if path is None else (None, path) for path in params["paths"]]
    fd = mount_overlay_anywhere(lowers, f"{place}/upper", f"{place}/work", f"{place}/root", volatile=True)
    try:
        move_mount(fd, f"{place}/root")
    finally:
        os.close(fd)
    return {}


def detach(path: str) -> None:
    """Unmount what a step mounted at `path`, if something is."""
    with suppress(OSError):
        unmount(path, MNT_DETACH)


def sweep(directory: str) -> None:
    """Unmount what the step of `directory` left mounted."""
    with suppress(FileNotFoundError):
        for name in os.listdir(os.path.join(directory, "mounts")):
            detach(os.path.join(directory, "mounts", name, "root"))


def _inside(root: str, source: str) -> tuple[str, bool]:
    """The host path of `source` below `root`, links followed as in a chroot; and whether it is a folder."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_in_root(top, source.lstrip("/") or ".", os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        kind = NothingThere if error.errno == errno.ENOENT else CannotMount
        raise kind(f"RUN --mount: {source} cannot be mounted: {os.strerror(error.errno or 0).lower()}") from None
    finally:
        os.close(top)
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
        return path, os.path.isdir(path)
    finally:
        os.close(fd)
