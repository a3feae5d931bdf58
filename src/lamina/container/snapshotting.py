"""Taking snapshots of what a container wrote, and going back to them.

While nothing of the container runs, its directory itself becomes the snapshot and a new one starts: the same time however much was written.
While something runs it is frozen, and the directory copied, with shared blocks where the file system can. The native driver always copies,
since it stacks nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lamina.container.launching import Launcher
from lamina.container.lifecycle import LifeCycle
from lamina.container.live import Live, Roster
from lamina.container.model import ALIVE, IMAGE_CAP, Container, ContainerNotFound, State, WrongState
from lamina.container.parts import Parts
from lamina.container.removal import remove_tree
from lamina.container.snapshots import FRESH, LEFT, Snapshot, SnapshotStore, undo_move
from lamina.container.store import ContainerStore
from lamina.container.times import rfc3339
from lamina.errors import Exhausted, LaminaError
from lamina.layer.apply import disk_errors
from lamina.snapshot.mountpoints import dress_like, looks
from lamina.snapshot.native import COPIED, copy_record

_MOST = 200
"""Snapshots that a container may stand on: with at most 200 layers below them, fewer than the kernel stacks."""
_UNTOUCHED = (0, 0, 0o755, dict[str, bytes]())
"""What the root of a new container on an image looks like."""


class Snapshots:
    """`engine.containers.snapshots`. Thread-safe. Every call with a `ref` raises ContainerNotFound or AmbiguousContainer."""

    def __init__(
        self, parts: Parts, store: ContainerStore, roster: Roster, life: LifeCycle, launcher: Launcher, taken: SnapshotStore
    ) -> None:
        self._parts, self._store, self._roster, self._life, self._launcher = parts, store, roster, life, launcher
        self._taken = taken

    def list(self, ref: str) -> Sequence[Snapshot]:
        """Those of a container, the oldest first."""
        return self._taken.of(self._roster.find(ref).container.id)

    def find(self, ref: str, name: str) -> Snapshot:
        """Raises SnapshotNotFound."""
        return self._taken.find(self._roster.find(ref).container, name)

    def named(self, text: str) -> Snapshot | None:
        """The snapshot that `CONTAINER@NAME` names; None where there is no such container.

        Raises:
            SnapshotNotFound: there is, and it has no such snapshot.
        """
        ref, at, name = text.partition("@")
        if not at:
            return None
        try:
            container = self._roster.find(ref).container
        except LaminaError:
            return None
        return self._taken.find(container, name)

    def chain(self, base: str, *, known: bool = False) -> Sequence[Snapshot]:
        """What a writable layer on `base`, a snapshot's ID or "", stands on; the lowest first. See `SnapshotStore.chain`."""
        return self._taken.chain(base, known=known)

    def create(self, ref: str, name: str = "") -> Snapshot:
        """Keep what it wrote until now, under a name of its own or the next number.

        Raises:
            InvalidArgument, SnapshotTaken: the name.
            Exhausted: it stands on too many, or the disk is full; nothing was taken.
        """
        live = self._roster.find(ref)
        with live.lock:
            self._check(live)
            made = self._new(live.container, self._taken.new_name(live.container.id, name))
            # What lies in a file system of its own cannot be moved out of it.
            if live.process is None and not self._copies and live.container.cap != IMAGE_CAP:
                self._move(live, replace(made, moved=True))
            else:
                self._copy(live, made)
        found = self._taken.find(live.container, made.id)
        self._parts.emit(live.event("snapshot", snapshot=found.name))
        return found

    def state(self, ref: str) -> Snapshot | None:
        """What a stopped container is now, as a snapshot: the one it stands on where nothing was written since; None: the image.

        Raises:
            WrongState: it runs.
        """
        live = self._roster.find(ref)
        with live.lock:
            if live.process is not None:
                raise WrongState(f"container {live.container.name} is running")
            base = self._taken.get(live.container.base) if live.container.base else None
            writes = live.container.writes
            if self._copies or os.listdir(writes) or looks(writes) != (looks(base.diff) if base else _UNTOUCHED):
                return self.create(ref)
            return base

    def remove(self, ref: str, name: str) -> None:
        """Forget a snapshot's name. What stands on it keeps its files until it goes too."""
        live = self._roster.find(ref)
        self._taken.remove(self._taken.find(live.container, name))
        self._parts.emit(live.event("snapshot-remove", snapshot=name))

    def rollback(self, ref: str, name: str | Snapshot | None) -> None:
        """Make the container what it was at a snapshot; what was written since is gone. Other snapshots stay.

        A snapshot itself may be another container's, of the same image; None is the image.

        Raises:
            WrongState: it runs.
        """
        live = self._roster.find(ref)
        with live.lock:
            self._check(live)
            if live.state.status in (*ALIVE, State.RESTARTING):
                raise WrongState(f"container {live.container.name} is {live.state.status} and cannot be rolled back", hint="stop it first")
            snapshot = self._taken.find(live.container, name) if isinstance(name, str) else name and self._taken.get(name.id)
            if snapshot and snapshot.layer != live.container.layer:
                raise WrongState(f"snapshot {snapshot.id[:12]} stands on another image than container {live.container.name}")
            self._go_back(live, snapshot)
        self._parts.emit(live.event("rollback", snapshot=snapshot.name if snapshot else ""))

    def describe(self, snapshot: Snapshot) -> dict[str, Any]:
        """A snapshot as the API shows it."""
        return {
            "Id": snapshot.id,
            "Name": snapshot.name,
            "Container": snapshot.container,
            "Parent": snapshot.parent or snapshot.layer,
            "Image": snapshot.image,
            "Created": rfc3339(snapshot.created_ns),
            "Path": snapshot.diff,
            "Moved": snapshot.moved,
            "InUse": self._taken.standing(snapshot),
        }

    @property
    def _copies(self) -> bool:
        return self._parts.driver == "native"

    def _check(self, live: Live) -> None:
        if live.removing:
            raise ContainerNotFound(f"No such container: {live.container.id}")

    def _new(self, container: Container, name: str) -> Snapshot:
        if len(self._taken.chain(container.base)) >= _MOST:
            raise Exhausted(f"container {container.name} stands on {_MOST} snapshots already", hint="commit it, or roll it back")
        identity = self._parts.new_id()
        return Snapshot(
            identity,
            name,
            container.id,
            container.base,
            container.image,
            container.layer,
            self._parts.clock(),
            moved=False,
            diff=self._taken.place(identity),
        )

    def _move(self, live: Live, snapshot: Snapshot) -> None:
        """With the lock: a few renames. The record of the container is what decides; see SnapshotStore.recover."""
        container = live.container
        folder = self._taken.begin(snapshot)
        try:
            os.rename(container.writes, f"{folder}/diff")
            # The root's own attributes are part of what is written: a new directory begins as the one before.
            os.mkdir(container.writes, 0o700)
            dress_like(container.writes, f"{folder}/diff")
            self._record(live, snapshot.id)
        except BaseException:
            undo_move(container, folder)
            live.container = container
            remove_tree(folder, self._parts.workers)
            raise
        self._taken.finish(snapshot)

    def _copy(self, live: Live, snapshot: Snapshot) -> None:
        folder = self._taken.begin(snapshot)
        try:
            with self._life.still(live):
                self._parts.workers.run("lamina.layer.clone:clone_job", {"source": live.container.writes, "target": f"{folder}/diff"})
            copy_record(live.container.home, folder)
            self._taken.finish(snapshot)
        except BaseException:
            remove_tree(folder, self._parts.workers)
            raise

    def _go_back(self, live: Live, snapshot: Snapshot | None) -> None:
        """With the lock. The directory of now lies aside until the record says that the container stands on the snapshot."""
        container, fresh = live.container, f"{live.container.home}/{FRESH}"
        base = snapshot.id if snapshot else ""
        aside = f"{container.home}/{LEFT}{base}"
        remove_tree(fresh, self._parts.workers)
        self._launcher.caps.fresh(container, fresh)
        # Beside a copy lies its record, which must not be taken for that of the directory of now.
        upper = f"{fresh}/diff" if self._copies else fresh
        if snapshot is None:
            with disk_errors(upper):
                os.makedirs(upper, exist_ok=True)
            self._launcher.prepare(replace(container, base=""), upper=upper)
        elif self._copies:
            self._parts.workers.run("lamina.layer.clone:clone_job", {"source": snapshot.diff, "target": upper})
            copy_record(container.home, fresh)
        else:
            dress_like(upper, snapshot.diff)
        self._taken.stand(container.id, base)
        try:
            os.rename(container.writes, aside)
            os.rename(upper, container.writes)
            self._launcher.caps.renew(container)
            self._record(live, base)
        except BaseException:
            self._undo_rollback(live, container, aside)
            raise
        if self._copies:
            with suppress(OSError):  # the old one finds the same, in more time
                os.rename(f"{fresh}/{COPIED}", f"{container.home}/{COPIED}")
            remove_tree(fresh, self._parts.workers)
        self._taken.collect()
        remove_tree(aside, self._parts.workers)

    def _undo_rollback(self, live: Live, container: Container, aside: str) -> None:
        live.container = container
        with suppress(LaminaError):
            self._taken.stand(container.id, container.base)
        if os.path.isdir(aside):
            remove_tree(container.writes, self._parts.workers)
            os.rename(aside, container.writes)
            self._launcher.caps.renew(container)

    def _record(self, live: Live, base: str) -> None:
        live.container = replace(live.container, base=base)
        self._store.save(live.container)
