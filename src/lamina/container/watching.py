"""watch: what a container adds, modifies and deletes, as it happens.

Its directory is compared with what it held a moment before, by a worker, a few times a second: events of the kernel do not tell of writes
that overlayfs passes on to a file which lies there already. They do tell of what comes into being (fanotify): what is made and deleted
between two looks is told of them, where the kernel can.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.parts import Parts
from lamina.container.snapshots import Snapshot
from lamina.container.times import rfc3339
from lamina.errors import LaminaError
from lamina.layer.union import Union
from lamina.layer.upper import OPAQUE, Found, walk_upper
from lamina.linux import channel, fanotify
from lamina.spec.digest import Digest

_PART = 4096
_PAUSE, _SHARE = 0.2, 4.0
"""Seconds between looks, and how many times as long as a look took at least."""
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}
Mark = list[Any]
"""What tells that an entry is what it was: whether it is a whiteout, mode, owner, group, and of what is not a directory inode, size and
times."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One change: `kind` is A, M or D. `type` and `size` (bytes) are the entry's now; of what is deleted they are empty. `layer` is the
    index of the layer below (base 0, snapshots after the image's) that had the path, -1 for none; `copied` that it was copied up from
    there just now."""

    time_ns: int
    kind: str
    path: str
    type: str
    size: int
    layer: int
    layer_id: str
    instruction: str
    copied: bool

    def document(self) -> dict[str, Any]:
        """The same as the API shows it."""
        below = {"Index": self.layer, "Id": self.layer_id, "Instruction": self.instruction} if self.layer >= 0 else None
        return {
            "Time": rfc3339(self.time_ns),
            "Kind": self.kind,
            "Path": self.path,
            "Type": self.type,
            "Size": self.size,
            "Layer": below,
            "CopiedUp": self.copied,
        }


class Watcher:
    """Follows containers. Thread-safe: each watch has its own state."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def watch(self, live: Live, *, existing: bool = False) -> Generator[Seen | None, None, None]:
        """Changes from now on, until the container is removed; first, with `existing`, those that are there. None where nothing happened
        since the look before. A snapshot or rollback begins anew."""
        place: tuple[object, ...] | None = None
        fds = [os.memfd_create("watch", os.MFD_CLOEXEC), *_arrivals(live.container.writes)]
        try:
            while not live.removing:
                began, now = time.monotonic(), self._place(live)
                fresh = now != place
                if fresh:
                    os.ftruncate(fds[0], 0)
                found = self._look(live, fds) if now is not None else []
                # What was moved away during the look says nothing.
                place = now if self._place(live) == now else None
                if place is not None and (existing or not fresh):
                    yield from found
                existing = existing and place is None
                yield None
                time.sleep(max(_PAUSE, (time.monotonic() - began) * _SHARE))
        finally:
            channel.close_all(fds)

    def _place(self, live: Live) -> tuple[object, ...] | None:
        """What tells that it still writes to the same directory on the same snapshots; None at the moment in which it is moved."""
        try:
            return live.container.base, os.stat(live.container.writes).st_ino
        except OSError:
            return None

    def _look(self, live: Live, fds: list[int]) -> list[Seen]:
        container, found = live.container, list[list[Any]]()
        layer = Digest.parse(container.layer) if container.layer else None
        chain = self._parts.layers.chain(layer)
        try:
            snapshots = [] if self._parts.driver == "native" else self._launcher.snapshots.chain(container.base)
            params = {
                "upper": container.writes,
                "over": [each.diff for each in snapshots[::-1]],
                "below": [self._parts.layers.driver.index(facts.name) for facts in chain],
            }
            self._parts.workers.run("lamina.container.watching:look_job", params, fds, lambda update: found.extend(update["changes"]))
        except LaminaError:  # it is being moved, or removed
            return []
        now = self._parts.clock()
        told = [(str(facts.id), facts.instruction or facts.created_by) for facts in chain] + [(each.id, _words(each)) for each in snapshots]
        return [_seen(now, change, told) for change in found]


def _seen(now: int, change: Sequence[Any], told: Sequence[tuple[str, str]]) -> Seen:
    kind, path, type_, size, level, copied = change
    identity, instruction = told[level] if level >= 0 else ("", "")
    return Seen(now, kind, path, type_, size, level, identity, instruction, copied)


def _words(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.name}" if snapshot.name else "snapshot whose name was removed"


def look_job(params: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Worker job: what is different in the directory `upper` from what the file `fds[0]` says, which then says what is there now. `fds[1]`,
    if any, tells what arrived meanwhile.

    `over` are snapshots' directories below it, top first, `below` the layers' indexes. Reports kind, path, type, size, layer, copied up.
    """
    data = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
    before: dict[str, Mark] = json.loads(data) if data else {}
    # First the events: what they tell of and the look does not find was gone by then.
    arrived = _arrived(fds[1], params["upper"]) if len(fds) > 1 else {}
    now = {os.fsdecode(found.path): _mark(found) for found in walk_upper(params["upper"])}
    passing = [
        change for path, kind in arrived.items() if data and _same(before.get(path), now.get(path)) for change in _passing(path, kind)
    ]
    if before == now and data:
        return _told(passing, report)
    with open(os.dup(fds[0]), "wb") as file:
        file.seek(0)
        file.truncate()
        file.write(json.dumps(now).encode())
    with Union.open(params["below"]) as union:
        return _told([*passing, *_changes(before, now, _Below(union, params["over"]))], report)


def _told(changes: Sequence[object], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A part at a time, since there may be very many."""
    for start in range(0, len(changes), _PART):
        report({"changes": changes[start : start + _PART]})
    return {}


def _arrivals(directory: str) -> list[int]:
    """A descriptor that tells what is made on the file system of a directory; none where the kernel cannot, or may not."""
    try:
        return [fanotify.arrivals(directory)]
    except OSError:
        return []


def _arrived(fd: int, upper: str) -> dict[str, str]:
    """Paths in `upper` that came into being since, with their type as far as that is known."""
    top, found = os.path.realpath(upper), {}
    folder = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory, name, is_folder in fanotify.told(fd, folder):
            if f"{directory}/".startswith(f"{top}/"):
                path = f"{directory}/{os.fsdecode(name)}"[len(top) + 1 :]
                found[path] = "directory" if is_folder else "other"
    finally:
        os.close(folder)
    return found


def _same(old: Mark | None, new: Mark | None) -> bool:
    """Whether nothing is at a path, or nothing again."""
    return (old is None or old[0]) and old == new


def _passing(path: str, kind: str) -> Iterator[list[Any]]:
    """What was made and deleted between two looks, as `_changes` tells it."""
    yield ["A", f"/{path}", kind, 0, -1, False]
    yield ["D", f"/{path}", "", 0, -1, False]


def _mark(found: Found) -> Mark:
    status = found.status
    if found.whiteout:
        return [True]
    mark = [False, status.st_mode, status.st_uid, status.st_gid]
    return mark if stat.S_ISDIR(status.st_mode) else [*mark, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _changes(before: dict[str, Mark], now: dict[str, Mark], below: _Below) -> Iterator[list[Any]]:
    """What differs between two looks, by path: kind, path, type, size, layer and copied of `Seen`."""
    for path in sorted(before.keys() | now.keys()):
        old, new = before.get(path), now.get(path)
        if old == new:
            continue
        level, shape = below.find(path)
        if new is None or new[0]:
            if old is None or not old[0]:
                yield ["D", f"/{path}", "", 0, level, False]
            continue
        if old is None and stat.S_ISDIR(new[1]) and shape == tuple(new[1:4]):
            continue  # only there for what is in it
        fresh = old is None or old[0]
        kind = "A" if fresh and (level < 0 or (old is not None and old[0])) else "M"
        size = new[5] if stat.S_ISREG(new[1]) else 0
        yield [kind, f"/{path}", _TYPES.get(stat.S_IFMT(new[1]), "other"), size, level, kind == "M" and fresh]


class _Below:
    """What is below an upper directory: snapshots' directories, top first, on layers."""

    def __init__(self, union: Union, over: Sequence[str]) -> None:
        self._union, self._over = union, over

    def find(self, path: str) -> tuple[int, tuple[int, int, int] | None]:
        """The index of what gives a path there, -1 for nothing, and its mode, owner and group."""
        layers = len(self._union.layers)
        for number, directory in enumerate(self._over):
            status = _inside(directory, path)
            if status is not None:
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    return -1, None
                return layers + len(self._over) - 1 - number, (status.st_mode, status.st_uid, status.st_gid)
            if _hidden(directory, path):
                return -1, None
        hit = self._union.lookup(os.fsencode(path))
        return (-1, None) if hit is None else (hit[0], (hit[1].mode, hit[1].uid, hit[1].gid))


def _inside(directory: str, path: str) -> os.stat_result | None:
    """What a snapshot has at a path. No link can be on the way: where a snapshot has one, what is above it has no such path."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.lstat(f"{directory}/{path}")
    return None


def _hidden(directory: str, path: str) -> bool:
    """Whether a snapshot hides what is below it at a path that it does not have."""
    while "/" in path:
        path = path.rpartition("/")[0]
        status = _inside(directory, path)
        if status is None:
            continue
        if not stat.S_ISDIR(status.st_mode):
            return True
        with suppress(OSError):
            return os.getxattr(f"{directory}/{path}", OPAQUE, follow_symlinks=False) == b"y"
        return False
    return False
