"""Puts files onto a root file system, on paper, and writes what comes of it as a layer's tar."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from lamina.builder.files import Files, Item, resolve
from lamina.builder.owner import Owner, Permissions
from lamina.errors import InvalidArgument
from lamina.layer.tarwrite import time_record
from lamina.linux.holes import hollow

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


class CannotPlace(InvalidArgument):
    """A layer cannot hold that name there."""


class _Placed(NamedTuple):
    item: Item
    files: Files | None
    path: bytes
    fresh: bool
    on_the_way: bool = False


class Placement:
    """The files of a layer to be, over `root`. Itself looks like Files, so that links can be followed through both.

    `time` (nanoseconds) is the mtime of directories made on the way, `directory_mode` their mode, `owner` theirs and that of what is
    put, which with `owners_kept` has its own; `mode`, if given, makes the mode of what is put from the one it has. A `bare` one does not list directories on the way: such a layer
    is the same on every stack, and leaves them as they are there. No time is later than `newest`, if given (nanoseconds).
    """

    def __init__(
        self,
        root: Files,
        time: int,
        owner: Owner,
        mode: Permissions | None,
        *,
        bare: bool = False,
        newest: int | None = None,
        directory_mode: int = 0o755,
        owners_kept: bool = False,
    ) -> None:
        self._root, self._time, self._owner, self._mode = root, time, owner, mode
        self._bare, self._newest, self._directory_mode, self._trees = bare, newest, directory_mode, 0
        self._owners_kept = owners_kept
        self._placed: dict[bytes, _Placed] = {}
        self._covering = False  # whether anything was put that hides what the root has below its path

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        placed = self._placed.get(path)
        if placed is not None:
            return placed.item
        for ancestor in _ancestors(path) if self._covering else ():
            above = self._placed.get(ancestor)
            if above is not None and not above.item.is_directory:
                return None
        return self._root.lookup(path)

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names; what was put is not listed, links need only `lookup`."""
        return self._root.names(path)

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read, of the root below."""
        return self._root.read(path, item)

    def directory(self, path: bytes) -> None:
        """See that there is a directory at `path` (links resolved) and above it; those that exist stay as they are."""
        self._directory(path, Item(stat.S_IFDIR | self._directory_mode, self._owner.uid, self._owner.gid, mtime_ns=self._time))

    def _directory(self, path: bytes, new: Item) -> None:
        for part in (*_ancestors(path), path):
            existing = self.lookup(part)
            if existing is not None and existing.is_directory:
                # Listed with the attributes it has: a layer that lists its parents looks the same on any stack.
                self._placed.setdefault(part, _Placed(existing._replace(same=None), None, b"", False, True))
            elif existing is None:
                self._put(part, _Placed(new, None, b"", True, True))
            else:
                raise CannotPlace(f"cannot make a directory at /{os.fsdecode(part)}: a file is there")

    def directory_like(self, path: bytes, item: Item) -> None:
        """See that there is a directory at `path` (links resolved); one that is new looks like `item`."""
        existing = self.lookup(path)
        if existing is None or not existing.is_directory:
            self.directory(path.rpartition(b"/")[0])
            self._put(path, _Placed(self._owned(item), None, b"", True))

    def file(self, files: Files, path: bytes, item: Item, target: bytes) -> None:
        """Put one file, link or device at `target` (links resolved); the directories above are made."""
        existing = self.lookup(target)
        if existing is not None and existing.is_directory:
            raise CannotPlace(f"cannot copy to directory: /{os.fsdecode(target)}")
        self.directory(target.rpartition(b"/")[0])
        self._put(target, _Placed(self._owned(item._replace(same=None)), files, path, True))

    def tree(
        self, files: Files, source: bytes, target: bytes, *, own: bool = False, modes_kept: bool = False, kinds_kept: bool = False
    ) -> None:
        """Put what is in the directory `source` into `target`. `own` keeps the owners that the files have, `modes_kept` the modes; with
        `kinds_kept` no directory takes the place of a file or link, and none of these that of a directory.

        Names of one file stay so among themselves: with what another source puts there is nothing in common.
        """
        self._trees += 1
        self.directory(target)
        stack = [(source, target)]
        while stack:
            here, into = stack.pop()
            for name in files.names(here):
                path, to = _join(here, name), _join(into, name)
                item = files.lookup(path)
                if item is None or stat.S_ISSOCK(item.mode):
                    continue
                if kinds_kept:
                    self._same_kind(to, item)
                if not item.is_directory:
                    item = item if item.same is None else item._replace(same=(self._trees, item.same))
                    self._put(to, _Placed(item if own else self._owned(item, modes_kept=modes_kept), files, path, True))
                    continue
                if item.implied:
                    # An archive that has `lib/x` but no `lib`: as tar does, x goes where a link called lib leads.
                    to = resolve(self, to)
                    self._directory(to, Item(stat.S_IFDIR | 0o755, self._owner.uid, self._owner.gid, mtime_ns=self._time))
                else:
                    self._put(to, _Placed(item if own else self._owned(item, modes_kept=modes_kept), None, b"", True))
                stack.append((path, to))

    def _same_kind(self, path: bytes, item: Item) -> None:
        existing = self.lookup(path)
        if existing is not None and existing.is_directory != item.is_directory:
            there = "non-directory" if item.is_directory else "directory"
            raise CannotPlace(f"cannot copy to {there}: /{os.fsdecode(path)}")

    def write(self, path: str, beat: Callable[[], None]) -> int:
        """Write the tar, calling `beat` on the way; the number of entries, 0 (and no file) where everything is there already."""
        if not any(placed.fresh and not (self._bare and placed.on_the_way) for placed in self._placed.values()):
            return 0
        first: dict[object, bytes] = {}
        with open(path, "wb") as out:
            for name in sorted(self._placed):
                placed = self._placed[name]
                if name and not (self._bare and placed.on_the_way):
                    aged = self._aged(placed)
                    write_entry(out, name, aged.item, aged.files, aged.path, first)
                    beat()
            out.write(bytes(1024))
        return len(self._placed)

    def _aged(self, placed: _Placed) -> _Placed:
        item = placed.item
        if self._newest is None or item.mtime_ns <= self._newest:
            return placed
        return placed._replace(item=item._replace(mtime_ns=self._newest))

    def _owned(self, item: Item, *, modes_kept: bool = False) -> Item:
        mode = item.mode if self._mode is None or modes_kept or item.is_link else self._mode(item.mode)
        return item._replace(mode=mode) if self._owners_kept else item._replace(mode=mode, uid=self._owner.uid, gid=self._owner.gid)

    def _put(self, path: bytes, placed: _Placed) -> None:
        if path.rpartition(b"/")[2].startswith(b".wh."):
            raise CannotPlace(
                f"a layer cannot hold a file of that name: {os.fsdecode(path)}", hint="names beginning with .wh. mark deletions"
            )
        if not path:
            return
        if not placed.item.is_directory and (old := self._placed.get(path)) is not None and old.item.is_directory:
            for below in [name for name in self._placed if name.startswith(path + b"/")]:
                del self._placed[below]
        self._placed[path] = placed
        self._covering = self._covering or not placed.item.is_directory


def _ancestors(path: bytes) -> list[bytes]:
    """The directories above `path`, the root left out, outermost first."""
    parts = path.split(b"/")
    return [b"/".join(parts[:length]) for length in range(1, len(parts))]


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def write_entry(out: BinaryIO, name: bytes, item: Item, files: Files | None, path: bytes, first: dict[object, bytes]) -> None:
    """Write one member of a layer's tar, with holes for long runs of zeros; a file's content is `path` of `files`. `first` has where each
    file with several names came first."""
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.mode, info.uid, info.gid = stat.S_IMODE(item.mode), item.uid, item.gid
    info.mtime, fraction = divmod(item.mtime_ns, 10**9)
    records: dict[str, str] = {}
    if fraction:
        records["mtime"] = time_record(item.mtime_ns).decode()
    for key, value in item.xattrs:
        records[f"SCHILY.xattr.{os.fsdecode(key)}"] = value.decode("utf-8", "surrogateescape")
    info.pax_headers = records
    info.type = _KINDS.get(stat.S_IFMT(item.mode), tarfile.REGTYPE)
    info.linkname = item.link.decode("utf-8", "surrogateescape")
    info.devmajor, info.devminor = item.rdev
    same = (id(files), item.same, item.uid, item.gid, item.mode) if item.same is not None else None
    if same is not None and same in first:
        info.type, info.linkname = tarfile.LNKTYPE, first[same].decode("utf-8", "surrogateescape")
    elif same is not None:
        first[same] = name
    content = item.is_file and info.type == tarfile.REGTYPE
    info.size = item.size if content else 0
    out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    if content and files is not None:
        for chunk in files.read(path, item):
            if hollow(chunk):
                out.seek(len(chunk), os.SEEK_CUR)
            else:
                out.write(chunk)
        out.write(bytes(-item.size % 512))
