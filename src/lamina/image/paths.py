"""Paths inside an image: cleaned, and their symbolic links followed as a chroot would. Pure but for look-ups."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lamina.errors import InvalidArgument
from lamina.layer.union import Union

_LINKS_LIMIT = 40


def clean(path: str) -> bytes:
    """An absolute or relative path as the indexes spell it: no slash in front, `..` never above the root; the root is empty."""
    return _joined(b"", os.fsencode(path))


def parents(path: bytes) -> Iterator[bytes]:
    """The directories on the way to a clean path, the root first, without the path itself."""
    if path:
        yield b""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)


def follow(union: Union, path: bytes, *, last: bool) -> bytes:
    """The clean path that `path` leads to, symbolic links on the way followed; with `last`, at its end too.

    Raises:
        InvalidArgument: more than 40 links.
    """
    for _ in range(_LINKS_LIMIT):
        target = _first_link(union, path, last=last)
        if target is None:
            return path
        path = target
    raise InvalidArgument(f"too many symbolic links: /{os.fsdecode(path)[:300]}")


def _first_link(union: Union, path: bytes, *, last: bool) -> bytes | None:
    """`path` with its first symbolic link replaced by where it leads; None where there is none."""
    steps = [*parents(path), path][1:] if last else [*parents(path)][1:]
    for step in steps:
        found = union.lookup(step)
        if found is None:
            return None
        if found[1].type == "symlink":
            rest = path[len(step) :].lstrip(b"/")
            link = found[1].link
            base = b"" if link.startswith(b"/") else step.rpartition(b"/")[0]
            return _joined(base, link + b"/" + rest)
    return None


def _joined(base: bytes, path: bytes) -> bytes:
    parts = base.split(b"/") if base else []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)
