"""RUN --mount=type=cache: folders that stay from one build to the next, each with an ID."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lamina.dockerfile.mounts import Mount

_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """One folder that is kept: its ID, its bytes, and when it was used last (seconds since 1970)."""

    id: str
    size: int
    used: float


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
            os.makedirs(place, mode=0o700, exist_ok=True)
            with open(f"{place}/lock", "ab") as lock:
                if not _take(lock.fileno(), mount.sharing, check):
                    continue
                yield self._ready(place, mount, fill, lock.fileno())
                return

    def list(self) -> tuple[CacheFolder, ...]:
        """All folders, the one used last first."""
        found = []
        for name in _names(self._directory):
            place = os.path.join(self._directory, name)
            with suppress(OSError, ValueError):
                with open(f"{place}/about.json", encoding="utf-8") as file:
                    about = json.load(file)
                found.append(CacheFolder(str(about["id"]), _size(f"{place}/data"), os.stat(f"{place}/lock").st_mtime))
        return tuple(sorted(found, key=lambda folder: -folder.used))

    def prune(self, *, before: float | None = None) -> int:
        """Delete the folders that nobody uses now, and only those used last before `before`, if given; the bytes freed."""
        freed = 0
        for name in _names(self._directory):
            place = os.path.join(self._directory, name)
            with suppress(OSError), open(f"{place}/lock", "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if before is None or os.fstat(lock.fileno()).st_mtime < before:
                    freed += _size(f"{place}/data")
                    shutil.rmtree(place, ignore_errors=True)
        return freed

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
            shutil.rmtree(new, ignore_errors=True)


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
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _size(directory: str) -> int:
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
