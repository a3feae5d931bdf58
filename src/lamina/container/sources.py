"""What a container's mounts need on the host while it runs: volumes that are mounts, images, and parts of both.

An image is mounted below the container's folder; a part is opened so that no symlink leads out of its volume, and given to the runtime by
its descriptor, so that nobody can exchange it in between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lamina.apitypes.events import Event
from lamina.container.model import Container, MountPoint
from lamina.container.mounts import InvalidMount, shows_root
from lamina.container.parts import Layers
from lamina.container.store import SCRATCH
from lamina.errors import NotFound
from lamina.linux import mount
from lamina.linux.openat2 import open_in_root
from lamina.snapshot.protocol import Lower
from lamina.spec.digest import Digest
from lamina.volume.mounting import unmount_below
from lamina.volume.store import Volumes
from lamina.worker import Workers

_PLACE = os.O_PATH | os.O_CLOEXEC
_SHARES = {"shared": ({"shared"}, "a shared"), "slave": ({"shared", "master"}, "a shared or slave")}
"""By a bind's propagation, what mountinfo must say of the mount below it, and how that is called."""


def volume_events(container: Container, action: str) -> Iterator[Event]:
    """What is told of each volume of a container: `mount` when it starts, `unmount` when it has ended."""
    for point in container.mounts:
        if point.kind == "volume":
            told = {"driver": "local", "container": container.id}
            if action == "mount":
                told |= {"destination": point.target, "read/write": str(not point.read_only).lower(), "propagation": point.propagation}
            yield Event("volume", action, point.name, told)


class Sources:
    """Thread-safe for different containers; one container's calls are made with its lock. `containers` is ROOT/containers."""

    def __init__(self, volumes: Volumes, layers: Layers, workers: Workers, containers: str) -> None:
        self._volumes, self._layers, self._workers, self._containers = volumes, layers, workers, containers

    def take(self, container: Container) -> bool:
        """Mount what it needs; whether a volume of it is a mount.

        Raises:
            VolumeNotFound, VolumeNotMounted, LayerDamaged: it has nothing then.
        """
        some = False
        try:
            for point in container.mounts:
                if point.kind == "volume":
                    some |= self._volumes.use(point.name, container.id)
                elif point.kind == "image":
                    self._mount_image(point)
        except BaseException as error:
            self.give_back(container)
            if isinstance(error, NotFound):  # clients would take it for the container that is missing
                raise InvalidMount(error.message) from None
            raise
        return some

    def give_back(self, container: Container) -> None:
        """It has ended; repeating does nothing."""
        for point in container.mounts:
            if point.kind == "volume":
                self._volumes.release(point.name, container.id)
            elif point.kind == "image":
                unmount_below(point.source)

    def found(self, container: Container) -> None:
        """At start: it runs."""
        for point in container.mounts:
            if point.kind == "volume":
                self._volumes.found(point.name, container.id)

    @contextmanager
    def borrowed(self, container: Container) -> Iterator[None]:
        """As `take`, for one look at a container that does not run."""
        self.take(container)
        try:
            yield
        finally:
            self.give_back(container)

    @contextmanager
    def parts(self, container: Container) -> Iterator[Mapping[str, str]]:
        """By target, host paths of the parts of volumes and images that are mounted; they lead there inside this context only.

        Raises:
            InvalidMount: the volume has no such path.
        """
        opened: dict[str, int] = {}
        try:
            for point in container.mounts:
                if point.subpath:
                    opened[point.target] = open_part(point.source, point.subpath)
            yield {target: f"/proc/{os.getpid()}/fd/{fd}" for target, fd in opened.items()}
        finally:
            for fd in opened.values():
                os.close(fd)

    def _mount_image(self, point: MountPoint) -> None:
        os.makedirs(point.source, 0o700, exist_ok=True)
        unmount_below(point.source)
        lowers: tuple[Lower, ...] = self._layers.lowers(Digest.parse(point.layer))
        fds = [lower.fd for lower in lowers if lower.fd is not None]
        params = {"target": point.source, "lowers": [None if lower.fd is not None else lower.path for lower in lowers]}
        self._workers.run("lamina.snapshot.mountjob:attach", {**params, "scratch": f"{self._containers}/{SCRATCH}"}, fds)


def open_part(source: str, subpath: str) -> int:
    """A descriptor of a path inside a volume. Raises InvalidMount."""
    root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root(root, subpath, _PLACE)
    except OSError as error:
        raise InvalidMount(f"cannot access path {source}/{subpath}: {os.strerror(error.errno or 0).lower()}") from None
    finally:
        os.close(root)


def check_propagation(container: Container) -> None:
    """Refuse a bind that is to share with the host what the host does not share, in Docker's words: mounts would never pass. One that shows
    the data root may be a slave of nothing, since nobody need have asked for that.

    Raises:
        InvalidMount: its source is on a mount that is not shared; for a slave, neither shared nor a slave.
    """
    root = os.path.dirname(os.path.dirname(container.directory))
    for point in container.mounts:
        kind = point.propagation.removeprefix("r")
        if point.kind != "bind" or kind not in _SHARES or (kind == "slave" and shows_root(point.source, root)):
            continue
        wanted, called = _SHARES[kind]
        try:
            place, tags = _mount_of(point.source)
        except OSError as error:
            raise InvalidMount(f"cannot access path {point.source}: {(error.strerror or '').lower()}") from None
        if not wanted & tags:
            raise InvalidMount(f"path {point.source} is mounted on {place} but it is not {called} mount")


def _mount_of(path: str) -> tuple[str, set[str]]:
    """Where the mount that a path is on is attached, and what it shares: `shared` with its peers, `master` is where it takes from."""
    fd = os.open(path, _PLACE)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = next((line.split(" ") for line in file if line.startswith(f"{number} ")), ["", "", "", "", "", "", "-"])
    place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
    return place, {field.partition(":")[0] for field in fields[6 : fields.index("-")]}


def bound_part(source: str, subpath: str) -> int:
    """Worker side: a detached copy of what is mounted, a part of it where there is a `subpath`."""
    if not subpath:
        return mount.open_tree(source, recursive=True)
    part = open_part(source, subpath)
    try:
        return mount.open_tree(f"/proc/self/fd/{part}", recursive=True)
    finally:
        os.close(part)
