"""Mounting out of the host's sight, for what a kernel does only with mounts that are attached somewhere."""

from __future__ import annotations

import errno
import os

from lamina.linux import channel, mount
from lamina.linux.namespace import CLONE_NEWNS, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def apart(make: Callable[[], Sequence[int]]) -> list[int]:
    """The descriptors that `make` returns, called by a forked child in a mount namespace of its own: only for processes with one thread.

    Raises:
        OSError: what `make` raised, or the namespace could not be made.
    """
    mine, theirs = channel.pair()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNS)
            mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)
            theirs.send({}, list(make()))
        except OSError as error:
            theirs.send({"errno": error.errno or errno.EIO, "message": error.strerror or ""})
        finally:
            os._exit(0)
    theirs.close()
    try:
        answer, fds = mine.recv()
    finally:
        mine.close()
        os.waitpid(pid, 0)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["message"])
    return fds
