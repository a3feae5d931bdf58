"""Mounting a root file system: what init does, for tests and tools in a private mount namespace."""

from __future__ import annotations

import os

from lamina.linux.mount import move_mount
from lamina.linux.overlay import mount_overlay
from lamina.snapshot.protocol import RootMount


def mount_root(root: RootMount, target: str, scratch: str = "") -> None:
    """Mount `root` at the directory `target`. Be in a private mount namespace.

    `scratch` is a directory that may be covered for a moment, where the kernel is older; empty: `target`.
    """
    lowers = [(lower.fd, lower.path) for lower in root.lowers]
    fd = mount_overlay(lowers, root.upper, root.work, scratch or target, volatile=root.volatile)
    try:
        move_mount(fd, target)
    finally:
        os.close(fd)
