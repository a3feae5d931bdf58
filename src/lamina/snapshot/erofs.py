"""The erofs driver: a layer is its tar and a metadata image that the kernel mounts; nothing is extracted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from lamina.content.files import disk_bytes, move
from lamina.errors import NotFound
from lamina.layer.erofs.reader import check_all, read_superblock, read_tags
from lamina.layer.errors import LayerDamaged
from lamina.layer.merge import image_tag
from lamina.layer.staged import Staged, StagedBlob, TarSource
from lamina.layer.tree import Limits
from lamina.linux import mount
from lamina.linux.removing import remove_path
from lamina.snapshot.layers import IMAGE_SUFFIX, LayerFiles, run_stage, run_stage_upper
from lamina.snapshot.merging import Depth, MergedStacks, key_of
from lamina.snapshot.protocol import FdStore, Lower, Progress, Rebuilt
from lamina.snapshot.stacked import Stacked
from lamina.spec.digest import Digest
from lamina.worker.workers import Workers

_KEY = "layer/"
"""What the names of held mounts begin with."""
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
        self,
        root: str,
        blob_path: BlobPath,
        workers: Workers,
        fds: FdStore,
        ways: Ways | None = None,
        limits: Limits | None = None,
        depth: Depth | None = None,
    ) -> None:
        self._files = LayerFiles(os.path.join(root, "layers"))
        self._stacks = MergedStacks(root, IMAGE_SUFFIX, depth)
        self._mounts = os.path.join(root, "run", "layers")
        self._blob_path, self._workers, self._fds = blob_path, workers, fds
        self._ways, self._limits = ways or Ways(), limits or Limits()
        self._lock = threading.Lock()

    def stage(self, source: TarSource, scratch: str, progress: Progress | None = None) -> Staged:
        """See `Snapshotter.stage`."""
        return run_stage(self._workers, "stage_erofs", source, scratch, self._limits, progress)

    def stage_upper(
        self,
        upper: str,
        below: Sequence[str],
        scratch: str,
        progress: Progress | None = None,
        *,
        over: Sequence[str] = (),
        cached: bool = True,
    ) -> Staged:
        """See `Snapshotter.stage_upper`."""
        indexes = [self.index(name) for name in below]
        return run_stage_upper(
            self._workers, {"extract": False, "uncached": not cached}, upper, indexes, scratch, self._limits, progress, over
        )

    def publish(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """See `Snapshotter.publish`."""
        if self.exists(name):
            for path in (staged.metadata, *([staged.tree] if staged.tree else [])):
                remove_path(path)
            return
        self._files.publish(staged, name, [self.index(lower) for lower in below] if staged.implied else ())

    def discard(self, staged: Staged) -> None:
        """See `Snapshotter.discard`."""
        self._files.discard(staged)

    def lowers(self, names: Sequence[str]) -> tuple[Lower, ...]:
        """See `Snapshotter.lowers`."""
        below, above = self._stacks.split(self._files.visible(names)[::-1])
        merged = self._stacks.have(below, self._merge) if below else None
        with self._lock:
            found = [self._held(name, partial(self._mount, name)) for name in reversed(above)]
            if merged is not None:
                found.append(self._held(merged.key, partial(self._mount_merged, merged.path, below)))
            return tuple(found)

    def index(self, name: str) -> str:
        """See `Snapshotter.index`."""
        return self._files.index(name)

    def tree(self, name: str) -> str | None:
        """See `Snapshotter.tree`; there is none."""
        return None

    def rebuilt(self, name: str) -> Rebuilt | None:
        """See `Snapshotter.rebuilt`; the tar is there as it is."""
        return None

    def copy(self, name: str, diff_id: Digest, scratch: str) -> StagedBlob:
        """See `Snapshotter.copy`."""
        raise LayerDamaged(f"layer {name} has no tree: its tar is kept")

    def exists(self, name: str) -> bool:
        """See `Snapshotter.exists`."""
        return self._files.exists(name)

    def names(self) -> list[str]:
        """See `Snapshotter.names`."""
        return self._files.names()

    def usage(self, name: str) -> int:
        """See `Snapshotter.usage`."""
        return disk_bytes(self._files.path(name))

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

    def replace(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """See `Snapshotter.replace`. What is mounted stays with the containers that run on it."""
        self._files.dress(staged, [self.index(lower) for lower in below] if staged.implied else ())
        with self._lock:
            self._remove_merged(self._stacks.holding(name))
            self._let_go(name)
            move(staged.metadata, self._files.path(name))

    def learn(self, name: str, source: TarSource, scratch: str) -> None:
        """See `Snapshotter.learn`. The tar says it itself."""

    def remove(self, name: str) -> None:
        """See `Snapshotter.remove`."""
        with self._lock:
            self._remove_merged(self._stacks.holding(name))
            self._let_go(name)
            self._files.remove(name)

    def trim(self, stacks: Iterable[Sequence[str]]) -> None:
        """See `Snapshotter.trim`."""
        with self._lock:
            self._remove_merged(self._stacks.unneeded(self._files.visible(names)[::-1] for names in self._stacks.high(stacks)))

    def damaged_stacks(self, of: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """See `Snapshotter.damaged_stacks`."""
        return self._stacks.damaged(_check_merged, None if of is None else self._files.visible(of)[::-1])

    def mend_stack(self, key: str) -> None:
        """See `Snapshotter.mend_stack`. What is mounted stays with the containers that run on it."""
        with self._lock:
            self._remove_merged([key])

    def release(self, stacks: Iterable[Sequence[str]]) -> None:
        """See `Snapshotter.release`."""
        kept: set[str] = set()
        for names in stacks:
            below, above = self._stacks.split(self._files.visible(names)[::-1])
            kept |= {*above, *([key_of(below)] if below else [])}
        with self._lock:
            held = {key.removeprefix(_KEY) for key in self._fds.names() if key.startswith(_KEY)}
            mounted = set(os.listdir(self._mounts)) if os.path.isdir(self._mounts) else set()
            for name in (held | mounted) - kept:
                self._let_go(name)

    def sweep(self) -> None:
        """See `Snapshotter.sweep`."""
        self._files.sweep()
        self._stacks.sweep()

    def _held(self, name: str, make: Callable[[], int]) -> Lower:
        """The mount of a layer or a merged stack, made by `make` where nobody holds it."""
        if not self._ways.descriptors:
            return Lower(path=self._mounted(name, make))
        fd = self._fds.get(_key(name))
        if fd is None:
            made = make()
            try:
                self._fds.hold(_key(name), made)
            finally:
                os.close(made)
            fd = self._fds.get(_key(name))
        return Lower(fd=fd)

    def _mounted(self, name: str, make: Callable[[], int]) -> str:
        """Where it is mounted: in the host's sight, so that mount namespaces copied from it have it."""
        path = os.path.join(self._mounts, name)
        if os.path.ismount(path):
            return path
        fd = make()
        try:
            os.makedirs(path, exist_ok=True)
            mount.move_mount(fd, path)
        finally:
            os.close(fd)
        return path

    def _let_go(self, name: str) -> None:
        """Drop the mount; containers that run on it keep it."""
        self._fds.drop(_key(name))
        path = os.path.join(self._mounts, name)
        if os.path.ismount(path):
            mount.unmount(path, mount.MNT_DETACH)
        if os.path.isdir(path):
            os.rmdir(path)

    def _remove_merged(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._let_go(key)
            self._stacks.remove(key)

    def _mount(self, name: str) -> int:
        self.check(name)
        metadata = self.index(name)
        with open(metadata, "rb") as file:
            superblock = read_superblock(file.fileno(), name)
        tars = [self._blob_path(superblock.diff_id)] if superblock.tar_size else []
        return mount_layer(metadata, tars, loop=self._ways.loop)

    def _merge(self, path: str, names: Sequence[str]) -> None:
        self._workers.run("lamina.layer.merge:merge_job", {"below": [self.index(name) for name in names], "path": path})

    def _mount_merged(self, path: str, names: Sequence[str]) -> int:
        """Mount a merged stack, whose devices are the layers' tars and, seldom, metadata images. A damaged one is made anew first."""
        places: dict[str, str] = {}
        for name in names:
            self.check(name)
            with open(self.index(name), "rb") as file:
                diff_id = read_superblock(file.fileno(), name).diff_id
            places[diff_id], places[image_tag(diff_id)] = self._blob_path(diff_id), self.index(name)
        try:
            _check_merged(path, names)
        except LayerDamaged:
            remove_path(path)
            self._merge(path, names)
        with open(path, "rb") as file:
            devices = [places[tag] for tag in read_tags(file.fileno())]
        return mount_layer(path, devices, loop=self._ways.loop)


def _check_merged(path: str, names: Sequence[str]) -> None:
    with open(path, "rb") as file:
        check_all(file.fileno(), key_of(names))


def _key(name: str) -> str:
    return _KEY + name


def mount_layer(metadata: str, devices: Sequence[str], *, loop: bool = False) -> int:
    """A descriptor of a detached read-only mount of a metadata image; `devices` are the files that hold the contents, as the image lists
    them.

    Raises:
        OSError: the kernel cannot.
    """
    opened: list[int] = []
    try:
        sources = [metadata, *devices]
        if loop:
            for number, path in enumerate(sources):
                fd, sources[number] = mount.loop_attach(path)
                opened.append(fd)
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
