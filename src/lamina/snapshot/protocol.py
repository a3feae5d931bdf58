"""What a snapshot driver does: turn layer tars into something the kernel mounts, and name it.

Life of a layer here:

    stage        one pass over the tar, in a worker: verified, indexed, written below `scratch`. Nothing is visible yet.
    publish      renamed into place under the layer's name. From now on it exists.
    lowers       mounted or held ready; overlayfs takes what is returned as its lower layers
    remove       gone; containers that run on it keep what they have mounted

A layer's *name* is its diff ID in hex, or, where its tar implies directories it does not list
(`Staged.contextual`), its chain ID in hex: those directories look like the ones below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lamina.errors import NotFound
from lamina.layer.errors import LayerDamaged
from lamina.layer.staged import Staged, StagedBlob, TarSource
from lamina.spec.digest import Digest

__all__ = ["FdStore", "LayerDamaged", "LayerNotFound", "Lower", "Progress", "RootMount", "Snapshotter", "Staged", "StagedBlob", "TarSource"]

Progress = Callable[[int], None]
"""Takes the number of bytes of the source consumed so far. What it raises stops the work."""


class LayerNotFound(NotFound):
    """No layer has that name."""


@dataclass(frozen=True, slots=True)
class Lower:
    """One lower layer for overlayfs: a descriptor of a detached mount, or a host path to bind.

    The descriptor is borrowed: never close it, never move the mount it is of. It is open as long as somebody has the `Lower` or its
    `fd`: a layer may be mended or removed before what is made of it is mounted.
    """

    fd: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class RootMount:
    """A root file system: `lowers` top first; `upper` and `work` in one directory, or None (read-only).

    Without `lowers`, `upper` is the whole of it and nothing is stacked. `volatile` leaves out syncing: for containers
    that are removed when they end.
    """

    lowers: tuple[Lower, ...]
    upper: str | None = None
    work: str | None = None
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class Own:
    """What a container has of its own, as host directories.

    `upper` is what it writes to, `work` is overlayfs's, in the same directory. `init` is the layer of mount points between image
    and upper directory, the same for all; empty: none. `over` are upper directories of snapshots, which lie between these two, top
    first. `volatile`: see `RootMount`.
    """

    upper: str
    work: str
    init: str = ""
    volatile: bool = False
    over: tuple[str, ...] = ()


Change = tuple[str, str]
"""A path with a leading slash, undecodable bytes as surrogates; and `A`dded, `M`odified or `D`eleted."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a layer's exact tar is put together from (`layer.skeleton.rebuilt`), in a worker: paths of its skeleton and its tree."""

    skeleton: str
    tree: str


class FdStore(Protocol):
    """Keeps descriptors open under names, longer than this process lives. Thread-safe."""

    def get(self, name: str) -> int | None:
        """The descriptor held under `name`: never to be closed, and open as long as somebody has what this returned, dropped or not."""

    def hold(self, name: str, fd: int) -> None:
        """Hold a duplicate of `fd`; the caller still owns its own. A name that is taken is replaced."""

    def drop(self, name: str) -> None:
        """Let go of what `name` holds, if it holds something."""

    def names(self) -> list[str]:
        """All names, sorted."""


class Snapshotter(Protocol):
    """A driver. Thread-safe; whatever loops over entries or bytes happens in a worker."""

    name: str
    """`erofs`, `overlay` or `native`."""

    def stage(self, source: TarSource, scratch: str, progress: Progress | None = None) -> Staged:
        """Read a tar once and write all that is made of it below `scratch` (same file system as the root).

        Raises:
            InvalidArchive: the tar breaks its format or does what no layer may; nothing is left.
            Exhausted: the disk is full, or a limit was passed; nothing is left.
        """

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
        """Make a layer of what was written to an upper directory on the layers `below` (names, base first).

        The upper directory is read as it is; nobody may be writing to it. `over` are upper directories that it stands on, top
        first: the layer has what is written in all of them. See `stage`. Not `cached`: nobody will read the layer's large files
        soon, so they leave the page cache when they are on the disk, where the kernel can.
        """

    def prepare(self, own: Own, below: Sequence[str]) -> None:
        """Make the empty `own.upper` ready to be written to, on the layers `below` (names, base first) and on `own.over`; once for each.

        Raises:
            LayerNotFound, LayerDamaged: names the layer.
            Exhausted: the disk is full; `own.upper` may be gone.
        """

    def root(self, own: Own, below: Sequence[str], *, writable: bool = True) -> RootMount:
        """What a container sees: what it wrote, on the init layer, on the layers `below`. `prepare` comes before.

        Raises:
            LayerNotFound, LayerDamaged: names the layer; nothing was mounted of it.
        """

    def changes(self, upper: str, below: Sequence[str], over: Sequence[str] = ()) -> list[Change]:
        """What was written to an upper directory and to those it stands on, by path. Directories around a change are modified."""

    def changed(self, upper: str, below: Sequence[str]) -> bool:
        """Whether anything was written to an upper directory."""

    def written(self, upper: str, below: Sequence[str]) -> int:
        """Bytes on disk of what was written to an upper directory."""

    def publish(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """Rename a staged layer into place. Implied directories take after the layers `below` (names, base first).

        Idempotent: if the name exists, what was staged is discarded. Blobs are the caller's to adopt.
        """

    def discard(self, staged: Staged) -> None:
        """Delete what was staged, blobs that nobody adopted included. Idempotent."""

    def lowers(self, names: Sequence[str]) -> tuple[Lower, ...]:
        """The layers `names` (base first) as overlayfs wants them: top first.

        What an opaque root hides is left out. More than the kernel can stack are merged below, into one that is shared.

        Raises:
            LayerNotFound, LayerDamaged: names the layer; nothing was mounted of it.
        """

    def index(self, name: str) -> str:
        """The path of the layer's metadata image, for `LayerIndex.open`.

        Raises:
            LayerNotFound: no layer has that name.
        """

    def tree(self, name: str) -> str | None:
        """The host directory where the layer's files can be read as files, if there is one."""

    def rebuilt(self, name: str) -> Rebuilt | None:
        """How the layer's exact tar can be put together from what the driver has, without a copy of it; None: it cannot."""

    def copy(self, name: str, diff_id: Digest, scratch: str) -> StagedBlob:
        """A compressed copy, below `scratch`, of the tar that is `rebuilt`.

        Raises:
            LayerDamaged: it cannot be put together, or is not `diff_id`.
        """

    def exists(self, name: str) -> bool:
        """Whether the layer was published here."""

    def names(self) -> list[str]:
        """The names of all published layers, sorted."""

    def usage(self, name: str) -> int:
        """Bytes on disk besides blobs in the content store; 0 for what is not here, is lost or goes meanwhile."""

    def check(self, name: str, *, deep: bool = False) -> None:
        """Whether the layer is what was written: sizes and superblock checksum; `deep`: all its metadata.

        Raises:
            LayerNotFound, LayerDamaged: names it and says what is wrong.
        """

    def replace(self, staged: Staged, name: str, below: Sequence[str]) -> None:
        """Put a staged layer in the place of what is damaged or missing of it; see `publish`. Containers that run on it go on."""

    def learn(self, name: str, source: TarSource, scratch: str) -> None:
        """Note from the layer's bytes what its files hold, where the driver keeps them apart and does not know: then
        `check(deep=True)` looks at contents too. Idempotent.

        Raises:
            LayerDamaged: `source` is not the layer's tar.
        """

    def remove(self, name: str) -> None:
        """Forget a layer. Idempotent. It is gone at once; its bytes may go a moment later."""

    def trim(self, stacks: Iterable[Sequence[str]]) -> None:
        """Delete what was merged of stacks that are none of these (names, base first): all that are wanted from now on."""

    def damaged_stacks(self, of: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """The keys of what was merged and is not what its layers say, and what is wrong. Nothing is lost with it: see `mend_stack`.

        `of`: only what this stack (names, base first) stands on; None: all there is."""

    def mend_stack(self, key: str) -> None:
        """Make what was merged anew, at once or where it is wanted next. Containers that run on it go on.

        Raises:
            LayerDamaged: one of its layers is damaged.
        """

    def release(self, stacks: Iterable[Sequence[str]]) -> None:
        """At a clean stop: let go of what is mounted of other layers than those of these stacks (names, base first), on which containers
        run."""

    def sweep(self) -> None:
        """Delete what interrupted removals left. Call it while nobody else uses the root."""
