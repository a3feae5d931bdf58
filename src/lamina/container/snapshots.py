"""Snapshots on disk: `containers/.snapshots/<ID>/snapshot.json`, and a copy of it, with the directory `diff/` beside it, frozen for good.

A folder whose name begins with TAKING is a snapshot that is being taken. It is finished where the container's record names it already,
and undone otherwise: see `SnapshotStore.recover`. A snapshot without a name is one that others stand on still; it goes with the last.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from lamina.container.model import Container
from lamina.container.removal import remove_tree
from lamina.container.store import decoded, encoded, write_file
from lamina.content.files import holds
from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.worker import Workers

FOLDER, TAKING, REMOVED, LEFT, FRESH = ".snapshots", ".taking-", ".removed-", "left-", "fresh"
_RECORDS = ("snapshot.json", "snapshot.copy.json")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")


class SnapshotNotFound(NotFound):
    """The container has no snapshot of that name."""


class SnapshotTaken(Conflict):
    """Another snapshot of the container has that name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a container had written at one moment. `parent` is the snapshot it stands on ("": the image), `layer` the chain ID of the
    image's topmost layer. `moved` says that the container's own directory became it; else it is a copy. Without `container` and
    `name` only what stands on it keeps it. `diff` is the host directory of what was written since its parent."""

    id: str
    name: str
    container: str
    parent: str
    image: str
    layer: str
    created_ns: int
    moved: bool
    diff: str


class SnapshotStore:
    """All snapshots of one data root. Thread-safe. `root` is ROOT/containers."""

    def __init__(self, root: str, workers: Workers) -> None:
        self.root, self._workers = f"{root}/{FOLDER}", workers
        self._lock = threading.RLock()
        self._known: dict[str, Snapshot] = {}
        self._users: dict[str, str] = {}
        self._origins: dict[str, str] = {}

    def recover(self, containers: Iterable[Container]) -> None:
        """Once, at start: finish or undo what a killed engine left half done, and read what is here."""
        records = {container.id: container for container in containers}
        for name in self._folders():
            if name.startswith(TAKING):
                self._settle(name, records)
        for container in records.values():
            settle_rollback(container, self._workers)
        with self._lock:
            self._users = {container.id: container.base for container in records.values() if container.base}
            for name in self._folders():
                if name.startswith(REMOVED):
                    remove_tree(f"{self.root}/{name}", self._workers)
                elif (snapshot := _read(f"{self.root}/{name}")) is not None:
                    self._known[snapshot.id] = snapshot
        for gone in {snapshot.container for snapshot in self._known.values()} - records.keys() - {""}:
            self.release(gone)
        self.collect()

    def of(self, container: str) -> list[Snapshot]:
        """Those of a container, the oldest first."""
        with self._lock:
            return sorted((each for each in self._known.values() if each.container == container), key=lambda each: each.created_ns)

    def find(self, container: Container, name: str) -> Snapshot:
        """One of a container, by its name or the beginning of its ID.

        Raises:
            SnapshotNotFound: there is none, or the beginning is of several.
        """
        its = self.of(container.id)
        found = [each for each in its if each.name == name] or [each for each in its if len(name) > 3 and each.id.startswith(name)]
        if len(found) != 1:
            raise SnapshotNotFound(f"no such snapshot of {container.name}: {name[:300]}", hint=f"lamina snapshot ls {container.name}")
        return found[0]

    def get(self, identity: str) -> Snapshot:
        """Raises SnapshotNotFound."""
        with self._lock:
            if identity not in self._known:
                raise SnapshotNotFound(f"no such snapshot: {identity[:300]}")
            return self._known[identity]

    def chain(self, base: str, *, known: bool = False) -> list[Snapshot]:
        """The snapshots that a writable layer on `base` stands on, the lowest first; none for "". With `known`, those above the first that is lost.

        Raises:
            SnapshotNotFound: the container was removed meanwhile, or one was lost.
        """
        found: list[Snapshot] = []
        with self._lock:
            while base and not (known and base not in self._known):
                found.append(self.get(base))
                base = found[-1].parent
        return found[::-1]

    def over(self, base: str) -> tuple[str, ...]:
        """Their directories, top first. See `chain`."""
        return tuple(each.diff for each in reversed(self.chain(base))) if base else ()

    def new_name(self, container: str, wanted: str) -> str:
        """The name of a new snapshot: as wanted, else the next number.

        Raises:
            InvalidArgument, SnapshotTaken.
        """
        taken = {each.name for each in self.of(container)}
        if not wanted:
            return str(next(number for number in range(len(taken) + 1, 2 * len(taken) + 2) if str(number) not in taken))
        if not _NAME.match(wanted):
            raise InvalidArgument(f"invalid name of a snapshot: {wanted[:300]}", hint="letters, digits and _.- after the first")
        if wanted in taken:
            raise SnapshotTaken(f"there is a snapshot with that name already: {wanted}")
        return wanted

    def begin(self, snapshot: Snapshot) -> str:
        """The folder of one that is being taken, with its record; its directory is the caller's to make."""
        folder = f"{self.root}/{TAKING}{snapshot.id}"
        os.makedirs(folder, 0o700)
        _write(folder, snapshot)
        return folder

    def finish(self, snapshot: Snapshot) -> None:
        """What was taken is one of the snapshots."""
        with self._lock:
            os.rename(f"{self.root}/{TAKING}{snapshot.id}", f"{self.root}/{snapshot.id}")
            self._known[snapshot.id] = snapshot
            if snapshot.moved:
                self._users[snapshot.container] = snapshot.id

    def place(self, identity: str) -> str:
        """Where the directory of a snapshot is when it has been taken."""
        return f"{self.root}/{identity}/diff"

    def stand(self, container: str, base: str) -> None:
        """A container's writable layer stands on `base` ("": the image) from now on.

        Raises:
            SnapshotNotFound: it was removed meanwhile.
        """
        with self._lock:
            if base and base not in self._known:
                raise SnapshotNotFound(f"no such snapshot: {base}")
            self._users.pop(container, None)
            if base:
                self._users[container] = base

    def keep(self, container: str, origin: str) -> None:
        """As long as the container is there, so is the snapshot that it began in, whatever it stands on later.

        Raises:
            SnapshotNotFound: it was removed meanwhile.
        """
        with self._lock:
            self._origins[container] = self.get(origin).id

    def remove(self, snapshot: Snapshot) -> None:
        """Forget its name; it goes when nothing stands on it."""
        with self._lock:
            self._unname(snapshot)
        self.collect()

    def release(self, container: str) -> None:
        """A container is gone: so are the names of its snapshots, and what nothing stands on."""
        with self._lock:
            its = self.of(container)
            if not its and container not in self._users and container not in self._origins:
                return
            self._users.pop(container, None)
            self._origins.pop(container, None)
            for snapshot in its:
                self._unname(snapshot)
        self.collect()

    def collect(self) -> None:
        """Remove what has no name and nothing stands on."""
        gone: list[str] = []
        with self._lock:
            try:
                needed = {each.id for snapshot in self._roots() for each in self.chain(snapshot)}
            except SnapshotNotFound:  # somebody removed one: what it stands on is not known, so nothing goes until its container does
                return
            for snapshot in [each for each in self._known.values() if each.id not in needed]:
                del self._known[snapshot.id]
                gone.append(f"{self.root}/{REMOVED}{snapshot.id}")
                os.rename(f"{self.root}/{snapshot.id}", gone[-1])
        for path in gone:
            remove_tree(path, self._workers)

    def standing(self, snapshot: Snapshot) -> bool:
        """Whether a container or another snapshot stands on it."""
        with self._lock:
            return snapshot.id in self._users.values() or any(each.parent == snapshot.id for each in self._known.values())

    def unsound(self) -> list[Snapshot]:
        """Those of which a copy of the record is missing or not what was written."""
        with self._lock:
            folders = [(f"{self.root}/{each.id}", each) for each in self._known.values()]
            return [each for folder, each in folders if os.path.isdir(folder) and not _sound(folder, each)]

    def rewrite(self, snapshot: Snapshot) -> None:
        """Write both copies of a record anew."""
        with self._lock:
            if (known := self._known.get(snapshot.id)) is not None:
                _write(f"{self.root}/{known.id}", known)

    def strangers(self) -> list[str]:
        """Folders whose record cannot be read, neither copy, and that nothing stands on."""
        with self._lock:
            wanted = {*self._known, *self._users.values(), *(each.parent for each in self._known.values())}
            return sorted(name for name in self._folders() if name not in wanted and not name.startswith("."))

    def _roots(self) -> set[str]:
        return {each.id for each in self._known.values() if each.name} | {*self._users.values(), *self._origins.values()}

    def _folders(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self.root)
        return []

    def _unname(self, snapshot: Snapshot) -> None:
        unnamed = replace(snapshot, name="", container="")
        with suppress(OSError):
            _write(f"{self.root}/{snapshot.id}", unnamed)
        self._known[snapshot.id] = unnamed

    def _settle(self, name: str, records: Mapping[str, Container]) -> None:
        """One that was being taken: the container's record says whether it was."""
        folder = f"{self.root}/{name}"
        snapshot = _read(folder)
        container = records.get(snapshot.container) if snapshot else None
        if snapshot is None or not snapshot.moved or container is None:
            remove_tree(folder, self._workers)
        elif container.base == snapshot.id:
            os.rename(folder, f"{self.root}/{snapshot.id}")
        else:
            undo_move(container, folder)
            remove_tree(folder, self._workers)


def names_snapshot(image: str) -> bool:
    """Whether what a container is made of is `CONTAINER@NAME`, not an image with its digest."""
    return "@" in image and ":" not in image.partition("@")[2]


def undo_move(container: Container, folder: str) -> None:
    """Give a container the directory back that was about to become a snapshot."""
    if os.path.isdir(f"{folder}/diff"):
        os.rename(f"{folder}/diff", container.writes)  # over the new one, if that was made: it is empty


def settle_rollback(container: Container, workers: Workers) -> None:
    """A rollback that was not finished: the record says whether the container stands on the snapshot already."""
    remove_tree(f"{container.home}/{FRESH}", workers)
    aside = next((name for name in os.listdir(container.home) if name.startswith(LEFT)), "")
    if not aside:
        return
    path = f"{container.home}/{aside}"
    if container.base == aside.removeprefix(LEFT) and os.path.isdir(container.writes):
        remove_tree(path, workers)
        return
    remove_tree(container.writes, workers)
    os.rename(path, container.writes)


def _encoded(snapshot: Snapshot) -> bytes:
    return encoded({name: value for name, value in asdict(snapshot).items() if name != "diff"})


def _write(folder: str, snapshot: Snapshot) -> None:
    for name in reversed(_RECORDS):
        write_file(f"{folder}/{name}", _encoded(snapshot))


def _read(folder: str) -> Snapshot | None:
    """A snapshot by the copy of its record that can be read, the first before the second; what is not the same is made anew."""
    for name in _RECORDS:
        try:
            with open(f"{folder}/{name}", "rb") as file:
                document = decoded(file.read())
            document.pop("version")
            snapshot = Snapshot(**document, diff=f"{folder}/diff")
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if not _sound(folder, snapshot):
            with suppress(OSError):  # a full disk does not keep the engine from starting
                _write(folder, snapshot)
        return snapshot
    return None


def _sound(folder: str, snapshot: Snapshot) -> bool:
    return all(holds(f"{folder}/{name}", _encoded(snapshot)) for name in _RECORDS)
