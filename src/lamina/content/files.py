"""Small files that are read whole, and change by being written beside their place and renamed."""

from __future__ import annotations

import os
from contextlib import suppress

from lamina.content.store import full_disk
from lamina.linux.removing import remove_path


def write_file(path: str, data: bytes, *, mode: int = 0o644, sync: bool = False) -> None:
    """Make `path` hold `data`: readers see the old bytes or the new. With `sync` they are on the disk on return.

    Raises:
        DiskFull: the old bytes stand.
    """
    beside = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with full_disk(path):
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
                file.write(data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            move(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def move(path: str, place: str) -> None:
    """Rename a file to its place, over whatever stands there: damage may have left a directory."""
    try:
        os.rename(path, place)
    except IsADirectoryError:
        remove_path(place)
        os.rename(path, place)


def read_file(path: str) -> bytes | None:
    """What a small file holds; None where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


def holds(path: str, data: bytes) -> bool:
    """Whether a file is there, can be read, and holds these bytes."""
    try:
        with open(path, "rb") as file:
            return file.read() == data
    except OSError:
        return False


def listed(directory: str) -> list[str]:
    """The names in a directory; none where it is not there."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def left_over(name: str) -> bool:
    """Whether a file's name is one that `write_file` gives to what is not finished."""
    return name.endswith(".tmp")


def disk_bytes(path: str) -> int:
    """Bytes that a file takes on disk; 0 where there is none."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
