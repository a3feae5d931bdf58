"""Docker's USER looked up in a container's own /etc/passwd and /etc/group, by our own parser: no NSS, no code of the image's."""

from __future__ import annotations

import os

from lamina.errors import InvalidArgument
from lamina.linux.openat2 import open_regular_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIMIT = 8 << 20
_MAX_ID = (1 << 31) - 1  # as Docker: above it somebody may count it as negative
_MAX_GROUPS = 1 << 16  # setgroups(2), one of them for the first


class UnknownUser(InvalidArgument):
    """The image's files know no such user or group."""

    exit_code = 125


class User:
    """Who a process runs as: ids, further groups, and the home directory for $HOME."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid, self.gid, self.groups, self.home = uid, gid, groups, home

    def __repr__(self) -> str:
        return f"User({self.uid}, {self.gid}, {self.groups}, {self.home!r})"


def look_up(root: int, text: str) -> User:
    """`name`, `uid`, `name:group`, `uid:gid` or nothing (root), in the root file system that the descriptor `root` is of."""
    return find(text, read_file(root, "/etc/passwd"), read_file(root, "/etc/group"))


def look_up_groups(root: int, names: Sequence[str]) -> tuple[int, ...]:
    """The ids of groups by name or number, as --group-add gives them.

    Raises:
        UnknownUser: with Docker's words.
    """
    if not names:
        return ()
    group = read_file(root, "/etc/group")
    return tuple(_group(name, group) for name in names)


def find(text: str, passwd: str, group: str) -> User:
    """See `look_up`; the files as text. A number need not be in them.

    Raises:
        UnknownUser: with Docker's words.
    """
    name, colon, group_name = (text or "0").partition(":")
    name = name or "0"
    entry = _user(name, passwd)
    if entry is None:
        if not _is_id(name):
            raise UnknownUser(f"unable to find user {name[:100]}: {_absent(name, 'passwd')}")
        entry = ("", int(name), 0, "/")
    login, uid, gid, home = entry
    if colon and group_name:
        return User(uid, _group(group_name, group), (), home)
    further = tuple(
        sorted({int(fields[2]) for fields in _entries(group, 4) if login and login in fields[3].split(",") and _is_id(fields[2])})
    )
    if len(further) >= _MAX_GROUPS:
        raise UnknownUser(f"user {name[:100]} is in {len(further)} groups: at most {_MAX_GROUPS - 1} are possible")
    return User(uid, gid, tuple(number for number in further if number != gid), home)


def _user(name: str, passwd: str) -> tuple[str, int, int, str] | None:
    """Login, uid, gid and home of the first entry with that name, or for a number of the first with that number.

    A number is never a name (CVE-2016-3697), not even one beyond what there is (CVE-2026-46680): an image may have an account of that name
    that is root.
    """
    if _is_number(name) and not _is_id(name):
        return None
    number = int(name) if _is_id(name) else None
    for fields in _entries(passwd, 6):
        if not (_is_id(fields[2]) and _is_id(fields[3])):
            continue
        if fields[0] == name if number is None else int(fields[2]) == number:
            return (fields[0], int(fields[2]), int(fields[3]), fields[5] or "/")
    return None


def _group(name: str, group: str) -> int:
    if _is_id(name):
        return int(name)
    for fields in _entries(group, 3):
        if fields[0] == name and _is_id(fields[2]) and not _is_number(name):
            return int(fields[2])
    raise UnknownUser(f"unable to find group {name[:100]}: {_absent(name, 'group')}")


def _absent(name: str, file: str) -> str:
    """Why nobody is meant: a number need not be in the file, but cannot be of any height."""
    return f"uids and gids must be in range 0-{_MAX_ID}" if _is_number(name) else f"no matching entries in {file} file"


def _entries(text: str, least: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_id(text: str) -> bool:
    return _is_number(text) and len(text) <= 10 and int(text) <= _MAX_ID


def read_file(root: int, path: str) -> str:
    """A regular file of the container, at most 8 MiB of it; empty where there is none."""
    try:
        fd = open_regular_in_root(root, path)
    except OSError:
        return ""
    try:
        parts, size = [], 0
        while size < _LIMIT and (data := os.read(fd, 1 << 20)):
            parts.append(data)
            size += len(data)
        return b"".join(parts).decode(errors="surrogateescape")
    finally:
        os.close(fd)
