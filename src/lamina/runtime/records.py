"""What a monitor leaves in the container's directory: where it listens, what it started, how that ended."""

from __future__ import annotations

import os

from lamina.linux import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SOCKET, EXIT_RECORD, RUN_RECORD = "monitor.sock", "exit.json", "monitor.json"


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names one process. 0 where there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(fd, 4096).rpartition(b")")[2].split()[19])
        finally:
            os.close(fd)
    except (OSError, IndexError, ValueError):
        return 0


def write_record(directory: str, name: str, record: Mapping[str, Any], *, durable: bool) -> None:
    """Write a record beside its place and rename it; `durable`: on disk before this returns."""
    fd = os.open(f"{directory}/{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        channel.write_all(fd, channel.encode({"v": channel.VERSION, **record}))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{directory}/{name}.new", f"{directory}/{name}")


def forget(directory: str, name: str) -> None:
    """Remove one, where it is there."""
    try:
        os.unlink(f"{directory}/{name}")
    except OSError:
        pass
