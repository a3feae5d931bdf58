"""Running a bundle's hooks (runtime-spec config.md "POSIX-platform Hooks"): programs that read the container's state from standard input.

A hook is (path, arguments, environment, seconds): no other variables, no descriptor of ours but standard output and error; where it
takes longer than `seconds` it is killed and has failed, 0 waits for ever. Where and as whom it runs is the caller's place: the host, or
(`init`) the container's namespaces.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os
import select

from lamina.linux import channel, namespace, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Hook = Sequence[Any]


class HookFailed(OSError):
    """A hook could not be executed, failed, or took too long."""


def run(entries: Sequence[Hook], state: bytes) -> None:
    """One after the other, in their order; the first that fails ends it.

    Raises:
        HookFailed: says which, and how.
    """
    for entry in entries:
        _run(entry, state)


def run_all(entries: Sequence[Hook], state: bytes) -> list[str]:
    """All of them, whatever fails; what did."""
    failed = []
    for entry in entries:
        try:
            _run(entry, state)
        except OSError as error:
            failed.append(str(error.strerror))
    return failed


def told(about: Mapping[str, Any], status: str, pid: int = 0) -> bytes:
    """runtime-spec runtime.md "State", of a container in this status."""
    return channel.encode({**about, "status": status, "pid": pid})


def _run(entry: Hook, state: bytes) -> None:
    path, arguments, environment, seconds = entry
    # In memory, not a pipe: a hook that never reads holds nobody up, and one that closes it early breaks nothing.
    fd = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        channel.write_all(fd, state)
        os.lseek(fd, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(fd, 0)
                _execute(path, arguments, environment)
            finally:
                os._exit(127)
    finally:
        os.close(fd)
    _wait(path, pid, seconds)


def _execute(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    # A start that is given up is so with its hooks.
    prctl.die_with_parent()
    namespace.close_on_exec_from(3)
    os.execve(path, list(arguments), dict(environment))


def _wait(path: str, pid: int, seconds: float) -> None:
    late = bool(seconds) and not _ends(pid, seconds)
    if late:
        os.kill(pid, _signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if late:
        raise HookFailed(errno.ETIMEDOUT, f"hook {path} took longer than {seconds} seconds")
    if code:
        raise HookFailed(errno.ECANCELED, f"hook {path} failed with code {code}")


def _ends(pid: int, seconds: float) -> bool:
    """Whether a child ends within this time."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)
