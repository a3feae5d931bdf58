"""The data root: whose it is, and by which version of the store it was written."""

from __future__ import annotations

import fcntl
import os

import msgspec

from lamina.content.files import write_file
from lamina.errors import Conflict, Corrupt, Unsupported

VERSION = 1


class RootHeld(Conflict):
    """Another process holds the data root."""


class RootLock:
    """The lock on a data root, held until `close` or until this process ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Let go; repeating does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_root(root: str, what: str) -> RootLock:
    """Hold `root` as `what` ("daemon" or "library"); its content tells others who does.

    Raises:
        RootHeld: says by whom.
    """
    fd = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 200, 0).decode(errors="replace").split()
        os.close(fd)
        who = f"a {holder[1]} (process {holder[0]})" if len(holder) == 2 else "another process"
        hint = "use its socket, or stop it first" if holder[1:] == ["daemon"] else ""
        raise RootHeld(f"the data root {root} is held by {who}", hint=hint) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()} {what}\n".encode(), 0)
    return RootLock(fd)


def check_version(root: str) -> None:
    """See that this version can use `root`, and mark a new one. Hold the lock.

    Raises:
        Unsupported: it was written by a newer version.
        Corrupt: the version file is none.
    """
    path = os.path.join(root, "version")
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(1000))["version"]
    except FileNotFoundError:
        write_file(path, f'{{"version": {VERSION}}}\n'.encode(), sync=True)
        return
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        raise Corrupt(f"the version file {path} cannot be read") from None
    if not isinstance(found, int) or found > VERSION:
        raise Unsupported(f"the data root {root} is of version {found}, newer than the {VERSION} known here", hint="use a newer lamina")
