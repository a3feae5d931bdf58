"""The layer of mount points between an image and what is written on it, as the image needs it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from lamina.linux.removing import discard_tree
from lamina.snapshot.protocol import Lower

_FOLDER = "etc"
"""The one folder of mount points that a container sees, and that nothing is mounted over."""


def fitting(init: str, lowers: Sequence[Lower]) -> str:
    """`init`, or a copy beside it, made where missing, in which /etc looks as in `lowers` (top first).

    overlayfs shows a folder as the topmost layer has it, and so it is copied up: an image's /etc would lose its owner and its mode.
    """
    for lower in lowers:
        path = f"{lower.path or f'/proc/self/fd/{lower.fd}'}/{_FOLDER}"
        try:
            alike = not stat.S_ISDIR(os.lstat(path).st_mode) or looks(path) == looks(f"{init}/{_FOLDER}")
        except FileNotFoundError:
            continue
        except OSError:  # what cannot be read of an image is told to who reads it
            return init
        return init if alike else _dressed(init, path)
    return init


def _dressed(init: str, model: str) -> str:
    key = hashlib.sha256(repr(looks(model)).encode()).hexdigest()[:16]
    path = f"{init}-{key}"
    if not os.path.isdir(path):
        made = tempfile.mkdtemp(prefix=f"{os.path.basename(path)}-", dir=os.path.dirname(path))
        try:
            shutil.copytree(init, made, symlinks=True, dirs_exist_ok=True)
            dress_like(f"{made}/{_FOLDER}", model)
            with suppress(FileExistsError):  # somebody else has made it meanwhile
                os.rename(made, path)
        finally:
            discard_tree(made)
    return path


def dress_like(path: str, model: str) -> None:
    """Give an empty directory the owner, mode, attributes and times of another, without what overlayfs has noted in that."""
    status = os.stat(model)
    uid, gid, mode, attributes = looks(model)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    for name, value in attributes.items():
        os.setxattr(path, name, value)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def looks(path: str) -> tuple[int, int, int, dict[str, bytes]]:
    """Owner, group, mode and attributes of a directory, as a container sees them."""
    status = os.stat(path)
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("trusted.")}
    return status.st_uid, status.st_gid, status.st_mode & 0o7777, attributes
