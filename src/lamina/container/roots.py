"""A container's root directory as a descriptor: of the running one through its process, of another by a detached mount.

The detached mount is made in a worker, is attached nowhere and goes with its descriptor: nothing is left to unmount.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lamina.container.document import text
from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.model import Container
from lamina.container.mounts import InvalidMount
from lamina.container.sources import bound_part
from lamina.container.store import SCRATCH
from lamina.errors import LaminaError
from lamina.linux import channel, mount
from lamina.linux.namespace import CLONE_NEWNS, setns, unshare
from lamina.linux.openat2 import open_in_root
from lamina.linux.overlay import mount_overlay, mount_overlay_anywhere
from lamina.snapshot.protocol import RootMount

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Root:
    """How a worker reaches a root: `params` belong to its job's parameters, `fds` come first of its descriptors."""

    params: dict[str, Any]
    fds: Sequence[int] = field(default_factory=tuple)


@contextmanager
def reachable(live: Live, launcher: Launcher, containers: str, *, writable: bool = False, bare: bool = False) -> Iterator[Root]:
    """The root, for one job, with the container's volumes and binds on it, or `bare`; `containers` is ROOT/containers.

    What does not run is kept from being started meanwhile.

    Raises ContainerNotFound: it was removed just now.
    """
    with live.lock:
        live.check_there()
        fd = _of_process(live, "ns/mnt" if bare else "root")
        if fd is None:
            root = mounted(launcher.root(live.container, writable=writable), containers)
            if bare:
                yield root
                return
            with launcher.sources.borrowed(live.container):
                yield Root({**root.params, "binds": _binds(live.container), "folder": _working(live.container)}, root.fds)
            return
    try:
        first, _ = launcher.ranges.of(live.container) or (0, 0)
        yield Root({"namespace" if bare else "open": True, "first_id": first}, (fd,))
    finally:
        os.close(fd)


def _of_process(live: Live, name: str) -> int | None:
    """A file in /proc of its first process; None where there is no process, or it ends at this moment."""
    if live.process is None:
        return None
    kind = os.O_RDONLY if name.startswith("ns/") else os.O_PATH | os.O_DIRECTORY
    try:
        fd = os.open(f"/proc/{live.process.pid}/{name}", kind | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # That it can be signalled now says that its number was not given to a process of the host's before.
        live.process.signal(0)
    except LaminaError:
        os.close(fd)
        return None
    return fd


def _binds(container: Container) -> list[dict[str, Any]]:
    """What is bound onto the root when it runs, parents first."""
    binds = [
        {"source": point.source, "subpath": point.subpath, "target": point.target, "read_only": point.read_only}
        for point in sorted(container.mounts, key=lambda point: point.target)
        if point.source
    ]
    files = [(f"{container.directory}/{name}", f"/etc/{name}") for name in ("hosts", "hostname", "resolv.conf")]
    taken = {point.target for point in container.mounts}
    return binds + [
        {"source": source, "subpath": "", "target": target, "read_only": False}
        for source, target in files
        if target not in taken and os.path.exists(source)
    ]


def _working(container: Container) -> str:
    """The working directory of one that never ran: as with Docker it is there before the first start, which makes it. "" of others."""
    return "" if container.state.started_ns else text(container.config, "WorkingDir")


def mounted(root: RootMount, containers: str) -> Root:
    """A root that the worker mounts."""
    lowers = [lower.path for lower in root.lowers]
    fds = [lower.fd for lower in root.lowers if lower.fd is not None]
    return Root({"lowers": lowers, "upper": root.upper, "work": root.work, "scratch": f"{containers}/{SCRATCH}"}, fds)


@contextmanager
def opened(params: dict[str, Any], fds: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Worker side: the root's descriptor, and the job's other descriptors."""
    if "open" in params:
        tree, others = os.dup(fds[0]), fds[1:]
    elif "namespace" in params:
        tree, others = _from_child(lambda: _bare_root(fds[0])), fds[1:]
    else:
        others = list(fds)
        lowers = [(others.pop(0) if path is None else None, path) for path in params["lowers"]]
        if params.get("binds") or params.get("folder"):
            tree = _from_child(lambda: _bound_root(params, lowers))
        else:
            tree = mount_overlay_anywhere(lowers, params["upper"], params["work"], params["scratch"])
    try:
        fd = os.open(f"/proc/self/fd/{tree}", _FOLDER)
    finally:
        os.close(tree)
    try:
        yield fd, others
    finally:
        os.close(fd)


def _from_child(make: Callable[[], int]) -> int:
    """The descriptor that `make` returns in a forked child, which may enter what namespaces it likes. Workers only."""
    mine, theirs = channel.pair()
    pid = os.fork()
    if pid == 0:
        try:
            theirs.send({}, [make()])
        except OSError as error:
            theirs.send({"errno": error.errno or errno.EIO, "message": error.strerror or ""})
        finally:
            os._exit(0)
    theirs.close()
    try:
        answer, fds = mine.recv()
    finally:
        mine.close()
        os.waitpid(pid, 0)
    if not fds:
        raise OSError(answer["errno"], answer["message"])
    return fds[0]


def _bare_root(namespace: int) -> int:
    """A copy of the root mount of a mount namespace, without what is mounted on it. From here on, nothing may be imported."""
    setns(namespace, CLONE_NEWNS)
    return mount.open_tree("/")


def _bound_root(params: dict[str, Any], lowers: list[tuple[int | None, str | None]]) -> int:
    """The overlay with the working directory `folder` in it and the binds on it. What is missing is made: for reading, in memory only.

    A root that is not an overlay gets them as it would when it is started.
    """
    unshare(CLONE_NEWNS)
    mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)
    scratch, upper, work = params["scratch"], params["upper"], params["work"]
    mount.mount("tmpfs", scratch, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV)
    for name in ("upper", "work", "cover", "root"):
        os.mkdir(f"{scratch}/{name}", 0o755)
    throwaway = upper is None
    if throwaway and len(lowers) == 1:
        upper, lowers = lowers[0][1], []
    elif throwaway:
        upper, work = f"{scratch}/upper", f"{scratch}/work"
        _dress_like(upper, lowers[0][1])
    overlay = mount_overlay(lowers, upper, work, f"{scratch}/cover")
    mount.move_mount(overlay, f"{scratch}/root")
    root = os.open(f"{scratch}/root", _FOLDER)
    if params["folder"]:
        with suppress(OSError):  # what is in the way is told at the start
            os.close(_mount_point(root, params["folder"], folder=True))
    for bind in params["binds"]:
        _bind(root, bind)
    if throwaway:
        mount.set_attributes(overlay, mount.MOUNT_ATTR_RDONLY)
    return mount.open_tree(f"{scratch}/root", recursive=True)


def _dress_like(directory: str, model: str | None) -> None:
    """The root directory of an overlay looks like its upper's."""
    if model is not None:
        status = os.stat(model)
        os.chown(directory, status.st_uid, status.st_gid)
        os.chmod(directory, stat.S_IMODE(status.st_mode))
        os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))


def _bind(root: int, bind: Mapping[str, Any]) -> None:
    """Bind a file or directory of the host; where it is gone, or something else is at the target, nothing."""
    try:
        tree = bound_part(bind["source"], bind["subpath"])
    except (FileNotFoundError, InvalidMount):
        return
    if bind["read_only"]:
        mount.set_attributes(tree, mount.MOUNT_ATTR_RDONLY, recursive=True)
    try:
        place = _mount_point(root, bind["target"], folder=os.path.isdir(f"/proc/self/fd/{tree}"))
        mount.move_mount(tree, "", directory=place)
        os.close(place)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.EINVAL, errno.EROFS):
            raise


def _mount_point(root: int, target: str, *, folder: bool) -> int:
    try:
        return open_in_root(root, target, _PLACE)
    except FileNotFoundError:
        pass
    walked = ""
    *above, last = [part for part in target.split("/") if part]
    here = os.dup(root)
    for part in (*above, *([last] if folder else [])):
        try:
            os.mkdir(part, 0o755, dir_fd=here)
        except FileExistsError:
            pass
        walked += f"/{part}"
        os.close(here)
        here = open_in_root(root, walked, _FOLDER)
    if not folder:
        os.close(os.open(last, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=here))
    os.close(here)
    return open_in_root(root, target, _PLACE)
