"""Who owns what COPY and ADD put: `--chown` looked up in the image's own passwd and group, and `--chmod`."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lamina.builder.files import Files, resolve
from lamina.errors import InvalidArgument

_MODE = re.compile(r"0?[0-7]{1,4}\Z")
_CLAUSE = re.compile(r"[ugoa]*([-+=]([rwxXst]*|[ugo]))+\Z")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|\Z)")
_UMASK = 0o022
Permissions = Callable[[int], int]
"""From a file's mode, its kind included, to what it is to be."""
_LIMIT = 1 << 20


class InvalidOwner(InvalidArgument):
    """--chown or --chmod names what is not there, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group by number."""

    uid: int
    gid: int


def parse_mode(text: str) -> Permissions | None:
    """What --chmod does to a file's mode, None for no flag: an octal number, or as chmod(1) takes it (u+x,go=rX).

    Where a clause says not whose permissions it means, all are meant but for those of the usual umask (022), as with chmod(1).

    Raises:
        InvalidOwner: it is neither.
    """
    if not text:
        return None
    if _MODE.match(text):
        number = int(text, 8)
        return lambda mode: stat.S_IFMT(mode) | number
    if not all(_CLAUSE.match(clause) for clause in text.split(",")):
        raise InvalidOwner(
            f"invalid chmod parameter: {text[:50]!r}",
            hint="it should be octal and between 0 and 07777, or symbolic as for chmod: u+x,go=rX",
        )
    clauses = [(who, _ACTION.findall(actions)) for who, actions in map(_split, text.split(","))]
    return lambda mode: _changed(mode, clauses)


def directory_mode(text: str) -> int:
    """The mode of directories that COPY makes on the way: that of an octal --chmod, without its special bits, as with BuildKit."""
    return int(text, 8) & 0o777 if _MODE.match(text) else 0o755


def _split(clause: str) -> tuple[str, str]:
    who = clause[: len(clause) - len(clause.lstrip("ugoa"))]
    return who, clause[len(who) :]


def _changed(mode: int, clauses: list[tuple[str, list[tuple[str, str]]]]) -> int:
    for who, actions in clauses:
        mask = _mask(who)
        for operator, letters in actions:
            bits = _bits(letters, mode) & mask & ~(0 if who else _UMASK)
            if operator == "=":
                # A directory keeps set-user-ID and set-group-ID unless they are named, as with chmod(1).
                kept = 0o6000 if stat.S_ISDIR(mode) and "s" not in letters else 0
                mode = mode & ~(mask & ~kept) | bits
            else:
                mode = mode | bits if operator == "+" else mode & ~bits
    return mode


def _mask(who: str) -> int:
    """The bits that a clause can change."""
    whose = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
    found = 0
    for letter in who or "a":
        found |= whose[letter]
    return found


def _bits(letters: str, mode: int) -> int:
    """What letters mean for everybody; u, g and o are the permissions that these have now."""
    if letters in ("u", "g", "o"):
        three = mode >> {"u": 6, "g": 3, "o": 0}[letters] & 7
        return three * 0o111
    every = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
    some = 0o111 if stat.S_ISDIR(mode) or mode & 0o111 else 0
    found = 0
    for letter in letters:
        found |= some if letter == "X" else every[letter]
    return found


def resolve_owner(root: Files, text: str) -> Owner:
    """`user[:group]`, names or numbers. A number alone is the group too; a name alone brings the user's own group.

    Raises:
        InvalidOwner: the image has no such user or group.
    """
    user, colon, group = text.partition(":")
    if not user or (colon and not group):
        raise InvalidOwner(f"invalid chown string format: {text[:100]!r}")
    uid, gid = _number(user), _number(user)
    if uid is None or gid is None:
        numbers = _entry(root, b"etc/passwd", user, 2)
        if numbers is None and user == "root":
            numbers = [0, 0]  # nobody else, though the image (scratch, say) does not tell
        if numbers is None:
            raise InvalidOwner(f"unable to find user {user[:100]} in the image", hint="no matching entry in its /etc/passwd")
        uid, gid = numbers
    return Owner(uid, _group(root, group) if group else gid)


def _group(root: Files, group: str) -> int:
    number = _number(group)
    if number is not None:
        return number
    numbers = _entry(root, b"etc/group", group, 1)
    if numbers is None and group == "root":
        return 0
    if numbers is None:
        raise InvalidOwner(f"unable to find group {group[:100]} in the image", hint="no matching entry in its /etc/group")
    return numbers[0]


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    if not _in_range(text):
        raise InvalidOwner(f"owner out of range: {text[:50]}")
    return int(text)


def _in_range(digits: str) -> bool:
    return len(digits) <= 10 and int(digits) <= (1 << 32) - 2


def _entry(root: Files, path: bytes, name: str, count: int) -> list[int] | None:
    """The `count` numbers from the third field on, of the first line of that name where these are numbers of owners."""
    for line in _lines(root, path):
        fields = line.split(":")
        numbers = fields[2 : 2 + count]
        if fields[0] == name and len(numbers) == count and all(each.isascii() and each.isdigit() and _in_range(each) for each in numbers):
            return [int(each) for each in numbers]
    return None


def _lines(root: Files, path: bytes) -> Iterator[str]:
    real = resolve(root, path)
    item = root.lookup(real)
    if item is None or not item.is_file or item.size > _LIMIT:
        return
    yield from b"".join(root.read(real, item)).decode("utf-8", "replace").splitlines()
