"""Jobs that look at extracted trees: is everything there, nothing else, and what was written?"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from lamina.layer import sums
from lamina.layer.erofs.writer import OPAQUE, ORIGIN
from lamina.layer.errors import LayerDamaged, shown
from lamina.layer.index import Entry, LayerIndex
from lamina.layer.union import Hit, Union
from lamina.linux.removing import remove_tree

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MARKS = {OPAQUE[0], ORIGIN[0]}
Reporter = Callable[[dict[str, Any]], None]


def check_tree(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Compare the directory `tree` with its index `metadata` and the digests in `sums`: names, attributes, contents.

    `shard` and `shards` say which part of the files this job reads. Answers `paths`: what differs, and how.

    Raises:
        LayerDamaged: index or digests are not what was written.
    """
    tree = os.fsencode(params["tree"])
    known = sums.read(params["sums"], params["name"]) if params.get("sums") else None
    with LayerIndex.open(params["metadata"], params["name"]) as index:
        found = list(_differences(index, tree, known, params.get("shard", 0), params.get("shards", 1)))
    return {"paths": [[os.fsdecode(path), how] for path, how in found]}


def make_sums(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Write the digests of the layer with the index `metadata`, whose tar is the file `fds[0]`, to the new file `path`."""
    with LayerIndex.open(params["metadata"], params["name"]) as index, open(params["path"], "xb") as file:
        with open(params["metadata"], "rb") as image:
            file.write(sums.make(index, fds[0], image.fileno()))
    return {}


def mend_tree(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Make the directory `tree` what `fresh` is, by moving over what differs; containers that run on it see the right files from then on,
    but for those that they have looked at: overlayfs remembers these.

    `metadata` is the index of both. What is left of `fresh` is the caller's to delete.
    """
    fresh = os.fsencode(params["fresh"])
    with LayerIndex.open(params["metadata"], params["name"]) as index:
        wanted = {b"": index.lookup(b"")} | {entry.path: entry for entry in index.walk()}
        _mend(os.fsencode(params["tree"]), fresh, wanted, _Contents(None, fresh).differs)
    return {}


def check_merged(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Compare the directory `tree` with what the layers with the indexes `below` and the trees `trees` (base first) show together; see
    `check_tree`. Its files are the layers' own, which are looked at there."""
    found = []
    tree, trees = os.fsencode(params["tree"]), [os.fsencode(each) for each in params["trees"]]
    with Union.open(params["below"]) as union:
        shown = list(union.walk())
    for level, entry in shown:
        if how := _attributes_differ(tree, replace(entry, opaque=False)) or _apart(tree, trees[level], entry):
            found.append((entry.path, how))
    found += [(path, "does not belong there") for path in _strays(_known(shown), tree)]
    return {"paths": [[os.fsdecode(path), how] for path, how in found]}


def mend_merged(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Make the directory `tree` what `fresh` is, which was merged just now of the layers with the indexes `below`; see `mend_tree`."""
    fresh = os.fsencode(params["fresh"])
    with Union.open(params["below"]) as union:
        wanted = _known(union.walk())
    _mend(os.fsencode(params["tree"]), fresh, wanted, lambda tree, entry: _apart(tree, fresh, entry))
    return {}


def _known(shown: Iterable[Hit]) -> dict[bytes, Entry | None]:
    """What is merged, by path: nothing lies below it, so nothing is opaque."""
    return {b"": None} | {entry.path: replace(entry, opaque=False) for _, entry in shown}


def _apart(tree: bytes, other: bytes, entry: Entry) -> str:
    """Whether a file of two trees, which should be the same one, is not."""
    path = b"/" + entry.path
    try:
        same = entry.type != "file" or os.path.samestat(os.lstat(tree + path), os.lstat(other + path))
    except OSError:
        return "is missing in the layer's tree"
    return "" if same else "is not the layer's file"


def _mend(tree: bytes, fresh: bytes, wanted: dict[bytes, Entry | None], differs: Callable[[bytes, Entry], str]) -> None:
    for path in list(_strays(wanted, tree)):
        _delete(tree + b"/" + path)
    for path, entry in wanted.items():
        if path and entry is not None and (how := _attributes_differ(tree, entry) or differs(tree, entry)):
            _replace(tree, fresh, entry, how)
    for path, entry in reversed(wanted.items()):
        if path and entry is not None and entry.directory:
            os.utime(tree + b"/" + path, ns=(entry.mtime_ns, entry.mtime_ns))


def _differences(index: LayerIndex, tree: bytes, known: list[bytes] | None, shard: int, shards: int) -> Iterator[tuple[bytes, str]]:
    wanted: dict[bytes, Entry | None] = {b"": None}
    contents = _Contents(known, None)
    for number, entry in enumerate(index.walk()):
        wanted[entry.path] = entry
        contents.meet(entry)
        if number % shards == shard and (how := _attributes_differ(tree, entry) or contents.differs(tree, entry)):
            yield entry.path, how
    if shard == 0:
        for path in _strays(wanted, tree):
            yield path, "does not belong there"


def _strays(wanted: dict[bytes, Entry | None], tree: bytes) -> Iterator[bytes]:
    """Names in the tree that the index does not have; nothing below them."""
    for path, entry in wanted.items():
        if path and (entry is None or not entry.directory):
            continue
        place = tree + b"/" + path if path else tree
        try:
            names = os.listdir(place) if not os.path.islink(place) else []
        except OSError:
            continue
        for name in names:
            inside = path + b"/" + name if path else name
            if inside not in wanted:
                yield inside


class _Contents:
    """Whether files hold what they should, by their digests or by those of the same files in another tree."""

    def __init__(self, known: list[bytes] | None, like: bytes | None) -> None:
        self._known, self._like = known, like
        self._buffer = memoryview(bytearray(1 << 20))
        self._numbers: dict[int, int] = {}

    def meet(self, entry: Entry) -> None:
        """Say which file comes next, in the index's order."""
        if entry.type == "file":
            self._numbers.setdefault(entry.inode, len(self._numbers))

    def differs(self, tree: bytes, entry: Entry) -> str:
        """How the content of a file in `tree` differs, in words; "" where it does not, or nobody knows.

        Raises:
            LayerDamaged: the digests are those of another layer.
        """
        if entry.type != "file" or (self._known is None and self._like is None):
            return ""
        try:
            found = self._digest(tree + b"/" + entry.path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        number = self._numbers.get(entry.inode, 0)
        if self._known is not None and number >= len(self._known):
            raise LayerDamaged("a layer is damaged: the checksums of its files are those of another")
        wanted = self._known[number] if self._known is not None else self._digest((self._like or b"") + b"/" + entry.path)
        return "" if found == wanted else "holds other bytes"

    def _digest(self, path: bytes) -> bytes:
        fd = os.open(path, _READ)
        try:
            return sums.of_file(fd, self._buffer)
        finally:
            os.close(fd)


def _attributes_differ(tree: bytes, entry: Entry) -> str:
    path = tree + b"/" + entry.path
    try:
        found = os.lstat(path)
    except OSError:
        return "is missing"
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(entry.mode):
        return "is of another type"
    kind = stat.S_IFMT(entry.mode)
    if kind == stat.S_IFREG and found.st_size != entry.size:
        return f"has {found.st_size} bytes, not {entry.size}"
    if kind == stat.S_IFLNK and os.fsencode(os.readlink(path)) != entry.link:
        return "leads elsewhere"
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and (os.major(found.st_rdev), os.minor(found.st_rdev)) != entry.rdev:
        return "is another device"
    # A symbolic link has all permissions on a disk, whatever its tar says.
    mode_differs = kind != stat.S_IFLNK and found.st_mode != entry.mode
    if mode_differs or (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
        return "has another owner or mode"
    if abs(found.st_mtime_ns - entry.mtime_ns) > 0 and -(1 << 31) < entry.mtime_ns // 10**9 < 1 << 31:
        return "has another time"
    return _xattrs_differ(path, entry)


def _xattrs_differ(path: bytes, entry: Entry) -> str:
    """Attributes that the file system could not keep are not missed."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return ""
    if not names and not entry.xattrs and not entry.opaque:
        return ""
    found = {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}
    if (found.get(OPAQUE[0]) == b"y") != entry.opaque:
        return "has lost or gained its mark that it is opaque"
    wanted = dict(entry.xattrs)
    return "has other attributes" if any(wanted.get(name) != value for name, value in found.items() if name not in _MARKS) else ""


def _replace(tree: bytes, fresh: bytes, entry: Entry, how: str) -> None:
    """Put the right file where a wrong one is; a directory keeps what is in it."""
    target, source = tree + b"/" + entry.path, fresh + b"/" + entry.path
    if not entry.directory:
        if os.path.isdir(target) and not os.path.islink(target):
            _delete(target)
        _copy_over(source, target)
        return
    if how in ("is missing", "is of another type"):
        _delete(target)
        os.mkdir(target, 0o700)
    status = os.lstat(source)
    os.chown(target, entry.uid, entry.gid)
    os.chmod(target, entry.mode & 0o7777)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _copy_over(source: bytes, target: bytes) -> None:
    """A hard link beside the target, renamed over it: readers see the old file or the new one."""
    beside = target + b".mended"
    _delete(beside)
    os.link(source, beside, follow_symlinks=False)
    os.rename(beside, target)
    if os.path.lexists(beside):  # rename does nothing where both are the same inode
        os.unlink(beside)


def _delete(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(os.fsdecode(path))
    elif os.path.lexists(path):
        os.unlink(path)


def problem(name: str, paths: list[list[str]]) -> LayerDamaged | None:
    """What `check_tree` answered as one error, None where all is well."""
    if not paths:
        return None
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    path, how = paths[0]
    return LayerDamaged(f"layer {name} is damaged: {shown(os.fsencode(path))} in its tree {how}{more}")
