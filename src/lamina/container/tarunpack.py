"""Worker side: a tar extracted below a directory of a root that is not trusted, nor is the tar.

Every parent directory is opened with openat2(RESOLVE_IN_ROOT), so symlinks, whether they were there or came with the tar, mean what
they mean inside the container; the last step of each entry is a call relative to that descriptor which follows no link.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lamina.container.refusals import BadArchive, CannotOverwrite, PathBusy, ReadOnlyPath
from lamina.container.reuse import Looks, Reuse
from lamina.container.tarread import Archive
from lamina.errors import Exhausted
from lamina.layer.errors import InvalidArchive
from lamina.layer.tar.member import HARDLINK, Member
from lamina.linux.openat2 import RESOLVE_NO_XDEV, open_in_root, openat2
from lamina.linux.removing import remove_tree

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_TIME_LIMIT = 62_135_596_800 * 10**9
"""Nanoseconds before and after 1970, from the year 1 to 3938: what can be told of a file afterwards."""
_SENDERS_FAULT = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.EEXIST, errno.EPERM, errno.EINVAL)
)


@dataclass(slots=True)
class Unpacker:
    """Extracts into `base` (absolute, inside the root that descriptor `root` is of). `owner`, if given, owns everything. `first` is the
    host's id that is 0 inside. `reuse`, if given, finds files that may be written over."""

    root: int
    base: str
    strict: bool = False
    owner: tuple[int, int] | None = None
    first: int = 0
    reuse: Reuse | None = None
    _times: list[tuple[str, int]] = field(default_factory=list)
    _last: tuple[str, int, bool] | None = None
    """The directory of the last entry, a descriptor of it, and whether it gives its group to what is made there."""

    def extract(self, source: Iterator[bytes], copy: Callable[[int, int], int] | None = None) -> None:
        """Read the tar, as it comes in pieces, to its end. For `copy` see Archive.

        Raises:
            BadArchive: it is not a tar, or tries to leave its root; entries before that may have been written.
            CannotOverwrite: `strict`, and a directory would take the place of something else or the other way round.
            ReadOnlyPath, PathBusy: an entry lies in a read-only mount, or a mount would have to be replaced.
            Exhausted: there is no space left where an entry lies.
        """
        archive = Archive(source, copy)
        try:
            for member in archive:
                try:
                    self._entry(archive, member)
                except (OSError, OverflowError, ValueError) as error:
                    raise _blamed(member.path, error) from None
        except InvalidArchive as error:
            raise BadArchive(f"Error processing tar file: {error.message}") from None
        finally:
            self._forget_parent()
        for path, moment in reversed(self._times):
            self._set_directory_time(path, moment)

    def _entry(self, archive: Archive, member: Member) -> None:
        relative = clean(os.fsdecode(member.path))
        if relative == ".":
            return
        kind = stat.S_IFMT(member.mode)
        if kind == HARDLINK and clean(os.fsdecode(member.link)) == relative:
            raise BadArchive(f'"{_shown(member.path)}" is a hard link to itself')
        directory, _, name = relative.rpartition("/")
        parent, gives_group = self._parent(directory, relative)
        if kind == stat.S_IFREG:
            self._write_file(archive, member, parent, name, early=not gives_group)
            return
        if self._make_room(parent, name, member):
            self._make(member, parent, name)
        if kind != HARDLINK:
            self._dress(parent, name, member)
        self._forget_parent()  # what was put there may lie on the way to the next entry's directory
        if kind == stat.S_IFDIR:
            self._times.append((relative, _moment(member)))

    def _parent(self, directory: str, relative: str) -> tuple[int, bool]:
        """The directory that holds the entry, made where it is missing, and whether it has the set-group-ID bit; kept for the next
        entry."""
        if self._last is None or self._last[0] != directory:
            self._forget_parent()
            fd = self._opened_parent(relative)
            self._last = directory, fd, bool(os.fstat(fd).st_mode & stat.S_ISGID)
        return self._last[1], self._last[2]

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
            finally:
                os.close(current)
            walked = posixpath.join(walked, part)
            current = open_in_root(self.root, walked, _DIRECTORY)
        return current

    def _make_room(self, parent: int, name: str, member: Member) -> bool:
        """Remove what is in the way; False where a directory is there already and may stay."""
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return True
        is_directory, wanted = stat.S_ISDIR(there.st_mode), member.type == stat.S_IFDIR
        if is_directory and wanted:
            return False
        if self.strict and is_directory:
            raise CannotOverwrite(f'cannot overwrite directory "{name}" with non-directory "{self.base}"')
        if self.strict and wanted:
            raise CannotOverwrite(f'cannot overwrite non-directory "{name}" with directory "{self.base}"')
        if is_directory:
            remove_tree(name, dir_fd=parent, opened=_unless_mounted)
        else:
            os.close(_unless_mounted(name, _PLACE, dir_fd=parent))
            os.unlink(name, dir_fd=parent)
        return True

    def _make(self, member: Member, parent: int, name: str) -> None:
        kind = member.type
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=parent)
        elif kind == stat.S_IFLNK:
            os.symlink(os.fsdecode(member.link), name, dir_fd=parent)
        elif kind == HARDLINK:
            self._link(member, parent, name)
        elif kind == stat.S_IFIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            os.mknod(name, kind | 0o600, os.makedev(member.major, member.minor), dir_fd=parent)

    def _link(self, member: Member, parent: int, name: str) -> None:
        target = clean(os.fsdecode(member.link))
        directory = open_in_root(self.root, posixpath.join(self.base, posixpath.dirname(target)), _DIRECTORY)
        try:
            os.link(posixpath.basename(target), name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _write_file(self, archive: Archive, member: Member, parent: int, name: str, *, early: bool) -> None:
        """A regular file: its content, and then by the same descriptor owner, mode, xattrs, times.

        What root owns may have its mode from the beginning if `early`; nobody else's, since it is root's group's until its owner is set.
        """
        moment, bits = _moment(member), stat.S_IMODE(member.mode)
        uid, gid = self.owner or (member.uid, member.gid)
        early = early and uid == gid == 0 and bits <= _PERMISSIONS
        at_first = bits if early else 0o600
        try:
            fd = os.open(name, _NEW_FILE, at_first, dir_fd=parent)
        except FileExistsError:
            if self._overwritten(archive, member, parent, name, Looks(self.first + uid, self.first + gid, bits)):
                return
            self._make_room(parent, name, member)
            fd = os.open(name, _NEW_FILE, at_first, dir_fd=parent)
        try:
            if member.extents is None:
                archive.write(fd, member, member.offset, member.size)
            else:
                for start, length, offset in member.extents:
                    os.lseek(fd, start, os.SEEK_SET)
                    archive.write(fd, member, offset, length)
                os.ftruncate(fd, member.size)
            if not early or not self._is(fd, bits):
                os.fchown(fd, self.first + uid, self.first + gid)
                os.fchmod(fd, bits)  # after chown, which clears the set-id bits
            if member.xattrs:
                for key, value in _xattrs(member):
                    _set_xattr(fd, key, value)
            os.utime(fd, ns=(moment, moment))
        finally:
            os.close(fd)

    def _overwritten(self, archive: Archive, member: Member, parent: int, name: str, looks: Looks) -> bool:
        """Write a regular file's content over that of the file there; False, and nothing is done, where that file has to be replaced.

        A content that ends early leaves what came of it, as a new file would.
        """
        if self.reuse is None or member.extents is not None or member.xattrs:
            return False
        fd = self.reuse.opened(parent, name, looks)
        if fd is None:
            return False
        try:
            try:
                archive.write(fd, member, member.offset, member.size)
            finally:
                os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
            os.utime(fd, ns=(_moment(member), _moment(member)))
        finally:
            os.close(fd)
        return True

    def _is(self, fd: int, bits: int) -> bool:
        """Whether a file is root's and has this mode: the umask, a default ACL or how the file system is mounted may be against it."""
        found = os.fstat(fd)
        return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (self.first, self.first, bits)

    def _dress(self, parent: int, name: str, member: Member) -> None:
        """Owner, mode, xattrs, times of what is not a regular file."""
        uid, gid = self.owner or (member.uid, member.gid)
        os.chown(name, self.first + uid, self.first + gid, dir_fd=parent, follow_symlinks=False)
        if member.type != stat.S_IFLNK:
            fd = os.open(name, _PLACE, dir_fd=parent)
            try:
                path = f"/proc/self/fd/{fd}"
                os.chmod(path, stat.S_IMODE(member.mode))
                for key, value in _xattrs(member):
                    _set_xattr(path, key, value)
            finally:
                os.close(fd)
        moment = _moment(member)
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


def _unless_mounted(name: str, flags: int, *, dir_fd: int) -> int:
    """Open a name that is to go. Raises OSError: as open(2); EBUSY where something is mounted on it.

    Removing what another mount namespace has something mounted on takes the mount away there, without a word (rmdir(2), unlink(2)).
    """
    try:
        return openat2(dir_fd, name, flags, RESOLVE_NO_XDEV)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from None
        raise


def _blamed(path: bytes, error: OSError | OverflowError | ValueError) -> Exception:
    """What the system refuses because of what the archive says, as an error that names the entry; any other as it is."""
    if not isinstance(error, OSError):
        return BadArchive(f'cannot extract "{_shown(path)}": {error}')
    said = f'cannot extract "{_shown(path)}": {(error.strerror or str(error)).lower()}'
    if error.errno == errno.EROFS:
        return ReadOnlyPath(said)
    if error.errno == errno.EBUSY:
        return PathBusy(said)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of the data root's disk, of the container's cap, or of what is mounted there
        return Exhausted(said)
    return BadArchive(said) if error.errno in _SENDERS_FAULT else error


def _moment(member: Member) -> int:
    """The time in nanoseconds since 1970."""
    if not abs(member.mtime_ns) < _TIME_LIMIT:
        raise BadArchive(f'"{_shown(member.path)}" has a time out of range')
    return member.mtime_ns


def _shown(path: bytes) -> str:
    return path[:200].decode("utf-8", "backslashreplace")


def clean(name: str) -> str:
    """The entry's path, relative to where it is extracted.

    Raises:
        BadArchive: it would lead out.
    """
    relative = posixpath.normpath(name.lstrip("/") or ".")
    if relative == ".." or relative.startswith("../") or "\0" in relative:
        raise BadArchive(f'"{name[:200]}" is outside of the directory that is extracted to')
    return relative


def _xattrs(member: Member) -> Iterator[tuple[str, bytes]]:
    return ((os.fsdecode(key), value) for key, value in member.xattrs if not key.startswith(b"trusted."))


def _set_xattr(file: str | int, key: str, value: bytes) -> None:
    try:
        os.setxattr(file, key, value)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
