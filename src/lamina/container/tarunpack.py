"""Worker side: a tar extracted below a directory of a root that is not trusted, nor is the tar.

Every parent directory is opened with openat2(RESOLVE_IN_ROOT), so symlinks, whether they were there or came with the tar, mean what
they mean inside the container; the last step of each entry is a call relative to that descriptor which follows no link.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, BinaryIO, cast

from lamina.container.refusals import BadArchive, CannotOverwrite, PathBusy, ReadOnlyPath
from lamina.layer.compression import detect, inflater
from lamina.linux.openat2 import open_in_root

_CHUNK = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TIME_LIMIT = (1 << 62) - 1
_SENDERS_FAULT = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.EEXIST, errno.EPERM, errno.EINVAL)
)


@dataclass(slots=True)
class Unpacker:
    """Extracts into `base` (absolute, inside the root that descriptor `root` is of). `owner`, if given, owns everything. `first` is the host's
    id that is 0 inside."""

    root: int
    base: str
    strict: bool = False
    owner: tuple[int, int] | None = None
    first: int = 0
    _times: list[tuple[str, int]] = field(default_factory=list)
    _last: tuple[str, int] | None = None
    """The directory of the last entry, and a descriptor of it."""

    def extract(self, source: int) -> None:
        """Read the tar from a descriptor to its end.

        Raises:
            BadArchive: it is no tar, or tries to leave its root; entries before that were written.
            CannotOverwrite: `strict`, and a directory would take the place of something else or the other way round.
            ReadOnlyPath, PathBusy: an entry lies in a read-only mount, or a mount would have to be replaced.
        """
        stream = Inflated(source)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", bufsize=_CHUNK) as archive:
                for member in archive:
                    with _sender_blamed(member.name):
                        self._entry(archive, member)
            stream.drain()
        except (tarfile.TarError, EOFError) as error:
            raise BadArchive(f"Error processing tar file: {error}") from None
        finally:
            self._forget_parent()
        for path, moment in reversed(self._times):
            self._set_directory_time(path, moment)

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        relative = clean(member.name)
        if relative == ".":
            return
        if member.islnk() and clean(member.linkname) == relative:
            raise BadArchive(f'"{member.name}" is a hard link to itself')
        parent = self._parent(relative)
        name = posixpath.basename(relative)
        if self._make_room(parent, name, member):
            self._make(archive, member, parent, name)
        if not member.islnk():
            self._dress(parent, name, member)
        if not member.isreg():  # what it puts there may lie on the way to the next entry's directory
            self._forget_parent()
        if member.isdir():
            self._times.append((relative, _mtime_ns(member)))

    def _parent(self, relative: str) -> int:
        """The directory that holds the entry, made where it is missing; kept for the next entry."""
        directory = posixpath.dirname(relative)
        if self._last is None or self._last[0] != directory:
            self._forget_parent()
            self._last = directory, self._opened_parent(relative)
        return self._last[1]

    def _forget_parent(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def _opened_parent(self, relative: str) -> int:
        path = posixpath.join(self.base, posixpath.dirname(relative))
        try:
            return open_in_root(self.root, path, _DIRECTORY)
        except FileNotFoundError:
            pass
        current = open_in_root(self.root, self.base, _DIRECTORY)
        walked = self.base
        for part in posixpath.dirname(relative).split("/"):
            try:
                os.mkdir(part, 0o755, dir_fd=current)
            except FileExistsError:
                pass
            os.close(current)
            walked = posixpath.join(walked, part)
            current = open_in_root(self.root, walked, _DIRECTORY)
        return current

    def _make_room(self, parent: int, name: str, member: tarfile.TarInfo) -> bool:
        """Remove what is in the way; False where a directory is there already and may stay."""
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return True
        is_directory = stat.S_ISDIR(there.st_mode)
        if is_directory and member.isdir():
            return False
        if self.strict and is_directory:
            raise CannotOverwrite(f'cannot overwrite directory "{name}" with non-directory "{self.base}"')
        if self.strict and member.isdir():
            raise CannotOverwrite(f'cannot overwrite non-directory "{name}" with directory "{self.base}"')
        if is_directory:
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        return True

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=parent)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._link(member, parent, name)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        else:
            self._write_file(archive, member, parent, name)

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = clean(member.linkname)
        directory = open_in_root(self.root, posixpath.join(self.base, posixpath.dirname(target)), _DIRECTORY)
        try:
            os.link(posixpath.basename(target), name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _write_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        with open(fd, "wb", buffering=0) as file:
            if member.issparse():
                _copy_runs(cast(BinaryIO, archive.fileobj), member, file)
            elif (content := archive.extractfile(member)) is not None:
                shutil.copyfileobj(content, file, _CHUNK)

    def _dress(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        """Owner, mode (after it: chown clears the set-id bits), xattrs, times."""
        uid, gid = self.owner or (member.uid, member.gid)
        os.chown(name, self.first + uid, self.first + gid, dir_fd=parent, follow_symlinks=False)
        if not member.issym():
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                path = f"/proc/self/fd/{fd}"
                os.chmod(path, stat.S_IMODE(member.mode))
                for key, value in _xattrs(member):
                    _set_xattr(path, key, value)
            finally:
                os.close(fd)
        moment = _mtime_ns(member)
        os.utime(name, ns=(moment, moment), dir_fd=parent, follow_symlinks=False)

    def _set_directory_time(self, relative: str, moment: int) -> None:
        """Last of all, since every entry made in a directory changes its time."""
        try:
            fd = open_in_root(self.root, posixpath.join(self.base, relative), _DIRECTORY)
        except OSError:
            return
        try:
            os.utime(fd, ns=(moment, moment))
        finally:
            os.close(fd)


def _copy_runs(stream: BinaryIO, member: tarfile.TarInfo, file: BinaryIO) -> None:
    """What is stored of a sparse file, each run at its place: what lies between stays a hole."""
    runs: list[tuple[int, int]] = cast(Any, member).sparse
    stream.seek(member.offset_data)
    for start, length in runs:
        file.seek(start)
        left = length
        while left:
            data = stream.read(min(left, _CHUNK))
            if not data:
                raise EOFError("unexpected end of data")
            file.write(data)
            left -= len(data)
    file.truncate(member.size)


class Inflated:
    """The bytes of a descriptor, decompressed if they are gzip or zstd, as a file to read from."""

    def __init__(self, source: int) -> None:
        self._source, self._ready = source, b""
        self._chunks = self._read_all()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all of them if negative); b"" at the end."""
        while size < 0 or len(self._ready) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._ready += chunk
        taken, self._ready = (self._ready, b"") if size < 0 else (self._ready[:size], self._ready[size:])
        return taken

    def _read_all(self) -> Iterator[bytes]:
        head = b""
        while len(head) < 512 and (data := os.read(self._source, 512 - len(head))):
            head += data
        stream = inflater(detect(head))
        yield from stream.feed(head)
        while data := os.read(self._source, _CHUNK):
            yield from stream.feed(data)
        stream.finish()

    def drain(self) -> None:
        """Read what follows the archive: whoever writes it is not cut off, and a damaged end is noticed."""
        for _ in self._chunks:
            pass


@contextmanager
def _sender_blamed(name: str) -> Iterator[None]:
    """What the system refuses because of what the archive says, as an error that names the entry."""
    try:
        yield
    except OSError as error:
        said = f'cannot extract "{name[:200]}": {(error.strerror or str(error)).lower()}'
        if error.errno == errno.EROFS:
            raise ReadOnlyPath(said) from None
        if error.errno == errno.EBUSY:
            raise PathBusy(said) from None
        if error.errno in _SENDERS_FAULT:
            raise BadArchive(said) from None
        raise
    except (OverflowError, ValueError) as error:
        raise BadArchive(f'cannot extract "{name[:200]}": {error}') from None


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """The time to the nanosecond, which `member.mtime`, a float, does not have."""
    try:
        moment = Decimal(member.pax_headers.get("mtime", "")) * 10**9
    except InvalidOperation:
        moment = Decimal(member.mtime) * 10**9
    if not abs(moment) < _TIME_LIMIT:
        raise BadArchive(f'"{member.name[:200]}" has a time out of range')
    return int(moment)


def clean(name: str) -> str:
    """The entry's path, relative to where it is extracted.

    Raises:
        BadArchive: it would lead out.
    """
    relative = posixpath.normpath(name.lstrip("/") or ".")
    if relative == ".." or relative.startswith("../") or "\0" in relative:
        raise BadArchive(f'"{name[:200]}" is outside of the directory that is extracted to')
    return relative


def _xattrs(member: tarfile.TarInfo) -> Iterator[tuple[str, bytes]]:
    for key, value in member.pax_headers.items():
        if key.startswith("SCHILY.xattr.") and not key.startswith("SCHILY.xattr.trusted."):
            yield key.removeprefix("SCHILY.xattr."), str(value).encode("utf-8", "surrogateescape")


def _set_xattr(path: str, key: str, value: bytes) -> None:
    try:
        os.setxattr(path, key, value)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
