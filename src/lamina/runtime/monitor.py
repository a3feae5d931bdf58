"""The monitor: one process per container (or exec), forked by the zygote, that lives as long as it does.

It starts the process, holds its standard streams or terminal, writes the log, serves attached clients, reaps,
and records the exit. Daemon and zygote may die and come back meanwhile: a daemon finds it at `monitor.sock`
in the container's directory, and what happened while none was there in `exit.json`.

To a daemon it says (the first channel and every later connection):

    {"event": "started", "pid": …, "warnings": […]} + pidfd    or, to later connections, {"event": "running", …} + pidfd
    {"event": "failed", "kind": …, "message": …}               nothing of the container remains
    {"event": "detached"}                                      a client pressed the detach keys
    {"event": "oom"}                                           memory ran out, and the kernel killed a process
    {"event": "exit", "code": …, "signal": …, "finished_at": …, "oom_killed": …, "error": …}

and takes {"op": "attach", …} + descriptor, {"op": "resize", "height": …, "width": …}, {"op": "close_stdin"}, and {"op": "abandon"}: the
start took too long, nobody wants it any more. How its life begins is in `beginning`.
"""

from __future__ import annotations

import errno
import os
import select
import time

from lamina.linux import channel, tty
from lamina.runtime import hooks, outside
from lamina.runtime.logfile import LogFile
from lamina.runtime.reaping import Ending
from lamina.runtime.records import EXIT_RECORD, RUN_RECORD, SOCKET, forget, start_time, write_record
from lamina.runtime.streams import Client, Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from lamina.runtime.launcher import Launched

_CHUNK = 64 << 10
_IN, _OUT, _GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR | select.POLLNVAL
_SILENCE = 0.5
"""Seconds of silence after which output that others still hold open is given up, once the process has ended."""
_REST = 4 << 20
"""Bytes that are read after the end whether or not they are taken: more than pipes hold."""
_LINGER = 10.0
"""Seconds that clients get to take what is left for them, and that others get who go on writing to the streams of what has ended."""


def run_hooks(document: Mapping[str, Any], kind: str, status: str, pid: int = 0) -> list[str]:
    """Those of the specification that are not init's; what failed of them, which changes nothing. Another runtime runs its own."""
    wanted = document.get("hooks")
    return hooks.run_all(wanted[kind], hooks.told(wanted["about"], status, pid)) if wanted else []


def remove_bundle(document: Mapping[str, Any]) -> None:
    """What hooks were shown."""
    if wanted := document.get("hooks"):
        outside.remove_tree(wanted["bundle"])


def tell(daemon: channel.Channel, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
    """Say something to a daemon; whether it was there to hear it."""
    try:
        daemon.send(message, fds)
        return True
    except (OSError, channel.ChannelClosed):
        return False


class Monitor:
    """One process that runs, and all that hangs on it."""

    def __init__(self, document: Mapping[str, Any], launched: Launched, listener: Any) -> None:
        """Take over the listening socket at SOCKET in the document's directory."""
        self._document = document
        self._launched = launched
        self._listener = listener
        self._listener.setblocking(False)
        terminal = launched.master >= 0
        self._input = Input(launched.master if terminal and document.get("stdin") else launched.pipes.get("stdin", -1), terminal=terminal)
        self._outputs = (
            {launched.master: "stdout"}
            if terminal
            else {launched.pipes[name]: name for name in ("stdout", "stderr") if name in launched.pipes}
        )
        log = document.get("log")
        self._log = LogFile(**log, pipe=document["log_pipe"]) if log else None
        self._clients: list[Client] = []
        self._daemons: list[channel.Channel] = []
        self._exit: dict[str, Any] | None = None
        self._deadline = 0.0
        self._after = 0
        self._over = False
        self._oom = launched.cgroup.watch_oom() if launched.cgroup is not None and document.get("watch_memory") else None
        self._oom_kills = 0
        self._launcher: Ending | None = None
        for fd in self._outputs:
            os.set_blocking(fd, False)

    # --- daemons

    def describe(self) -> dict[str, Any]:
        """What is recorded of a running process, so that it can be found without its monitor."""
        cgroup = self._launched.cgroup
        return {
            "pid": self._launched.pid,
            "started": start_time(self._launched.pid),
            "monitor": os.getpid(),
            "cgroup": cgroup.path if cgroup else "",
            "first": bool(self._document["create"]),
            **({"outside": other} if (other := self._document.get("outside")) else {}),
        }

    def greet(self, daemon: channel.Channel, event: str) -> None:
        """Serve one more daemon."""
        message = {"event": event, "pid": self._launched.pid, "warnings": self._launched.warnings}
        if tell(daemon, message, [self._launched.pidfd]):
            self._daemons.append(daemon)
            if self._over and self._exit is not None:  # it came between the end and the word of it
                tell(daemon, {"event": "exit", **self._exit})
        elif channel.waits(daemon.fileno()):
            self._abandon()  # it had waited too long for this greeting, and said so before it went

    def _broadcast(self, message: dict[str, Any]) -> None:
        self._daemons = [daemon for daemon in self._daemons if tell(daemon, message)]

    def _hear(self, daemon: channel.Channel) -> None:
        try:
            message, fds = daemon.recv()
        except (channel.ChannelClosed, channel.BadMessage, OSError):
            # Not `remove`: it is not among them any more where it went before something was told in this very turn.
            self._daemons = [other for other in self._daemons if other is not daemon]
            daemon.close()
            return
        operation = message.get("op")
        if operation == "attach" and len(fds) == 1:
            self.attach(fds.pop(), message)
        elif operation == "resize" and self._launched.master >= 0:
            try:
                tty.set_size(self._launched.master, int(message["height"]), int(message["width"]))
            except OSError:
                pass  # the terminal is gone: so is who would see its size
        elif operation == "close_stdin":
            self._input.end()
        elif operation == "abandon":
            self._abandon()
        channel.close_all(fds)

    def _abandon(self) -> None:
        if self._exit is None:
            os.kill(self._launched.pid, 9)  # a child that was not reaped: the number is its own

    # --- clients

    def attach(self, fd: int, options: Mapping[str, Any]) -> None:
        """Take over a client's connection."""
        client = Client(fd, options)
        self._clients.append(client)
        if pending := options.get("pending"):
            self._take_input(client, pending.encode("latin-1"))
        if options.get("logs") and self._log is not None:
            # All output is in the log, but for the last unfinished lines: the replay ends where live output begins.
            client.replay = self._log.replay()
            client.refill()

    def _take_input(self, client: Client, data: bytes | None) -> None:
        if data is None:
            if client.stdin and self._document.get("stdin_once"):
                self._input.end()
            return
        data, detached = client.strip_detach(data)
        if client.stdin:
            self._input.write(data)
        if detached:
            client.finish()
            client.close()
            self._broadcast({"event": "detached"})

    # --- the process

    def see_off(self, launcher: int) -> None:
        """Reap the launcher once it has ended, which it is about to."""
        self._launcher = Ending(launcher)

    def serve(self) -> None:
        """Until the process has ended, its output was read, and the end was recorded and told."""
        while self._exit is None or (self._outputs and time.monotonic() < self._deadline):
            if not self._turn(None if self._exit is None else _SILENCE) and self._exit is not None:
                break
        self._finish()

    def _turn(self, timeout: float | None) -> bool:
        """Wait for something to happen and deal with it; whether anything did."""
        poll = select.poll()
        handlers = self._register(poll)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        for fd, events in ready:
            for handler in handlers.get(fd, ()):
                handler(fd, events)
        self._clients = [client for client in self._clients if not client.closed]
        return bool(ready)

    def _register(self, poll: Any) -> dict[int, list[Any]]:
        """Have `poll` wait for all that may happen now; by descriptor, the functions that deal with its events, in this order."""
        wanted: dict[int, int] = {}
        handlers: dict[int, list[Any]] = {}

        def want(fd: int, events: int, handler: Any) -> None:
            wanted[fd] = wanted.get(fd, 0) | events
            handlers.setdefault(fd, []).append(handler)

        if self._listener.fileno() >= 0:
            want(self._listener.fileno(), _IN, self._on_connection)
        if self._launcher is not None and self._launcher.fd >= 0:
            want(self._launcher.fd, _IN, self._launcher.reap)
        if self._exit is None:
            want(self._launched.pidfd, _IN, self._on_exit)
            if self._oom is not None:
                want(self._oom, _IN, self._on_oom)
        log = self._log
        if log is not None and log.waiting:
            want(log.pipe, _OUT, lambda _fd, _events: log.flush())
        # A client that does not read holds the process up, as a pipe would; so does whoever takes the log. Beyond its end only those that go on.
        ended = self._exit is not None and self._after < _REST
        if ended or not ((log is not None and log.full) or any(client.full for client in self._clients)):
            for fd in self._outputs:
                want(fd, _IN, self._on_output)
        if self._input.waiting:
            want(self._input.fd, _OUT, self._on_input)
        for daemon in self._daemons:
            want(daemon.fileno(), _IN, lambda _fd, _events, daemon=daemon: self._hear(daemon))
        for client in self._clients:
            if (asked := client.asked(rests=self._input.full)) is not None:
                want(client.fd, asked, lambda _fd, events, client=client: self._on_client(client, events))
        for fd, events in wanted.items():
            poll.register(fd, events)
        return handlers

    def _on_connection(self, _fd: int, _events: int) -> bool:
        try:
            self.greet(channel.accept(self._listener), "running")
            return True
        except OSError:
            return False  # it went away before it was accepted

    def _on_client(self, client: Client, events: int) -> None:
        if events & (_OUT | _GONE) and not client.closed:
            client.flush()
            client.refill()
        if events & _IN and not client.closed and not client.half_closed:
            self._take_input(client, client.input())
        if events & (select.POLLHUP | select.POLLERR) and not events & _IN and not client.closed and not self._input.full:
            client.close()

    def _on_input(self, _fd: int, _events: int) -> None:
        self._input.flush()

    def _on_output(self, fd: int, events: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            # A terminal that nobody has open any more answers EIO instead of an end.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            del self._outputs[fd]
            if fd != self._launched.master:
                os.close(fd)
            return
        stream = self._outputs[fd]
        self._after += len(data) if self._exit is not None else 0
        self._record(stream, data)
        for client in self._clients:
            if client.replay is None:
                client.output(stream, data)

    def _record(self, stream: str, data: bytes) -> None:
        if self._log is not None:
            try:
                self._log.write(stream, data)
            except OSError:
                pass  # a full disk must not stop the process: what does not fit is lost, clients still get it

    def _on_oom(self, fd: int, _events: int) -> None:
        try:
            os.read(fd, 4096)
        except BlockingIOError:
            return
        cgroup = self._launched.cgroup
        # Version 1 tells of this alone, and before the kernel has chosen whom it kills; version 2 of every change of the counters.
        if cgroup is not None and (not cgroup.unified("memory") or cgroup.oom_kills() > self._oom_kills):
            self._tell_of_oom(cgroup.oom_kills())

    def _tell_of_oom(self, kills: int) -> None:
        self._oom_kills = max(kills, self._oom_kills, 1)
        self._broadcast({"event": "oom"})

    def _on_exit(self, _fd: int, _events: int) -> None:
        _, status = os.waitpid(self._launched.pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.WEXITSTATUS(status)
        self._deadline = time.monotonic() + _LINGER
        self._exit = {"code": code, "signal": number, "finished_at": time.time(), "oom_killed": False, "error": ""}

    def _finish(self) -> None:
        """Record the end, tell it, and give clients time to take what is theirs."""
        assert self._exit is not None
        if self._log is not None:
            try:
                self._log.close()
            except OSError:
                pass
        cgroup = self._launched.cgroup
        if cgroup is not None and self._document["create"]:
            kills = cgroup.oom_kills()
            if kills and not self._oom_kills:
                self._tell_of_oom(kills)
            self._exit["oom_killed"] = self._oom_kills > 0
            outside.remove(self._document.get("outside"), True)
            try:
                cgroup.remove()
            except OSError as error:
                self._exit["error"] = str(error.strerror)
        for warning in run_hooks(self._document, "poststop", "stopped"):
            os.write(2, f"warning: {warning}\n".encode())
        remove_bundle(self._document)
        directory = self._document["directory"]
        try:
            write_record(directory, EXIT_RECORD, self._exit, durable=not self._document.get("volatile"))
        except OSError:
            pass  # the directory is gone or the disk full: whoever listens is told all the same
        forget(directory, SOCKET)
        forget(directory, RUN_RECORD)
        self._over = True
        # Told before clients see their end: whoever asks for the exit code then must find it.
        self._broadcast({"event": "exit", **self._exit})
        for client in self._clients:
            if not client.waiting:
                client.finish()
        self._linger()

    def _linger(self) -> None:
        self._outputs.clear()
        self._document = {}
        deadline = time.monotonic() + _LINGER
        told: set[int] = set()
        while self._clients and time.monotonic() < deadline:
            for client in self._clients:
                if not client.waiting and client.fd not in told:
                    told.add(client.fd)
                    client.finish()
                if not client.waiting and client.half_closed:
                    client.close()
            self._clients = [client for client in self._clients if not client.closed]
            if self._clients:
                self._turn(1.0)
        if self._log is not None:
            self._log.hand_over(_LINGER)
