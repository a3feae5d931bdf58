"""Starting a program while the other threads go on (posix_spawn(3)).

`subprocess.Popen` keeps the interpreter's lock until the program is executed; with every processor taken that is milliseconds
in which no other thread of the interpreter runs. This call gives the lock away meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from collections.abc import Mapping, Sequence

_SETPGROUP = 0x02  # spawn.h
_ROOM = 1024  # bytes; both kinds of object are smaller in every C library
FIRST = 3
"""The number that the descriptor which is handed over has in the program."""

_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A program that was started: a child of this process, to be waited for. Thread-safe."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._lock = threading.Lock()
        self._status: int | None = None

    def kill(self) -> None:
        """End it, if it has not ended."""
        with self._lock:
            if self._status is None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code (minus the signal that ended it), None where it still runs after `timeout` seconds."""
        poll = select.poll()
        with self._lock:
            if self._status is not None:
                return self._status
            watched = os.dup(self._pidfd)
        try:
            poll.register(watched, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                return None
        finally:
            os.close(watched)
        return self._reap()

    def _reap(self) -> int:
        with self._lock:
            if self._status is None:
                self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                os.close(self._pidfd)
            return self._status


def start(arguments: Sequence[str], environment: Mapping[str, str], fd: int) -> Child:
    """Start the program at the path `arguments[0]` in a process group of its own, in the root directory.

    It gets `fd` as descriptor FIRST, nothing to read on standard input, and standard output and error of this process.

    Raises:
        OSError: it cannot be executed.
    """
    actions, attributes = ctypes.create_string_buffer(_ROOM), ctypes.create_string_buffer(_ROOM)
    _check(_libc.posix_spawn_file_actions_init(actions))
    _check(_libc.posix_spawnattr_init(attributes))
    try:
        _check(_libc.posix_spawn_file_actions_adddup2(actions, fd, FIRST))
        _check(_libc.posix_spawn_file_actions_addopen(actions, 0, b"/dev/null", os.O_RDONLY, 0))
        _check(_libc.posix_spawn_file_actions_addchdir_np(actions, b"/"))
        if hasattr(_libc, "posix_spawn_file_actions_addclosefrom_np"):  # glibc 2.34; ours are closed by execve anyway
            _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, FIRST + 1))
        _check(_libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETPGROUP)))
        pid = ctypes.c_int()
        path = os.fsencode(arguments[0])
        words = _strings([os.fsencode(word) for word in arguments])
        variables = _strings([os.fsencode(f"{name}={value}") for name, value in environment.items()])
        _check(_libc.posix_spawn(ctypes.byref(pid), path, actions, attributes, words, variables), arguments[0])
        return Child(pid.value)
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
        _libc.posix_spawnattr_destroy(attributes)


def _strings(values: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _check(number: int, name: str = "posix_spawn") -> None:
    """These calls return their error."""
    if number:
        raise OSError(number, os.strerror(number), name)
