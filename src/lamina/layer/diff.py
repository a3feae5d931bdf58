"""From an upper directory, as overlayfs leaves it, to a layer's tar, or to a list of changes.

The directory is read by descriptors and names only; a link in it is never followed. Nobody may be
writing to it meanwhile: a file that shrinks is filled up with zeros, so the tar stays sound.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from lamina.layer import tarwrite
from lamina.layer.index import Entry
from lamina.layer.tar.member import HARDLINK, Member
from lamina.layer.tar.sparse import RUNS_LIMIT
from lamina.layer.tree import Xattrs, kept_xattrs
from lamina.layer.union import Union
from lamina.layer.upper import Found, attributes, walk_uppers
from lamina.linux.openat2 import open_regular
from lamina.spec import whiteout

_CHUNK = 1 << 20
Links = dict[tuple[int, int], bytes]
"""By device and inode, the first path that a tar has of it."""
Change = tuple[bytes, str]
"""A path with a leading slash, and `A`dded, `M`odified or `D`eleted."""


def upper_tar(directory: str, below: Union, over: Sequence[str] = ()) -> Iterator[bytes]:
    """The tar of a layer that, put on `below`, shows what overlayfs shows with this upper directory on those it stands on (`over`, top
    first).

    Deterministic: names in order, no access times, no owners' names. The root's attributes are not
    part of it. Sockets are left out, tars cannot hold them. Equal upper directories give equal bytes.

    Raises:
        UnsupportedArchive: a file is one that only overlayfs can read.
    """
    yield from joined(_tar([directory, *over], below))


def joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: each costs whoever takes them the same, however short it is. Long ones are not copied."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) >= _CHUNK:
            if held:
                yield b"".join(held)
                held, size = [], 0
            yield piece
            continue
        held.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join([*held, tarwrite.END])


def _tar(directories: Sequence[str], below: Union) -> Iterator[bytes]:
    links: Links = {}
    for found in walk_uppers(directories):
        status = found.status
        if found.whiteout:
            if below.lookup(found.path) is not None:
                yield marker(found.path.rpartition(b"/")[0], whiteout.whiteout(found.name), status)
            continue
        yield from member_tar(found, links)
        if stat.S_ISDIR(status.st_mode) and found.opaque and _hides(below, found.path):
            yield marker(found.path, whiteout.OPAQUE, status)


def member_tar(found: Found, links: Links) -> Iterator[bytes]:
    """One name of an upper directory as a member; `links` remembers which inodes came before. Sockets give nothing.

    Raises:
        UnsupportedArchive: only overlayfs can read it.
    """
    status = found.status
    if stat.S_ISSOCK(status.st_mode):
        return
    xattrs = attributes(found)
    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
        first = links.setdefault((status.st_dev, status.st_ino), found.path)
        if first is not found.path:
            yield tarwrite.header(Member(found.path, HARDLINK, 0, 0, 0, 0, link=first))
            return
    member = _member(found, kept_xattrs(xattrs.items(), found.path))
    if stat.S_ISREG(status.st_mode):
        yield from _file(found, member)
    else:
        yield tarwrite.header(member)


def _hides(below: Union, path: bytes) -> bool:
    """Whether an opaque directory there hides anything: overlayfs marks every new one."""
    hit = below.lookup(path)
    return hit is not None and hit[1].directory


def marker(directory: bytes, name: bytes, status: os.stat_result) -> bytes:
    """An empty file of that name, with the time of what `status` is of: whiteouts are like that."""
    path = directory + b"/" + name if directory else name
    return tarwrite.header(Member(path, stat.S_IFREG, 0, 0, 0, status.st_mtime_ns // 10**9 * 10**9))


def _member(found: Found, xattrs: Xattrs) -> Member:
    status = found.status
    link = os.readlink(found.name, dir_fd=found.directory) if stat.S_ISLNK(status.st_mode) else b""
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_IFMT(status.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Member(found.path, status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, 0, os.fsencode(link), *device, xattrs)


def _file(found: Found, member: Member) -> Iterator[bytes]:
    """A file's headers and its bytes, exactly as many as they say; of one that is mostly holes, what is not."""
    if not member.size:
        yield tarwrite.header(member)
        return
    fd = open_regular(found.name, found.directory)
    try:
        runs = [(0, member.size)]
        if member.size > _CHUNK and found.status.st_blocks * 1024 < member.size:
            runs = stored_runs(fd, member.size)
        stored = member.size
        if runs == [(0, member.size)]:
            yield tarwrite.header(member)
        else:
            header, stored = tarwrite.sparse_header(member, runs)
            yield header
        for start, length in runs:
            yield from _read(fd, start, length)
        yield tarwrite.padding(stored)
    finally:
        os.close(fd)


def stored_runs(fd: int, size: int) -> list[tuple[int, int]]:
    """What the file system stores of a file, (start, bytes); an empty run says where a hole at the end ends."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size and len(found) < RUNS_LIMIT // 2:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            if start >= size:
                break
            at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is nothing behind; whoever writes to it may have cut it just now
                raise
            break
        found.append((start, at - start))
    else:
        if at < size:
            return [(0, size)]
    return found if found and at == size else [*found, (size, 0)]


def _read(fd: int, start: int, length: int) -> Iterator[bytes]:
    while length:
        data = os.pread(fd, min(_CHUNK, length), start) or bytes(min(_CHUNK, length))
        start, length = start + len(data), length - len(data)
        yield data


def changes(directory: str, below: Union, over: Sequence[str] = ()) -> Iterator[Change]:
    """What an upper directory, with those it stands on (`over`, top first), changes on the layers `below`, as `docker diff` shows it; in
    path order.

    A directory that was only copied up because something in it changed is modified; one that has
    no changes in it and looks as it did below is left out.
    """
    pending: list[tuple[bytes, Entry, os.stat_result]] = []
    hidden: list[bytes] = []
    for found in walk_uppers([directory, *over]):
        path = found.path
        while hidden and not path.startswith(hidden[-1]):
            hidden.pop()
        pending = [item for item in pending if path.startswith(item[0] + b"/")]
        hit = None if hidden else below.lookup(path)
        if found.whiteout:
            if hit is None:
                continue
            kind = "D"
        else:
            kind = "A" if hit is None else "M"
        is_directory = stat.S_ISDIR(found.status.st_mode)
        if is_directory and not hidden and (hit is None or not hit[1].directory or found.opaque):
            hidden.append(path + b"/")
        if is_directory and hit is not None and hit[1].directory and _same(hit[1], found.status):
            pending.append((path, hit[1], found.status))
            continue
        for held, _, _ in pending:
            yield b"/" + held, "M"
        pending = []
        yield b"/" + path, kind


def _same(entry: Entry, status: os.stat_result) -> bool:
    return (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
