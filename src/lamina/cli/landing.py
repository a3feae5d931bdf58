"""Where `cp` out of a container puts what comes: which name it gets, and that no path leads out of the target."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from lamina.cli.unpacking import Unpacking, moment
from lamina.errors import InvalidArgument, NotFound


def land(archive: Unpacking, base: str, target: str, *, only_content: bool, keep_owner: bool) -> tuple[int, Sequence[str]]:
    """Unpack what the container calls `base` at `target`, as docker's cp does; bytes of content, and which devices were left out.

    Raises:
        NotFound: the directory that the target is to be in is not there.
        InvalidArgument: something there is in its way, or an entry leads out of the target.
    """
    landing = _Landing.of(target, base, only_content=only_content)
    inside = _Inside(landing.parent)
    size, times = 0, list[tuple[str, int]]()
    for member in archive:
        if landing.a_file and member.isdir():
            raise InvalidArgument("cannot copy directory to a file")
        named = landing.rename(member)
        if member.name == ".":
            continue  # the target, which is there: its owner and mode are its own
        if landing.a_directory and named and not member.isdir():
            raise NotFound(f"no such directory: {target}")
        if inside.leaves_out(member, named=named):
            continue
        if not keep_owner:
            member.uid, member.gid = os.getuid(), os.getgid()
        member.uname = member.gname = ""
        # the container's files are not trusted: no path may lead out of the target
        archive.extract(inside.checked(member), landing.parent)
        size += member.size
        if member.isdir() or member.issym():
            times.append((f"{landing.parent}/{member.name}", moment(member)))
    for path, when in times:  # what comes into a directory changes its time
        with suppress(PermissionError):  # it was there, and is somebody else's
            os.utime(path, ns=(when, when), follow_symlinks=False)
    return size, inside.left_out


@dataclass(frozen=True, slots=True)
class _Landing:
    """Entries go below `parent`, their first name replaced by `top` (empty: it stays), or left out where `only_content` goes.

    `a_file`: there is one at the target; `a_directory`: what is to be made there is one, says a slash.
    """

    parent: str
    top: str
    only_content: bool
    a_file: bool
    a_directory: bool

    @classmethod
    def of(cls, target: str, base: str, *, only_content: bool) -> _Landing:
        """See `land`, for what it raises too."""
        if os.path.islink(target):  # without a slash behind it
            target = os.path.realpath(target)
        into, a_file, slash = os.path.isdir(target), os.path.isfile(target), target.endswith("/")
        if os.path.lexists(target) and not into and not a_file:
            raise InvalidArgument(f"{target} is neither a directory nor a regular file")
        bare = target.rstrip("/")
        if into:
            parent, top = target, "" if only_content else base
        else:
            parent, top = os.path.dirname(bare) or ".", os.path.basename(bare)
        if not os.path.isdir(parent):
            raise NotFound(f"no such directory: {parent}")
        return cls(parent, top, only_content, a_file, slash and not into and not only_content)

    def rename(self, member: tarfile.TarInfo) -> bool:
        """Give the member, and what it is a hard link to, the name it has here; whether it is what was to be copied itself."""
        first, _, rest = member.name.rstrip("/").partition("/")  # of a whole root the first is empty
        top = self.top or ("" if self.only_content else first)
        member.name = f"{top}/{rest}" if top and rest else top or rest or "."
        if member.islnk():
            _, _, linked = member.linkname.partition("/")
            member.linkname = "/".join(part for part in (top, linked) if part)
        return not rest


class _Inside:
    """Lets members pass that are written below `target` and nowhere else; by hand, since Python before 3.11.4 has no filters for it."""

    def __init__(self, target: str) -> None:
        self._target, self._top = target, os.path.realpath(target)
        self._sound: set[str] = set()
        self._left_out: dict[str, None] = {}

    @property
    def left_out(self) -> Sequence[str]:
        """What `leaves_out` said so of."""
        return list(self._left_out)

    def leaves_out(self, member: tarfile.TarInfo, *, named: bool) -> bool:
        """Whether it is a device, or another name of one: here it would be this machine's.

        Raises:
            InvalidArgument: it is what was `named` to be copied, not something in it.
        """
        if not (member.ischr() or member.isblk()) and not (member.islnk() and member.linkname in self._left_out):
            return False
        if named:
            raise InvalidArgument(f"cannot copy device {member.name}")
        self._left_out[member.name] = None
        return True

    def checked(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """The member. Raises InvalidArgument: it would be written elsewhere."""
        # links are copied as they are, wherever they point: nothing is written through them
        directory, _, name = member.name.rpartition("/")
        self._check_directory(member.name if name == ".." else directory, member)
        if member.islnk():
            self._check_directory(member.linkname.rpartition("/")[0], member)
        if member.issym() or member.islnk():
            self._sound.clear()
        member.mode &= 0o7777  # as docker's cp: set-user-ID stays
        return member

    def _check_directory(self, path: str, member: tarfile.TarInfo) -> None:
        """Once for each directory: what is one stays one, unless links come."""
        if path not in self._sound:
            self._check(path, member)
            self._sound.add(path)

    def _check(self, path: str, member: tarfile.TarInfo) -> None:
        if os.path.commonpath([os.path.realpath(os.path.join(self._target, path)), self._top]) != self._top:
            raise InvalidArgument(f"{member.name} leads out of the target")
