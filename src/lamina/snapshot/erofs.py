"""The erofs driver: a layer is its tar and a metadata image that the kernel mounts; nothing is extracted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamina.errors import NotFound
from lamina.layer.erofs.reader import check_all, read_superblock
from lamina.layer.errors import LayerDamaged
from lamina.layer.jobs import remove as remove_path
from lamina.layer.staged import Staged, TarSource
from lamina.layer.tree import Limits
from lamina.linux import mount
from lamina.snapshot.layers import LayerFiles, run_stage, run_stage_upper
from lamina.snapshot.protocol import FdStore, Lower, Progress
from lamina.snapshot.stacked import Stacked
from lamina.worker.workers import Workers

BlobPath = Callable[[str], str]
"""The path of the blob with that SHA-256 in hex, whether it exists or not."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How this kernel takes layers. `loop`: through loop devices, since the file system cannot back EROFS itself.

    `descriptors`: overlayfs takes detached mounts; else layers are mounted below `run/layers`.
    """

    loop: bool = False
    descriptors: bool = True


class ErofsSnapshotter(Stacked):
    """See `protocol.Snapshotter`."""

    name = "erofs"

    def __init__(
        self, root: str, blob_path: BlobPath, workers: Workers, fds: FdStore, ways: Ways | None = None, limits: Limits | None = None
    ) -> None:
        self._files = LayerFiles(os.path.join(root, "layers"))
        self._mounts = os.path.join(root, "run", "layers")
        self._blob_path, self._workers, self._fds = blob_path, workers, fds
        self._ways, self._limits = ways or Ways(), limits or Limits()
        self._lock = threading.Lock()

    def stage(self, source: TarSource, scratch: str, progress: Progress | None = None) -> Staged:
        """See `Snapshotter.stage`."""
        return run_stage(self._workers, "lamina.layer.jobs:stage_erofs", source, scratch, self._limits, progress)

    def stage_upper(self, upper: str, below: Sequence[str], scratch: str, progress: Progress | None = None) -> Staged:
        """See `Snapshotter.stage_upper`."""
        indexes = [self.index(name) for name in below]
        return run_stage_upper(self._workers, {"extract": False}, upper, indexes, scratch, self._limits, progress)

    def publish(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """See `Snapshotter.publish`."""
        if self.exists(name):
            for path in (staged.metadata, *([staged.tree] if staged.tree else [])):
                remove_path(path)
            return
        self._files.publish(staged, name, [self.index(lower) for lower in below])

    def discard(self, staged: Staged) -> None:
        """See `Snapshotter.discard`."""
        self._files.discard(staged)

    def lowers(self, names: Sequence[str]) -> tuple[Lower, ...]:
        """See `Snapshotter.lowers`."""
        with self._lock:
            return tuple(self._lower(name) for name in self._files.visible(names))

    def index(self, name: str) -> str:
        """See `Snapshotter.index`."""
        return self._files.index(name)

    def tree(self, name: str) -> str | None:
        """See `Snapshotter.tree`; there is none."""
        return None

    def exists(self, name: str) -> bool:
        """See `Snapshotter.exists`."""
        return self._files.exists(name)

    def names(self) -> list[str]:
        """See `Snapshotter.names`."""
        return self._files.names()

    def usage(self, name: str) -> int:
        """See `Snapshotter.usage`."""
        return os.stat(self.index(name)).st_blocks * 512

    def check(self, name: str, *, deep: bool = False) -> None:
        """See `Snapshotter.check`."""
        fd = os.open(self.index(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            superblock = check_all(fd, name) if deep else read_superblock(fd, name)
        finally:
            os.close(fd)
        try:
            size = os.stat(self._blob_path(superblock.diff_id)).st_size
        except (FileNotFoundError, NotFound):
            raise LayerDamaged(f"layer {name} is damaged: its tar sha256:{superblock.diff_id} is missing") from None
        if size != superblock.tar_size:
            raise LayerDamaged(f"layer {name} is damaged: its tar has {size} bytes, not {superblock.tar_size}")

    def remove(self, name: str) -> None:
        """See `Snapshotter.remove`."""
        with self._lock:
            self._fds.drop(_key(name))
            self._unmount(name)
            self._files.remove(name)

    def sweep(self) -> None:
        """See `Snapshotter.sweep`."""
        self._files.sweep()

    def _lower(self, name: str) -> Lower:
        if not self._ways.descriptors:
            return Lower(path=self._mounted(name))
        fd = self._fds.get(_key(name))
        if fd is None:
            self.check(name)
            made = self._mount(name)
            try:
                self._fds.hold(_key(name), made)
            finally:
                os.close(made)
            fd = self._fds.get(_key(name))
        return Lower(fd=fd)

    def _mounted(self, name: str) -> str:
        """Where a layer is mounted: in the host's sight, so that mount namespaces copied from it have it."""
        path = os.path.join(self._mounts, name)
        if os.path.ismount(path):
            return path
        self.check(name)
        os.makedirs(path, exist_ok=True)
        fd = self._mount(name)
        try:
            mount.move_mount(fd, path)
        finally:
            os.close(fd)
        return path

    def _unmount(self, name: str) -> None:
        path = os.path.join(self._mounts, name)
        if os.path.ismount(path):
            mount.unmount(path, mount.MNT_DETACH)
        if os.path.isdir(path):
            os.rmdir(path)

    def _mount(self, name: str) -> int:
        metadata = self.index(name)
        with open(metadata, "rb") as file:
            superblock = read_superblock(file.fileno(), name)
        return mount_layer(metadata, self._blob_path(superblock.diff_id) if superblock.tar_size else "", loop=self._ways.loop)


def _key(name: str) -> str:
    return f"layer/{name}"


def mount_layer(metadata: str, tar: str, *, loop: bool = False) -> int:
    """A descriptor of a detached read-only mount of a layer; `tar` is empty where the layer has no tar bytes.

    Raises:
        OSError: the kernel cannot.
    """
    opened: list[int] = []
    try:
        sources = [metadata, tar] if tar else [metadata]
        if loop:
            attached = [mount.loop_attach(path) for path in sources]
            opened += [fd for fd, _ in attached]
            sources = [device for _, device in attached]
        context = mount.fsopen("erofs")
        opened.append(context)
        mount.set_string(context, "source", sources[0])
        for device in sources[1:]:
            mount.set_string(context, "device", device)
        mount.set_flag(context, "ro")
        mount.create(context)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY)
    finally:
        for fd in opened:
            os.close(fd)
