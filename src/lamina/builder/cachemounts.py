"""RUN --mount=type=cache: folders that stay from one build to the next, each with an ID."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from lamina.dockerfile.mounts import Mount
from lamina.linux.diskusage import bytes_on_disk
from lamina.linux.removing import discard_tree
from lamina.spec.moment import seconds

_PAUSE = 0.05
_GONE = ".removing-"
"""What the names of folders begin with that were pruned."""


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """One folder that is kept: the ID it was asked for by, its bytes, when it was made and last used (seconds since 1970).

    `name` is what it is called on the disk; `busy` says that a build uses it now.
    """

    id: str
    size: int
    used: float
    name: str = ""
    made: float = 0.0
    busy: bool = False

    @property
    def description(self) -> str:
        """In words, for lists."""
        return f"cache mount {self.id}"


class CacheMounts:
    """The folders below `directory`. Each is locked while it is used: shared, or alone (`locked`, `private`).

    The locks are files', so they end with this process, however it ends.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextmanager
    def used(self, mount: Mount, fill: Callable[[str], None], check: Callable[[], None]) -> Iterator[str]:
        """The host path of the mount's folder until the context is left.

        `fill` makes the folder when it is new; `check` is called while another build is waited for: what it raises ends that.
        """
        for number in range(1000):
            place = os.path.join(self._directory, _name(mount.id or mount.target, number))
            lock = _locked(place, mount.sharing, check)
            if lock is not None:
                with lock:
                    yield self._ready(place, mount, fill, lock.fileno())
                    return

    def list(self) -> tuple[CacheFolder, ...]:
        """All folders, the one used last first."""
        found = []
        for name in _names(self._directory):
            place = os.path.join(self._directory, name)
            with suppress(OSError, ValueError):
                with open(f"{place}/about.json", encoding="utf-8") as file:
                    about, made = json.load(file), os.fstat(file.fileno()).st_mtime
                used = os.stat(f"{place}/lock").st_mtime
                found.append(CacheFolder(str(about["id"]), bytes_on_disk(place), used, name, made, _busy(place)))
        return tuple(sorted(found, key=lambda folder: -folder.used))

    def prunable(self, filters: Mapping[str, Sequence[str]], now: float, keep: int = 0) -> tuple[CacheFolder, ...]:
        """What `builder prune` takes: folders that nobody uses and the filters let through, but for those used last that fit in `keep`
        bytes.

        Raises:
            InvalidMoment: a moment among the filters is not one.
        """
        chosen = [folder for folder in self.list() if not folder.busy and _passes(folder, filters, now)]
        while keep and chosen and chosen[0].size <= keep:
            keep -= chosen.pop(0).size
        return tuple(chosen)

    def prune(self, folders: Iterable[CacheFolder] | None = None) -> int:
        """Delete these folders, or all, but for those that somebody uses now; the bytes freed."""
        freed = 0
        for name in _names(self._directory) if folders is None else [folder.name for folder in folders]:
            place, aside = os.path.join(self._directory, name), os.path.join(self._directory, f"{_GONE}{name}.{os.urandom(4).hex()}")
            with suppress(OSError), open(f"{place}/lock", "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                freed += bytes_on_disk(place)
                # Out of the way first: a build that wants it meanwhile makes it anew.
                os.rename(place, aside)
        self._clear()
        return freed

    def _clear(self) -> None:
        """Delete what was pruned, also by a process that did not come to it."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if name.startswith(_GONE):
                    discard_tree(os.path.join(self._directory, name))

    def _ready(self, place: str, mount: Mount, fill: Callable[[str], None], lock: int) -> str:
        os.utime(lock)
        data = f"{place}/data"
        if not os.path.isdir(data):
            self._make(place, mount, fill)
        return data

    def _make(self, place: str, mount: Mount, fill: Callable[[str], None]) -> None:
        """Filled beside and renamed: a folder that is there is whole. Of two at once, the first counts."""
        new = f"{place}/new.{os.getpid()}.{time.monotonic_ns()}"
        try:
            fill(new)
            if not mount.origin or mount.mode is not None:
                os.chmod(new, 0o755 if mount.mode is None else mount.mode)
            if not mount.origin or mount.uid is not None or mount.gid is not None:
                os.chown(new, mount.uid or 0, mount.gid or 0)
            with open(f"{place}/about.json", "w", encoding="utf-8") as file:
                json.dump({"id": mount.id or mount.target}, file)
            with suppress(OSError):
                os.rename(new, f"{place}/data")
        finally:
            discard_tree(new)


def _locked(place: str, sharing: str, check: Callable[[], None]) -> BinaryIO | None:
    """The lock of a folder, taken, for the caller to close; the folder is made where it is not there. None: see `_take`."""
    while True:
        os.makedirs(place, mode=0o700, exist_ok=True)
        with ExitStack() as closing, suppress(FileNotFoundError):
            lock = closing.enter_context(open(f"{place}/lock", "ab"))
            if not _take(lock.fileno(), sharing, check):
                return None
            # Pruned while it was waited for, the folder is gone, and this a lock that nobody else would find.
            if os.path.samestat(os.stat(f"{place}/lock"), os.fstat(lock.fileno())):
                closing.pop_all()
                return lock


def _take(lock: int, sharing: str, check: Callable[[], None]) -> bool:
    """Lock a folder; False where a private one is in use by another build, which then gets the next of that ID."""
    wanted = fcntl.LOCK_EX if sharing in ("locked", "private") else fcntl.LOCK_SH
    while True:
        try:
            fcntl.flock(lock, wanted | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if sharing == "private":
                return False
            check()
            time.sleep(_PAUSE)


def _name(identifier: str, number: int) -> str:
    name = hashlib.sha256(identifier.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return f"{name}-{number}" if number else name


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith(_GONE))
    except FileNotFoundError:
        return []


def _busy(place: str) -> bool:
    try:
        with open(f"{place}/lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except OSError:
        return True


def _passes(folder: CacheFolder, filters: Mapping[str, Sequence[str]], now: float) -> bool:
    """Docker's filters of build cache; a folder has neither labels nor parents."""
    facts = {"id": folder.name, "type": "exec.cachemount", "inuse": "false", "shared": "false", "private": "true"}
    for key, values in filters.items():
        if key in ("until", "unused-for"):
            passes = all(folder.used < seconds(value, now) for value in values)
        elif key == "description":
            passes = any(value in folder.description for value in values)
        elif key == "id":
            passes = any(folder.name.startswith(value) for value in values)
        else:
            passes = key == "label!" or facts.get(key) in {value.lower() or "true" for value in values}
        if not passes:
            return False
    return True
