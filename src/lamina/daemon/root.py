"""The data root: its version file and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os

from lamina.content.reserve import Reserve
from lamina.errors import Conflict, InvalidArgument, Unsupported

VERSION = 1


class RootHeld(Conflict):
    """Another process holds the data root."""


class RootTooNew(Unsupported):
    """A newer Lamina wrote the data root."""


class RootLock:
    """The claim on a data root; it ends with `close`, or with the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Let others have it. Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def claim(root: str, what: str) -> RootLock:
    """Make `root` where it is not there, and claim it for this process; `what` is "daemon" or "library".

    Raises:
        RootHeld: it names the process that holds it.
        RootTooNew: it stays untouched.
        InvalidArgument: `root` is not a directory one can write to.
    """
    try:
        os.makedirs(root, mode=0o710, exist_ok=True)
        fd = os.open(f"{root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "an engine needs root's rights" if isinstance(error, PermissionError) else ""
        raise InvalidArgument(f"data root {root} cannot be used: {(error.strerror or '').lower()}", hint=hint)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RootHeld(_held_by(root, fd)) from None
        check_version(root)
        Reserve(f"{root}/reserve").give_up()  # whoever has nothing running can remove nothing
        # Images hold set-user-ID programs that the host's users must not reach (CVE-2021-41091).
        os.chmod(root, os.stat(root).st_mode & 0o770)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "what": what}).encode() + b"\n", 0)
    except BaseException:
        os.close(fd)
        raise
    return RootLock(fd)


def _held_by(root: str, fd: int) -> str:
    try:
        holder = json.loads(os.pread(fd, 4096, 0))
        kind = "a daemon" if holder["what"] == "daemon" else "another program"
        return f"data root {root} is held by {kind} (pid {int(holder['pid'])})"
    except (ValueError, KeyError, TypeError):
        return f"data root {root} is held by another process"


def check_version(root: str) -> None:
    """Write the version file of a new root; refuse a newer one.

    Raises:
        RootTooNew: nothing was written.
    """
    path = f"{root}/version"
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(4096))["version"]
        if not isinstance(found, int):
            raise ValueError
    except FileNotFoundError:
        _write_version(path)
        return
    except (ValueError, KeyError, TypeError):
        raise RootTooNew(f"the version file of data root {root} cannot be read", hint=f'it should hold {{"version": {VERSION}}}')
    if found > VERSION:
        raise RootTooNew(f"data root {root} has version {found}, this Lamina knows {VERSION}", hint="use the Lamina that wrote it")


def _write_version(path: str) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(json.dumps({"version": VERSION}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
