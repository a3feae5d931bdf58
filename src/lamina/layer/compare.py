"""What was changed in a directory that began as a full copy of a stack of layers: for drivers without overlayfs.

The copy's inodes are older than the end of the copying. One whose change time is not later than that is what it was: nothing can be
written to an inode, its attributes or its links without that time, which nobody can set. Of the others, attributes are
compared, and where these are the same, contents.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamina.layer.diff import Change, Links, joined, marker, member_tar
from lamina.layer.index import Entry
from lamina.layer.union import Hit, Union
from lamina.layer.upper import Found
from lamina.linux.openat2 import open_regular
from lamina.spec import whiteout

_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Original:
    """What a full copy was made of: the layers, their trees (base first), when the copying ended (nanoseconds, by the file
    system's clock), and what the copy was given besides (`extra`: mount points)."""

    below: Union
    trees: Sequence[str]
    finished_ns: int
    extra: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """One path: `kind` is A, M or D. What was deleted has no `found`; `around` is the directory it was in."""

    path: bytes
    kind: str
    found: Found | None
    around: os.stat_result


def differences(directory: str, original: Original) -> Iterator[Difference]:
    """What differs between a directory and what it was copied from: parents first, names in byte order.

    The directories around a change are changes too, as overlayfs makes them. Each `found` is valid until the next.
    """
    pending: list[Difference] = []
    for difference, changed in _walk(directory, original):
        pending = [item for item in pending if difference.path.startswith(item.path + b"/")]
        if changed:
            yield from pending
            pending = []
            yield difference
        elif difference.found is not None and stat.S_ISDIR(difference.found.status.st_mode):
            pending.append(difference)


def changes(directory: str, original: Original) -> Iterator[Change]:
    """See `diff.changes`."""
    return ((b"/" + difference.path, difference.kind) for difference in differences(directory, original))


def copy_tar(directory: str, original: Original) -> Iterator[bytes]:
    """See `diff.upper_tar`."""
    yield from joined(_tar(directory, original))


def written(directory: str, original: Original) -> int:
    """Bytes on disk of what was added and modified."""
    found = (difference.found for difference in differences(directory, original))
    by_inode = {each.status.st_ino: each.status.st_blocks * 512 for each in found if each is not None}
    return sum(by_inode.values())


def _tar(directory: str, original: Original) -> Iterator[bytes]:
    links: Links = {}
    for difference in differences(directory, original):
        if difference.found is not None:
            yield from member_tar(difference.found, links)
        else:
            head, _, name = difference.path.rpartition(b"/")
            yield marker(head, whiteout.whiteout(name), difference.around)


def _walk(directory: str, original: Original) -> Iterator[tuple[Difference, bool]]:
    """Every name in the directory or in what it was copied from, and whether it differs."""
    top = os.open(directory, _DIRECTORY)
    stack = [(top, b"", _names(top, b"", original.below, covers=True))]
    try:
        while stack:
            here, path, names = stack[-1]
            name, there, hit = next(names, (b"", False, None))
            if not name:
                os.close(stack.pop()[0])
                continue
            inside = path + b"/" + name if path else name
            if not there:
                yield Difference(inside, "D", None, os.fstat(here)), True
                continue
            try:
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
                child = os.open(name, _DIRECTORY, dir_fd=here) if stat.S_ISDIR(status.st_mode) else -1
            except (FileNotFoundError, NotADirectoryError):
                continue  # whoever writes there has just removed it
            if child >= 0:
                covers = hit is not None and hit[1].directory
                stack.append((child, inside, _names(child, inside, original.below, covers=covers)))
            found = Found(inside, here, name, status)
            yield Difference(inside, "M" if hit else "A", found, status), _differs(found, hit, original)
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _names(fd: int, path: bytes, below: Union, *, covers: bool) -> Iterator[tuple[bytes, bool, Hit | None]]:
    """The names in a directory now or before, sorted: whether each is there now, and what it was."""
    now = set(map(os.fsencode, os.listdir(fd)))
    before = {hit[1].path.rpartition(b"/")[2]: hit for hit in below.listdir(path)} if covers else {}
    return ((name, name in now, before.get(name)) for name in sorted(now | before.keys()))


def _differs(found: Found, hit: Hit | None, original: Original) -> bool:
    status = found.status
    untouched = status.st_ctime_ns <= original.finished_ns
    if hit is None:
        kind = stat.S_IFMT(status.st_mode)
        # The one link among the mount points is /etc/mtab.
        empty = kind in (stat.S_IFDIR, stat.S_IFLNK) or (kind == stat.S_IFREG and not status.st_size)
        return not (found.path in original.extra and (untouched or empty))
    level, entry = hit
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(entry.mode):
        return True
    if untouched and (not stat.S_ISREG(status.st_mode) or status.st_size == entry.size):
        return False
    return _attributes(found) != _wanted(entry) or _content_differs(found, entry, original.trees[level])


def _attributes(found: Found) -> tuple[object, ...]:
    status = found.status
    link = os.fsencode(os.readlink(found.name, dir_fd=found.directory)) if stat.S_ISLNK(status.st_mode) else b""
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_IFMT(status.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    # A symbolic link has all permissions on a disk, whatever its layer says.
    mode = 0 if link else status.st_mode
    return mode, status.st_uid, status.st_gid, status.st_mtime_ns, size, link, device, found.xattrs


def _wanted(entry: Entry) -> tuple[object, ...]:
    size = entry.size if stat.S_ISREG(entry.mode) else 0
    mode = 0 if entry.link else entry.mode
    return mode, entry.uid, entry.gid, entry.mtime_ns, size, entry.link, entry.rdev, tuple(sorted(entry.xattrs))


def _content_differs(found: Found, entry: Entry, tree: str) -> bool:
    """Whether a regular file whose attributes are the same has got another link, or other bytes."""
    if not stat.S_ISREG(entry.mode):
        return False
    if found.status.st_nlink > entry.links:
        return True
    mine = open_regular(found.name, found.directory)
    try:
        return _bytes_differ(mine, os.path.join(os.fsencode(tree), entry.path))
    finally:
        os.close(mine)


def _bytes_differ(mine: int, path: bytes) -> bool:
    fd, offset = os.open(path, _READ), 0
    try:
        while (data := os.pread(mine, _CHUNK, offset)) == os.pread(fd, _CHUNK, offset):
            if not data:
                return False
            offset += len(data)
        return True
    finally:
        os.close(fd)
