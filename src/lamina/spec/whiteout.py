"""Whiteouts as names in a layer's tar (image-spec layer.md "Whiteouts"), on bytes: names in tars need not be text."""

from __future__ import annotations

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."


def hidden(name: bytes) -> bytes | None:
    """What the entry called `name` (a last component) hides below it; None if it is not a whiteout of one name."""
    if not name.startswith(PREFIX) or name.startswith(_AUFS):
        return None
    target = name[len(PREFIX) :]
    # A whiteout of "", "." or ".." would name the directory itself or one outside of it.
    return None if target in (b"", b".", b"..") else target


def is_opaque(name: bytes) -> bool:
    """Whether `name` marks its directory opaque: everything that lower layers have in it is hidden."""
    return name == OPAQUE


def is_metadata(name: bytes) -> bool:
    """Whether `name` is one that aufs kept for itself (`.wh..wh.plnk`, `.wh..wh.aufs`): never part of the file system."""
    return name.startswith(_AUFS) and name != OPAQUE


def whiteout(name: bytes) -> bytes:
    """The name of the entry that hides `name`."""
    return PREFIX + name
