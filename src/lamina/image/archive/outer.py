"""The tar around an image: a few members, read one header at a time so that their bytes can go elsewhere.

What is inside a layer's tar is not this file's: only ustar, GNU long names and pax paths and sizes occur out here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lamina.image.archive.source import Source
from lamina.image.model import InvalidArchive

BLOCK = 512
_ZERO = bytes(BLOCK)
_MEMBERS_LIMIT = 100_000
_EXTENSION_LIMIT = 1 << 20
_SIZE_LIMIT = 1 << 50
_LINKS = {b"1": "hardlink", b"2": "symlink"}
_FILES = (b"0", b"\0", b"7")


@dataclass(frozen=True, slots=True)
class OuterMember:
    """One member: `kind` is file, symlink, hardlink, directory or other; `size` is bytes that follow for a file."""

    name: str
    kind: str
    size: int = 0
    target: str = ""


def members(source: Source) -> Iterator[OuterMember]:
    """The members in order. A file's bytes must have been consumed, exactly, when the next is asked for.

    Raises:
        InvalidArchive: malformed, cut, or more members than any image has.
    """
    for _ in range(_MEMBERS_LIMIT):
        member = _next(source)
        if member is None:
            return
        yield member
        # Of a last member some writers leave out what fills up its block too.
        if source.peek(1):
            source.skip(_padding(member.size))
    raise InvalidArchive(f"the archive has more than {_MEMBERS_LIMIT} members")


def _next(source: Source) -> OuterMember | None:
    names: dict[str, str] = {}
    while True:
        # Some writers leave out the two blocks of zeros at the end.
        if not source.peek(1):
            return None
        if len(source.peek(BLOCK)) < BLOCK:
            raise InvalidArchive("the archive is not a tar, or its end is cut off")
        block = source.read(BLOCK)
        if block == _ZERO:
            return None
        info = _header(block)
        if info.type in (b"x", b"L", b"K"):
            names |= _extension(info.type, _text(source, info.size))
        elif info.type == b"g":
            _text(source, info.size)
        else:
            return _member(info, names)


def is_header(block: bytes) -> bool:
    """Whether a block is a member's header, of whatever kind of tar: that of 1979 has nothing but its checksum to tell."""
    try:
        _header(block)
    except InvalidArchive:
        return False
    return True


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise InvalidArchive("the archive is not a tar, or a damaged one") from None
    if not 0 <= info.size < _SIZE_LIMIT:
        raise InvalidArchive("the archive has a member of absurd size")
    return info


def _member(info: tarfile.TarInfo, names: dict[str, str]) -> OuterMember:
    kind = "file" if info.type in _FILES else _LINKS.get(info.type, "directory" if info.type == b"5" else "other")
    size = info.size
    if "size" in names:
        if not names["size"].isascii() or not names["size"].isdigit() or int(names["size"]) >= _SIZE_LIMIT:
            raise InvalidArchive("the archive has a member of absurd size")
        size = int(names["size"])
    # A link or directory with a size has no bytes by the standard, but a reader that disagrees would see other members.
    if kind in ("symlink", "hardlink", "directory"):
        size = 0
    member = OuterMember(names.get("path", info.name), kind, size, names.get("linkpath", info.linkname))
    return replace(member, name=cleaned(member.name))


def cleaned(name: str) -> str:
    """A member's name without `./` and doubled slashes; `..` is resolved, never above the root."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _extension(kind: bytes, data: bytes) -> dict[str, str]:
    if kind in (b"L", b"K"):
        return {"path" if kind == b"L" else "linkpath": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    return dict(_pax(data))


def _pax(data: bytes) -> Iterator[tuple[str, str]]:
    at, end = 0, len(data.rstrip(b"\0"))
    while at < end:
        space = data.find(b" ", at, at + 10)
        length = data[at:space] if space > 0 else b""
        if not length.isdigit() or not len(length) < int(length) <= len(data) - at:
            raise InvalidArchive("the archive has a malformed pax header")
        key, equals, value = data[space + 1 : at + int(length)].rstrip(b"\n").partition(b"=")
        if not equals:
            raise InvalidArchive("the archive has a malformed pax header")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        at += int(length)


def _text(source: Source, size: int) -> bytes:
    if size > _EXTENSION_LIMIT:
        raise InvalidArchive("the archive has a header of absurd size")
    data = source.read(size)
    source.skip(_padding(size))
    return data


def _padding(size: int) -> int:
    return -size % BLOCK
