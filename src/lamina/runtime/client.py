"""The daemon's side of the runtime: starts containers through the zygote, watches their monitors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.runtime.launch import Attach, Exec, Exit, Launch


class Process:
    """A running process: a container's first, or an exec. Safe to use from any thread."""

    pid: int

    def attach(self, attach: Attach) -> None:
        """Give the monitor a client's connection; it streams until either side ends."""
        raise NotImplementedError

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters; nothing without a terminal."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Send a signal to the process. Raises ProcessGone (Conflict) where it has ended."""
        raise NotImplementedError

    def pause(self) -> None:
        """Freeze the container's processes."""
        raise NotImplementedError

    def resume(self) -> None:
        """Thaw them."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """The host's pids of all processes in the container."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait at most `timeout` seconds for the end; None where it still runs then."""
        raise NotImplementedError

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call once with the exit, from the watching thread (or at once, where it has ended). The callback must not block."""
        raise NotImplementedError


class Runtime:
    """Starts, finds again and watches containers. One a process; `close` leaves containers running."""

    def __init__(self, run_directory: str, *, cache_directory: str = "") -> None:
        """`run_directory` is ROOT/run; compiled seccomp filters are kept in `cache_directory` (default: run_directory)."""
        self._run = run_directory
        self._cache = cache_directory or run_directory

    def start(self, launch: Launch, attaches: Sequence[Attach] = ()) -> Process:
        """Start a container; returns once its command was executed.

        Raises:
            CommandNotFound, CommandNotExecutable: the image's fault or the caller's.
            RuntimeFailed: anything else. Whatever is raised, nothing of the container remains.
        """
        raise NotImplementedError

    def exec(self, request: Exec, attaches: Sequence[Attach] = ()) -> Process:
        """Start one more process in a running container. Raises as `start`."""
        raise NotImplementedError

    def adopt(self, directory: str) -> Process | Exit | None:
        """Find a process again that an earlier daemon started: running, ended, or never started (None)."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop watching and end the zygote. Containers and their monitors go on."""
