"""Volumes on disk: `volumes/<name>/_data` and, for what there is more to know than the name, `volume.json` and a copy of it.

A volume exists when its `_data` does. A folder without one is an unfinished create or removal and counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from lamina.apitypes.events import Emit, Event, dropped
from lamina.apitypes.filters import check_filters, matches
from lamina.apitypes.finding import LOST, Finding, settled
from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.linux.diskusage import bytes_on_disk
from lamina.linux.removing import discard_tree, remove_path
from lamina.volume import options as mount_options
from lamina.volume.mounting import Mounting, unmount_below

_REMOVING = ".removing-"
"""A folder's name before it is a volume's and after it was."""
_FILLING = "filling"
_RECORDS = ("volume.json", "volume.copy.json")
ANONYMOUS = "com.docker.volume.anonymous"
_LISTING = frozenset({"dangling", "driver", "label", "name"})
_PRUNING = frozenset({"all", "label", "label!"})
_GRAMMAR = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_NAME_MAX = 255  # of a file on every file system
_INVENTED = re.compile(r"[0-9a-f]{64}\Z")


class VolumeNotFound(NotFound):
    """No volume has that name."""


class VolumeInUse(Conflict):
    """Containers use the volume."""


class InvalidVolume(InvalidArgument):
    """A name or an option that a volume cannot have."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume. `mountpoint` is the host directory of its files; `created_ns` nanoseconds since 1970."""

    name: str
    mountpoint: str
    created_ns: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        """Whether nobody chose its name."""
        return ANONYMOUS in self.labels

    def document(self) -> dict[str, Any]:
        """The API's Volume."""
        created = datetime.fromtimestamp(self.created_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "CreatedAt": created,
            "Driver": "local",
            "Labels": dict(self.labels) or None,
            "Mountpoint": self.mountpoint,
            "Name": self.name,
            "Options": dict(self.options) or None,
            "Scope": "local",
        }


class Volumes:
    """The volumes under `root` (ROOT/volumes). Thread-safe.

    `users` gives the IDs of the containers that use a volume; it is set by whoever knows containers.
    """

    def __init__(self, root: str, *, clock: Callable[[], int], emit: Emit = dropped) -> None:
        self.root = root
        self._clock, self._emit = clock, emit
        self._lock = threading.Lock()
        self.users: Callable[[str], Sequence[str]] = lambda name: ()
        self._mounting = Mounting()

    def create(
        self, name: str = "", *, driver: str = "local", labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """Make a volume, or find the one of that name (its labels stay then). Without a name it is anonymous.

        Raises:
            InvalidVolume: the name, the driver or an option is not possible.
        """
        labels = {**(labels or {}), **({} if name else {ANONYMOUS: ""})}
        name = name or secrets.token_hex(32)
        _check(name, driver, options or {})
        with self._lock:
            try:
                return self.get(name)
            except VolumeNotFound:
                volume = self._make(Volume(name, f"{self.root}/{name}/_data", self._clock(), labels, dict(options or {})))
        self._emit(Event("volume", "create", name, {"driver": "local"}))
        return volume

    def get(self, name: str) -> Volume:
        """Raises VolumeNotFound."""
        mountpoint = f"{self.root}/{name}/_data"
        if not _GRAMMAR.match(name) or not self._has_files(name):
            raise VolumeNotFound(f"get {name}: no such volume")
        if (volume := self._facts(name)) is not None:
            return volume
        return Volume(name, mountpoint, os.stat(mountpoint).st_mtime_ns, {ANONYMOUS: ""} if _INVENTED.match(name) else {})

    def _has_files(self, name: str) -> bool:
        """By the folder that holds them: what is mounted there may be a server's that does not answer, for which nobody else is to wait."""
        try:
            with os.scandir(f"{self.root}/{name}") as entries:
                return any(entry.name == "_data" and entry.is_dir() for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _facts(self, name: str) -> Volume | None:
        """What either copy says; None where neither can be read."""
        return next((volume for record in _RECORDS if (volume := self._read(name, record)) is not None), None)

    def _read(self, name: str, record: str) -> Volume | None:
        try:
            with open(f"{self.root}/{name}/{record}", "rb") as file:
                facts = json.loads(file.read())
            values = {key: facts[key] for key in ("created_ns", "labels", "options")}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if facts.get("sum") not in (None, _sum(values)):
            return None
        return Volume(name, f"{self.root}/{name}/_data", **values)

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> Sequence[Volume]:
        """By name; filters are name (an expression), label, dangling and driver. Raises InvalidFilter for another."""
        check_filters(filters or {}, _LISTING)
        for value in (filters or {}).get("dangling", ()):
            _truth(value)
        return [volume for volume in self._present(self._names()) if self._selected(volume, filters or {})]

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it with its files; with `force` an absent one is removed already.

        Raises:
            VolumeInUse: containers use it. VolumeNotFound.
        """
        with self._lock:  # whoever is about to use it says so before asking for it by create, which takes the lock
            try:
                volume = self.get(name)
            except VolumeNotFound:
                if force:
                    return
                raise
            users = self.users(name)
            if users:
                raise VolumeInUse(f"remove {name}: volume is in use - [{', '.join(users)}]")
            unmount_below(volume.mountpoint)
            gone = self._detach(volume)
        discard_tree(gone)
        self._emit(Event("volume", "destroy", name, {"driver": "local"}))

    def prune(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, dry_run: bool = False, leaving: Sequence[str] = ()
    ) -> tuple[Sequence[str], int]:
        """Remove what no container uses: anonymous volumes, with the filter `all` named ones too. Names, and bytes given back.

        With `dry_run` none is: the answer says what would be, when the containers `leaving` (their IDs) are gone.
        """
        filters = dict(filters or {})
        check_filters(filters, _PRUNING)
        everything = any(value in ("1", "true", "True") for value in filters.pop("all", ()))
        removed, space = [], 0
        for volume in self._present(self._names()):
            if self._selected(volume, filters) and (everything or volume.anonymous) and not set(self.users(volume.name)) - set(leaving):
                try:
                    takes = on_disk(volume)
                    if not dry_run:
                        self.remove(volume.name)
                except (VolumeInUse, VolumeNotFound, FileNotFoundError):  # used or removed by somebody else meanwhile
                    continue
                space += takes
                removed.append(volume.name)
        return removed, space

    def sweep(self) -> None:
        """At start: remove what interrupted makings and removals left."""
        for name in os.listdir(self.root) if os.path.isdir(self.root) else ():
            if name.startswith(_REMOVING):
                unmount_below(f"{self.root}/{name}")
                discard_tree(f"{self.root}/{name}")
            elif not os.path.exists(f"{self.root}/{name}/{_RECORDS[1]}"):
                with suppress(VolumeNotFound, OSError):  # An older version wrote only one.
                    self._write_facts(self.get(name))

    # ── filling ──────────────────────────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def filling(self, names: Iterable[str]) -> Iterator[None]:
        """While inside, these empty volumes take content: where this engine is killed meanwhile, the next one makes them empty again. What
        is mounted as a volume is somebody else's, and stays as it is."""
        marks = [f"{self.root}/{name}/{_FILLING}" for name in names if not self.get(name).options]
        try:
            for mark in marks:
                with open(mark, "wb"):
                    pass
            yield
        finally:
            for mark in marks:
                with suppress(FileNotFoundError):  # the volume was removed
                    os.unlink(mark)

    def _half_filled(self) -> None:
        """What another container may be using stays. Tried once, lest a mark that stays cost what comes later; what cannot be removed does
        not keep the engine from starting."""
        for name in self._names():
            if os.path.exists(mark := f"{self.root}/{name}/{_FILLING}"):
                with suppress(OSError):
                    for entry in () if self.users(name) else os.listdir(f"{self.root}/{name}/_data"):
                        remove_path(f"{self.root}/{name}/_data/{entry}")
                with suppress(OSError):
                    os.unlink(mark)

    # ── volumes that are a mount ─────────────────────────────────────────────────────────────────────────────────
    def use(self, name: str, user: str) -> bool:
        """Have it mounted for `user`, if it is a mount; whether it is. Raises VolumeNotFound, VolumeNotMounted."""
        volume = self.get(name)
        if volume.options:
            self._mounting.use(volume.mountpoint, volume.options, user)
        return bool(volume.options)

    def release(self, name: str, user: str) -> None:
        """`user` does not use it any more; repeating does nothing."""
        self._mounting.release(f"{self.root}/{name}/_data", user)

    def found(self, name: str, user: str) -> None:
        """At start: `user` runs, and has it mounted, if it is a mount."""
        with suppress(VolumeNotFound):
            volume = self.get(name)
            if volume.options:
                self._mounting.found(volume.mountpoint, user)

    def settle(self) -> None:
        """At start, after every `found`: unmount what nobody uses, and empty what was being filled."""
        self._mounting.settle(self.root)
        self._half_filled()

    # ── what is damaged ──────────────────────────────────────────────────────────────────────────────────────────
    def check(self, *, repair: bool = False) -> Iterator[Finding]:
        """What is wrong with the volumes' folders: facts without files, files without facts, what is not a volume. See `apitypes.finding`."""
        for name in sorted(os.listdir(self.root)) if os.path.isdir(self.root) else ():
            where = f"volumes/{name}"
            if name.startswith(_REMOVING):
                continue  # Being removed now, or swept by the next start.
            if not _GRAMMAR.match(name) or not os.path.isdir(f"{self.root}/{name}"):
                finding = Finding("stray", where, "is not a volume", "")
                yield settled(finding, partial(remove_path, f"{self.root}/{name}") if repair else None)
            elif not self._has_files(name):
                yield self._without_files(name, repair=repair)
            else:
                yield from self._check_facts(name, repair=repair)

    def _check_facts(self, name: str, *, repair: bool) -> Iterator[Finding]:
        bad = [record for record in _RECORDS if self._read(name, record) is None]
        lost = ": its labels and options are lost" if len(bad) == len(_RECORDS) else ""
        for record in bad:
            finding = Finding(f"volume {name}", f"volumes/{name}/{record}", f"its facts are missing or not what was written{lost}", "")
            yield settled(finding, partial(self._write_facts, self.get(name)) if repair else None)

    def _without_files(self, name: str, *, repair: bool) -> Finding:
        """A volume that containers use lost its files; any other folder without them is nothing."""
        users = self.users(name)
        if users:
            advice = f"containers use it: lamina volume create {name} makes an empty one"
            return Finding(f"volume {name}", f"volumes/{name}/_data", "its files are gone", LOST, advice)
        finding = Finding("stray", f"volumes/{name}", "has facts and no files, and nobody uses it", "")
        return settled(finding, partial(remove_path, f"{self.root}/{name}") if repair else None)

    def _names(self) -> Sequence[str]:
        return sorted(os.listdir(self.root)) if os.path.isdir(self.root) else []

    def _present(self, names: Iterable[str]) -> Iterable[Volume]:
        for name in names:
            try:
                yield self.get(name)
            except VolumeNotFound:
                continue

    def _selected(self, volume: Volume, filters: Mapping[str, Sequence[str]]) -> bool:
        for key, values in filters.items():
            if key == "name":
                chosen = any(matches(value, volume.name) for value in values)
            elif key in ("label", "label!"):
                chosen = all(_labelled(volume.labels, value) for value in values) == (key == "label")
            elif key == "dangling":
                chosen = any(_truth(value) == (not self.users(volume.name)) for value in values)
            else:
                chosen = "local" in values
            if not chosen:
                return False
        return True

    def _make(self, volume: Volume) -> Volume:
        """In one step: of a volume that is half made when this engine is killed nothing is left but what the next start sweeps."""
        directory, begun = os.path.dirname(volume.mountpoint), self._aside()
        if os.path.isdir(directory):  # it lost its files: what else lies there stays
            begun = directory
        else:
            os.makedirs(begun, 0o711)
        self._write_facts(volume, begun)
        os.mkdir(f"{begun}/_data", 0o755)
        if begun != directory:
            os.rename(begun, directory)
        return volume

    def _aside(self) -> str:
        return f"{self.root}/{_REMOVING}{secrets.token_hex(8)}"

    def _write_facts(self, volume: Volume, directory: str = "") -> None:
        """In its folder, or in the `directory` that will be that."""
        facts = {key: value for key, value in asdict(volume).items() if key not in ("name", "mountpoint")}
        for record in reversed(_RECORDS):
            path = f"{directory or os.path.dirname(volume.mountpoint)}/{record}"
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                json.dump({"version": 1, **facts, "sum": _sum(facts)}, file)
            os.rename(f"{path}.new", path)

    def _detach(self, volume: Volume) -> str:
        """Take it out of the volumes in one step; what is left to be removed."""
        gone = self._aside()
        os.rename(os.path.dirname(volume.mountpoint), gone)
        return gone


def _sum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def on_disk(volume: Volume) -> int:
    """Bytes that a removal of the volume would free."""
    directory = os.path.dirname(volume.mountpoint)
    if volume.options:  # what is mounted there is somebody else's, and stays
        return sum(os.lstat(path).st_blocks * 512 for path in (directory, *(f"{directory}/{record}" for record in _RECORDS)))
    return os.lstat(directory).st_blocks * 512 + usage(directory)


def usage(directory: str) -> int:
    """Bytes that the files below take on disk, each inode once."""
    return bytes_on_disk(directory, itself=False) if os.path.isdir(directory) else 0


def _labelled(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _check(name: str, driver: str, options: Mapping[str, str]) -> None:
    if len(name) < 2:
        raise InvalidVolume(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if len(name) > _NAME_MAX:
        raise InvalidVolume(f"create {name[:40]}...: volume name is too long, names should be of at most {_NAME_MAX} characters")
    if not _GRAMMAR.match(name):
        raise InvalidVolume(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
    if driver not in ("", "local"):
        raise InvalidVolume(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
    mount_options.check(name, options)


def _truth(value: str) -> bool:
    """A filter's yes or no, as Docker reads it."""
    if value in ("1", "true", "True"):
        return True
    if value in ("0", "false", "False"):
        return False
    raise InvalidArgument(f"invalid filter 'dangling={value}'")
