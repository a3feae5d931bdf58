"""A cap for all containers together: one sparse file with a file system, mounted over ROOT/containers.

It grows as it is used, gives back what is deleted, and stays mounted when the engine ends: containers go on in it.
"""

from __future__ import annotations

import logging
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from lamina.container.capping import make_image, mount_image, program
from lamina.content.files import disk_bytes
from lamina.errors import Conflict
from lamina.linux import mount
from lamina.worker import Workers

_IMAGE = "pool.img"
_log = logging.getLogger("lamina.daemon")


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool of a data root. Sizes are bytes."""

    root: str

    @property
    def image(self) -> str:
        """The host path of its file."""
        return f"{self.root}/{_IMAGE}"

    @property
    def size(self) -> int:
        """How much it may hold; 0: there is none."""
        try:
            return os.stat(self.image).st_size
        except FileNotFoundError:
            return 0

    def rows(self) -> list[list[str]]:
        """What `info` says of it."""
        if not self.size:
            return []
        status = os.statvfs(f"{self.root}/containers")
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        figures = (("Pool Size", self.size), ("Pool Used", used), ("Pool On Disk", disk_bytes(self.image)))
        return [[name, str(value)] for name, value in figures]


def open_pool(root: str, size: int, workers: Workers) -> Pool:
    """The pool of a root, mounted: made where `size` asks for one, and grown where it asks for more. Once made it stays.

    Raises:
        Conflict: there are containers outside of a pool.
        Unsupported, Exhausted: it cannot be made, or mounted.
    """
    pool, target = Pool(root), f"{root}/containers"
    if not pool.size and not size:
        return pool
    if not pool.size:
        if any(not name.startswith(".") for name in os.listdir(target)):
            raise Conflict("there are containers already, outside of any pool", hint="remove them before the first start with pool=")
        with suppress(FileNotFoundError):  # an engine that was killed while it made one
            os.unlink(f"{pool.image}.new")
        make_image(f"{pool.image}.new", size, workers)
        os.rename(f"{pool.image}.new", pool.image)
    if size > pool.size:
        os.truncate(pool.image, size)
    elif 0 < size < pool.size:
        _log.warning("the pool has %s bytes already and is not made smaller", pool.size)
    if not os.path.ismount(target):
        mount_image(pool.image, target)
    _grow(pool, target)
    return pool


def _grow(pool: Pool, target: str) -> None:
    """Let the file system have all of its file, if it has much less."""
    device = _device(target)
    if device is None or _file_system_size(device) + (4 << 20) > pool.size:
        return
    mount.loop_grow(device)
    if _done("resize2fs", device) or _grown_unmounted(pool, target):
        return
    _log.warning("the pool could not be grown to %s bytes: it is in use, or its file system is damaged", pool.size)


def _grown_unmounted(pool: Pool, target: str) -> bool:
    """Where the kernel does not let this process grow what is mounted (CAP_SYS_RESOURCE): without the mount, if nobody uses it."""
    try:
        mount.unmount(target)
    except OSError:
        return False
    try:
        return _done("e2fsck", "-f", "-p", pool.image, most=1) and _done("resize2fs", pool.image)
    finally:
        mount_image(pool.image, target)


def _done(name: str, *arguments: str, most: int = 0) -> bool:
    """Whether a program of e2fsprogs ended with no more than that exit code."""
    done = subprocess.run([program(name), *arguments], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return 0 <= done.returncode <= most


def _device(target: str) -> str | None:
    """The loop device that is mounted at a place."""
    number = os.stat(target).st_dev
    path = f"/dev/loop{os.minor(number)}"
    return path if os.path.exists(path) else None


def _file_system_size(device: str) -> int:
    """Bytes of the ext4 on a device, by its superblock (s_blocks_count_lo, s_log_block_size)."""
    with open(device, "rb") as file:
        file.seek(1024)
        block = file.read(1024)
    count = int.from_bytes(block[4:8], "little") | int.from_bytes(block[0x150:0x154], "little") << 32
    return count << (10 + int.from_bytes(block[24:28], "little"))
