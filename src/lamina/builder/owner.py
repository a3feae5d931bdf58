"""Who owns what COPY and ADD put: `--chown` looked up in the image's own passwd and group, and `--chmod`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lamina.builder.files import Files, resolve
from lamina.errors import InvalidArgument

_MODE = re.compile(r"0?[0-7]{1,4}\Z")
_LIMIT = 1 << 20


class InvalidOwner(InvalidArgument):
    """--chown or --chmod names what is not there, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group by number."""

    uid: int
    gid: int


def parse_mode(text: str) -> int | None:
    """Permissions of --chmod, None for no flag.

    Raises:
        InvalidOwner: it is no octal number.
    """
    if not text:
        return None
    if not _MODE.match(text):
        raise InvalidOwner(f"invalid chmod parameter: {text[:50]!r}", hint="it should be octal and between 0 and 07777")
    return int(text, 8)


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
        fields = _entry(root, b"etc/passwd", user)
        if fields is None or len(fields) < 4:
            raise InvalidOwner(f"unable to find user {user[:100]} in the image", hint="no matching entry in its /etc/passwd")
        uid, gid = int(fields[2]), int(fields[3])
    return Owner(uid, _group(root, group) if group else gid)


def _group(root: Files, group: str) -> int:
    number = _number(group)
    if number is not None:
        return number
    fields = _entry(root, b"etc/group", group)
    if fields is None:
        raise InvalidOwner(f"unable to find group {group[:100]} in the image", hint="no matching entry in its /etc/group")
    return int(fields[2])


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > (1 << 32) - 2:
        raise InvalidOwner(f"owner out of range: {text[:50]}")
    return int(text)


def _entry(root: Files, path: bytes, name: str) -> list[str] | None:
    for line in _lines(root, path):
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and all(field.isascii() and field.isdigit() for field in fields[2:3]):
            return fields
    return None


def _lines(root: Files, path: bytes) -> Iterator[str]:
    real = resolve(root, path)
    item = root.lookup(real)
    if item is None or not item.is_file or item.size > _LIMIT:
        return
    yield from b"".join(root.read(real, item)).decode("utf-8", "replace").splitlines()
