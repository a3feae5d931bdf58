"""Worker side of cp, export, diff and the filling of volumes: jobs over a root that `roots.opened` gives."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lamina.container.refusals import NotADirectory, PathNotFound, ReadOnlyPath
from lamina.container.reuse import reusing
from lamina.container.roots import opened
from lamina.container.tarpack import Packer
from lamina.container.tarunpack import Unpacker
from lamina.errors import Internal
from lamina.layer.clone import copy_tree
from lamina.linux import prctl
from lamina.linux.mount import made_up
from lamina.linux.openat2 import open_in_root
from lamina.runtime.users import look_up
from lamina.worker.incoming import arriving
from lamina.worker.outgoing import departing

Report = Callable[[dict[str, Any]], None]
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LINKS = 40
_GO_BITS = (
    (stat.S_IFDIR, 1 << 31),
    (stat.S_IFLNK, 1 << 27),
    (stat.S_IFBLK, 1 << 26),
    (stat.S_IFCHR, 1 << 26 | 1 << 21),
    (stat.S_IFIFO, 1 << 25),
    (stat.S_IFSOCK, 1 << 24),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A path as Docker's cp reads it: the directory that holds it, resolved; and its last part, which is not followed.

    `name` is "" where the path ends in a slash or a dot: then the directory itself is meant. `shown` is the name in archives.
    """

    directory: str
    name: str
    shown: str

    @classmethod
    def of(cls, path: str) -> Place:
        """Read a path, absolute or from the root on."""
        cleaned = posixpath.normpath(f"/{path.lstrip('/')}")
        if f"/{path}".rstrip("/").endswith("/.") or not path:
            return cls(cleaned, "", ".")
        if path.endswith("/") or cleaned == "/":
            return cls(cleaned, "", posixpath.basename(cleaned) or "/")
        return cls(posixpath.dirname(cleaned), posixpath.basename(cleaned), posixpath.basename(cleaned))


def stat_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """What `path` is. Answers the fields of PathStat, `mtime` in nanoseconds."""
    del report
    place = Place.of(params["path"])
    with opened(params, fds) as (root, _):
        directory = _open(root, place, params)
        try:
            with _missing_named(params):
                status = os.stat(place.name, dir_fd=directory, follow_symlinks=False) if place.name else os.fstat(directory)
        finally:
            os.close(directory)
        target = _target(root, posixpath.join(place.directory, place.name)) if stat.S_ISLNK(status.st_mode) else ""
    return {"name": place.shown, "size": status.st_size, "mode": go_mode(status.st_mode), "mtime": status.st_mtime_ns, "link": target}


def get_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Write `path` as a tar into the last descriptor. `below` are paths of mounts whose content belongs to it."""
    place = Place.of(params["path"])
    with opened(params, fds) as (root, others):
        out = departing(params, others[-1], report)
        packer = Packer(out, _devices(root, [place.directory, *params["below"]]), params.get("first_id", 0))
        directory = _open(root, place, params)
        try:
            with _missing_named(params):
                if place.name:
                    packer.add(directory, place.name, os.fsencode(place.shown))
                else:
                    packer.add_directory(directory, os.fsencode(place.shown))
        finally:
            os.close(directory)
        packer.finish()
    return {}


def put_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Extract the tar that the last descriptor gives, or the body in the connection that it is, into `path`. `writes` is the host
    directory that the container writes to."""
    with (
        arriving(params, fds[-1], report, gather=False) as body,
        opened(params, fds) as (root, _),
        reusing(root, params["writes"]) as reuse,
    ):
        base = posixpath.normpath(f"/{params['path'].lstrip('/')}")
        _check_base(root, base, params)
        user = look_up(root, params["owner"]) if params["owner"] else None
        owner = None if user is None else (user.uid, user.gid)
        first = params.get("first_id", 0)
        with _somebody_inside(first):
            unpacker = Unpacker(root, base, strict=params["strict"], owner=owner, first=first, reuse=reuse)
            unpacker.extract(body.pieces, body.copy)
    return {}


@contextmanager
def _somebody_inside(first: int) -> Iterator[None]:
    """Make files as the root of a user namespace that begins at `first`: root out here is nobody there. 0: there is none."""
    if not first:
        yield
        return
    prctl.set_file_ids(first, first)
    try:
        yield
    finally:
        prctl.set_file_ids(0, 0)


def export_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Write the whole root as a tar into the last descriptor, without what is mounted on it."""
    with opened(params, fds) as (root, others):
        packer = Packer(departing(params, others[-1], report), _devices(root, ["/"]), params.get("first_id", 0))
        packer.add_directory(root, b"", itself=False)
        packer.finish()
    return {}


def seed_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Copy what the root has at each of `targets` into the host directory it maps to."""
    del report
    with opened(params, fds) as (root, _):
        for target, destination in params["targets"].items():
            try:
                source = open_in_root(root, target, _FOLDER)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                _copy_all(source, destination)
            finally:
                os.close(source)
    return {}


def go_mode(mode: int) -> int:
    """st_mode as Go's os.FileMode, which the API shows."""
    kind = next((bit for kind, bit in _GO_BITS if stat.S_IFMT(mode) == kind), 0)
    special = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
    return kind | sum(bit for flag, bit in special if mode & flag) | mode & 0o777


def _open(root: int, place: Place, params: dict[str, Any]) -> int:
    """The directory of a place.

    Raises:
        PathNotFound: there is none, or as with Docker, it is the kernel's (see mount.made_up).
        NotADirectory: it is to be a directory by its slash, and is none.
    """
    if not place.name and params["path"].endswith("/"):
        with _missing_named(params):
            try:
                fd = open_in_root(root, place.directory, _FOLDER)
            except NotADirectoryError:
                raise NotADirectory(f"{params['path']} is not a directory in container {params['container']}") from None
    else:
        with _missing_named(params, errno.ENOTDIR):
            fd = open_in_root(root, place.directory, _FOLDER)
    if place.name and made_up(fd):
        os.close(fd)
        raise PathNotFound(_missing(params).message, hint="read what the kernel shows there with exec")
    return fd


def _check_base(root: int, base: str, params: dict[str, Any]) -> None:
    """Raises PathNotFound, NotADirectory, ReadOnlyPath: nothing can be extracted into `base`."""
    try:
        with _missing_named(params):
            fd = open_in_root(root, base, _FOLDER)
    except NotADirectoryError:
        raise NotADirectory("extraction point is not a directory") from None
    try:
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            on_root = os.fstat(fd).st_dev == os.fstat(root).st_dev
            raise ReadOnlyPath("container rootfs is marked read-only" if on_root else "mounted volume is marked read-only")
    finally:
        os.close(fd)


@contextmanager
def _missing_named(params: dict[str, Any], *more: int) -> Iterator[None]:
    """Where the path leads nowhere (these errors, and `more`), PathNotFound."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG, *more):
            raise
        raise _missing(params) from None
    except ValueError:  # a zero byte
        raise _missing(params) from None


def _missing(params: dict[str, Any]) -> PathNotFound:
    return PathNotFound(f"Could not find the file {params['path']} in container {params['container']}")


def _devices(root: int, paths: list[str]) -> frozenset[int]:
    """The file systems that these directories are on, but for the kernel's own."""
    found = set()
    for path in paths:
        try:
            fd = open_in_root(root, path, _FOLDER)
        except OSError:
            continue
        if not made_up(fd):
            found.add(os.fstat(fd).st_dev)
        os.close(fd)
    return frozenset(found)


def _target(root: int, path: str) -> str:
    """Where a symlink leads inside the root, as text; one that leads in a circle is answered as far as it was followed."""
    for _ in range(_LINKS):
        fd = -1
        try:
            fd = open_in_root(root, posixpath.dirname(path), _FOLDER)
            link = os.readlink(posixpath.basename(path) or ".", dir_fd=fd)
        except OSError:
            break
        finally:
            if fd >= 0:
                os.close(fd)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return path


def _copy_all(source: int, destination: str) -> None:
    """Everything below an open directory, and its own attributes, into one that may be written to by another container meanwhile."""
    try:
        target = os.open(destination, _FOLDER)
        try:
            copy_tree(os.dup(source), target)
        finally:
            os.close(target)
    except OSError as error:
        raise Internal(f"a volume could not be filled: {(error.strerror or str(error)).lower()}") from None
