"""Running processes as the daemon sees them, and the one thread that watches them all."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from lamina.errors import Conflict
from lamina.linux import channel
from lamina.linux.unread import await_reading
from lamina.runtime import usage
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.launch import Attach, Exit


class ProcessGone(Conflict):
    """The process has ended."""


class Process:
    """A running process: a container's first, or an exec. Safe to use from any thread."""

    def __init__(
        self, monitor: channel.Channel, pid: int, pidfd: int, cgroup: Cgroup | None, warnings: tuple[str, ...] = (), *, first: bool = True
    ) -> None:
        """Take over the channel to its monitor and the pidfd. `first`: it is a container's first process, its control group ends with
        it."""
        self.pid = pid
        self._first = first
        self.warnings = warnings
        self._monitor = monitor
        self._pidfd = pidfd
        self._cgroup = cgroup
        self._lock = threading.Condition()
        self._exit: Exit | None = None
        self._callbacks: list[Callable[[Exit], None]] = []
        self._listeners: dict[str, list[Callable[[], None]]] = {"detached": [], "oom": []}
        self._missed = dict.fromkeys(self._listeners, 0)

    def attach(self, attach: Attach) -> None:
        """Give the monitor a client's connection; it streams until either side ends. Raises ProcessGone."""
        await_reading(attach.fd)
        self._send({"op": "attach", **attach_options(attach)}, [attach.fd])

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters; nothing without a terminal. Raises ProcessGone."""
        self._send({"op": "resize", "height": height, "width": width})

    def close_stdin(self) -> None:
        """End the process's standard input. Raises ProcessGone."""
        self._send({"op": "close_stdin"})

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        with self._lock:
            if self._exit is not None:
                raise ProcessGone(f"process {self.pid} has ended")
            try:
                self._monitor.send(message, fds or [])
            except channel.ChannelClosed:
                raise ProcessGone(f"process {self.pid} has ended") from None

    def signal(self, number: int) -> None:
        """Send a signal to the process. Raises ProcessGone where it has ended."""
        with self._lock:
            if self._exit is not None:
                raise ProcessGone(f"process {self.pid} has ended")
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                raise ProcessGone(f"process {self.pid} has ended") from None

    @property
    def ended(self) -> bool:
        """Whether it has ended, also where its monitor has not told that yet."""
        with self._lock:
            if self._exit is not None:
                return True
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(0))

    def pause(self) -> None:
        """Freeze the container's processes. Raises as Cgroup.freeze."""
        if self._cgroup is not None:
            self._cgroup.freeze(frozen=True)

    def resume(self) -> None:
        """Thaw them."""
        if self._cgroup is not None:
            self._cgroup.freeze(frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether they are paused."""
        return self._cgroup is not None and self._cgroup.frozen

    def pids(self) -> list[int]:
        """The host's pids of all processes in the container."""
        return self._cgroup.pids() if self._cgroup is not None else [self.pid]

    def limit(self, resources: dict[str, Any]) -> None:
        """Change OCI `linux.resources` while it runs."""
        if self._cgroup is not None:
            self._cgroup.limit(resources)

    def usage(self, machine_memory: int) -> dict[str, Any]:
        """What the container has used, see `usage.usage`; {} where there is nothing to read."""
        return usage.usage(self._cgroup, machine_memory) if self._cgroup is not None else {}

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait at most `timeout` seconds for the end; None where it still runs then."""
        with self._lock:
            self._lock.wait_for(lambda: self._exit is not None, timeout)
            return self._exit

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call once with the exit, from the watching thread (or at once, where it has ended). The callback must not block."""
        with self._lock:
            if self._exit is None:
                self._callbacks.append(callback)
                return
        callback(self._exit)

    def on_detach(self, callback: Callable[[], None]) -> None:
        """Call, from the watching thread, whenever a client presses its detach keys (at once, where one has before anybody listened)."""
        self._listen("detached", callback)

    def on_oom(self, callback: Callable[[], None]) -> None:
        """Call, from the watching thread, whenever memory ran out and the kernel killed a process of the container's; as `on_detach`."""
        self._listen("oom", callback)

    def _listen(self, event: str, callback: Callable[[], None]) -> None:
        with self._lock:
            self._listeners[event].append(callback)
            missed, self._missed[event] = self._missed[event], 0
        for _ in range(missed):
            callback()

    def _fileno(self) -> int:
        return self._monitor.fileno()

    def _hear(self) -> bool:
        """Take one message of the monitor's; whether there will be more."""
        try:
            message, fds = self._monitor.recv()
            channel.close_all(fds)
        except (channel.ChannelClosed, channel.BadMessage, OSError):
            # The kernel killed it along, or another runtime's process is left: no exit code is known either way.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._ended(lost_monitor(self._cgroup if self._first else None))
            return False
        event = str(message.get("event"))
        if event in self._listeners:
            with self._lock:
                listeners = list(self._listeners[event])
                self._missed[event] += not listeners
            for listener in listeners:
                listener()
        if event != "exit":
            return True
        self._ended(exit_of(message))
        return False

    def _ended(self, end: Exit) -> None:
        with self._lock:
            self._exit = end
            callbacks, self._callbacks = self._callbacks, []
            self._monitor.close()
            os.close(self._pidfd)
            self._lock.notify_all()
        for callback in callbacks:
            callback(end)


def attach_options(attach: Attach) -> dict[str, Any]:
    """What a monitor needs to know of an attach besides its descriptor."""
    return {
        "stdin": attach.stdin,
        "stdout": attach.stdout,
        "stderr": attach.stderr,
        "framed": attach.framed,
        "pending": attach.pending.decode("latin-1"),
        "detach_keys": attach.detach_keys.decode("latin-1"),
        "logs": attach.logs,
    }


def exit_of(record: dict[str, Any]) -> Exit:
    """An exit as a monitor tells or records it."""
    return Exit(record["code"], record["signal"], record["finished_at"], record["oom_killed"], record["error"])


def lost_monitor(cgroup: Cgroup | None) -> Exit:
    """The exit of a process whose monitor was killed: the kernel killed it along; what is left of it in `cgroup` goes."""
    if cgroup is not None:
        try:
            cgroup.remove()
        except OSError:
            pass
    return Exit(137, 9, time.time(), error="its monitor was killed")


class Watcher:
    """One thread that hears all monitors. The thread starts with the first process and ends with `close`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._watched: dict[int, Process] = {}
        self._wake, self._woken = os.pipe()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Have the thread, before there is a process whose end nobody would hear. Raises RuntimeError where there is no room for one."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="watcher", daemon=True)
                thread.start()
                self._thread = thread

    def watch(self, process: Process) -> None:
        """Hear this process's monitor from now on."""
        self.begin()
        with self._lock:
            self._watched[process._fileno()] = process
            self._epoll.register(process._fileno(), select.EPOLLIN)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._wake:
                    return
                self._hear(fd)

    def _hear(self, fd: int) -> None:
        with self._lock:
            process = self._watched.get(fd)
        if process is None:
            return
        # Unwatched before it closes its descriptor, which may be taken again at once.
        self._epoll.modify(fd, 0)
        with self._lock:
            del self._watched[fd]
            self._epoll.unregister(fd)
        if process._hear():
            self.watch(process)

    def close(self) -> None:
        """Stop watching; processes are left alone."""
        os.write(self._woken, b"x")
        if self._thread is not None:
            self._thread.join(5)
        self._epoll.close()
        os.close(self._wake)
        os.close(self._woken)
