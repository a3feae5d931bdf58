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

and takes {"op": "attach", …} + descriptor, {"op": "resize", "height": …, "width": …}, {"op": "close_stdin"}.
"""

from __future__ import annotations

import errno
import os
import select
import time

from lamina.linux import channel, prctl, tty
from lamina.runtime import hooks, outside
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.faults import complain
from lamina.runtime.launcher import FAILED, Launched, LaunchFailed, end, launch
from lamina.runtime.logfile import LogFile
from lamina.runtime.reaping import Ending, reap_all
from lamina.runtime.records import EXIT_RECORD, RUN_RECORD, SOCKET, forget, start_time, write_record
from lamina.runtime.streams import Client, Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Never

    from lamina.runtime.cgroup import Hierarchy

_CHUNK = 64 << 10
_IN, _OUT, _GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR | select.POLLNVAL
_SILENCE = 0.5
"""Seconds of silence after which output that others still hold open is given up, once the process has ended."""
_LINGER = 10.0
"""Seconds that clients get to take what is left for them."""
BRIEF = b'{"brief":true,'
"""How the message begins of what is to run for a short time; not of what another runtime runs."""
_KEPT = ("directory", "stdin", "stdin_once", "volatile", "log", "terminal", "watch_memory", "outside", "hooks")


def run(body: bytes, fds: Sequence[int], hierarchies: Sequence[Hierarchy]) -> Never:
    """Start what a message to the zygote describes and monitor it to its end. Never returns.

    The first descriptor is the channel to the daemon. Launching takes memory that would stay with the monitor
    for all its life, so a fork of it launches: what it starts is the monitor's own child all the same. Where that life is BRIEF, the fork
    would take longer than the memory is held, and the monitor launches.
    """
    code = 1
    try:
        os.setsid()
        prctl.set_name("lamina-monitor")
        if body.startswith(BRIEF):
            _perform(channel.decode(body), fds, hierarchies)
        else:
            _have_launched(body, fds, hierarchies)
        code = 0
    except BaseException as error:
        complain(error)
    finally:
        os._exit(code)


def _have_launched(body: bytes, fds: Sequence[int], hierarchies: Sequence[Hierarchy]) -> None:
    """A monitor's life with a launcher."""
    mine, theirs = channel.pair()
    if (pid := os.fork()) == 0:
        mine.close()
        _launch(body, fds, hierarchies, theirs)
    theirs.close()
    _follow(mine, channel.from_fd(fds[0]), fds, hierarchies, pid)


def _launch(body: bytes, fds: Sequence[int], hierarchies: Sequence[Hierarchy], monitor: channel.Channel) -> Never:
    """The launcher's life."""
    try:
        document = channel.decode(body)
        other = document.get("outside")
        monitor.send({"directory": document["directory"], "outside": other})
        slots = dict(zip(document["slots"], fds, strict=True))
        try:
            if other:
                # What another runtime starts becomes the monitor's child once that runtime has ended, if it asked for orphans by then.
                monitor.recv()
                launched = outside.launch(document, slots, hierarchies)
            else:
                launched = launch(document, slots, hierarchies, sibling=True)
                launched.warnings.extend(_run_hooks(document, "poststart", "running", launched.pid))
        except LaunchFailed as error:
            _remove_bundle(document)
            monitor.send({"event": "failed", "kind": error.kind, "message": error.message})
            os._exit(0)
        about = _about(document, launched, slots)
        try:
            monitor.send(
                about,
                [launched.pidfd, *(launched.pipes[name] for name in about["pipes"]), *([launched.master] if launched.master >= 0 else [])],
            )
        except channel.ChannelClosed:
            end(launched.pid, launched.pidfd, sibling=True)
            outside.remove(other, about["create"])
            if launched.cgroup is not None and about["create"]:
                launched.cgroup.remove()
    except BaseException as error:
        complain(error)
    finally:
        os._exit(0)


def _about(document: Mapping[str, Any], launched: Launched, slots: Mapping[str, Any]) -> dict[str, Any]:
    """What the monitor needs to know of what was launched, beside its descriptors."""
    return {
        "pid": launched.pid,
        "warnings": launched.warnings,
        "pipes": sorted(launched.pipes),
        "cgroup": launched.cgroup.path if launched.cgroup else "",
        "create": bool((document.get("cgroup") or {}).get("create")),
        "log_pipe": slots.get("log", -1),
        "attached": [[slots[f"attach:{number}"], options] for number, options in enumerate(document.get("attaches") or [])],
        **{key: document.get(key) for key in _KEPT},
    }


def _perform(document: Mapping[str, Any], fds: Sequence[int], hierarchies: Sequence[Hierarchy]) -> None:
    """A monitor's life without a launcher."""
    daemon, directory = channel.from_fd(fds[0]), document["directory"]
    slots = dict(zip(document["slots"], fds, strict=True))
    listener = channel.listen(directory, SOCKET)
    try:
        launched = launch(document, slots, hierarchies)
    except LaunchFailed as error:
        listener.close()
        forget(directory, SOCKET)
        _tell(daemon, {"event": "failed", "kind": error.kind, "message": error.message})
        return
    _stay(_about(document, launched, slots), launched, listener, daemon, fds)


def _follow(launcher: channel.Channel, daemon: channel.Channel, fds: Sequence[int], hierarchies: Sequence[Hierarchy], pid: int) -> None:
    """Hear how the launch went, then stay with what was launched. `pid` is the launcher's."""
    directory, listener = "", None
    try:
        # Where to listen comes first: that is made while the launcher launches.
        told = launcher.recv()[0]
        directory = told["directory"]
        if told.get("outside"):
            prctl.adopt_orphans(adopt=True)
            launcher.send({})
        listener = channel.listen(directory, SOCKET)
        about, received = launcher.recv()
        if about.get("outside"):
            prctl.adopt_orphans(adopt=False)
    except channel.ChannelClosed:
        about, received = {"event": "failed", "kind": FAILED, "message": "the launcher ended unexpectedly"}, []
    launcher.close()
    if listener is None or about.get("event") == "failed":
        if listener is not None:
            listener.close()
            forget(directory, SOCKET)
        reap_all()
        _tell(daemon, about)
        return
    master = received[-1] if about["terminal"] else -1
    pipes = dict(zip(about["pipes"], received[1:], strict=False))
    cgroup = Cgroup(about["cgroup"], hierarchies) if about["cgroup"] else None
    _stay(about, Launched(about["pid"], received[0], cgroup, master, pipes, about["warnings"]), listener, daemon, fds, pid)


def _stay(about: dict[str, Any], launched: Launched, listener: Any, daemon: channel.Channel, fds: Sequence[int], launcher: int = 0) -> None:
    """With what runs, to its end. `launcher` is this process's child that launched it, 0 where there was none."""
    attached = about.pop("attached")
    channel.close_all([fd for fd in fds[1:] if fd not in [about["log_pipe"], *(kept for kept, _ in attached)]])
    monitor = Monitor(about, launched, listener)
    for fd, options in attached:
        monitor.attach(fd, options)
    # Before it is told: who hears of a start may ask for an exec at once.
    write_record(about["directory"], RUN_RECORD, monitor.describe(), durable=False)
    monitor.greet(daemon, "started")
    if launcher:
        monitor.see_off(launcher)
    monitor.serve()


def _run_hooks(document: Mapping[str, Any], kind: str, status: str, pid: int = 0) -> list[str]:
    """Those of the specification that are not init's; what failed of them, which changes nothing. Another runtime runs its own."""
    wanted = document.get("hooks")
    return hooks.run_all(wanted[kind], hooks.told(wanted["about"], status, pid)) if wanted else []


def _remove_bundle(document: Mapping[str, Any]) -> None:
    """What hooks were shown."""
    if wanted := document.get("hooks"):
        outside.remove_tree(wanted["bundle"])


def _tell(daemon: channel.Channel, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
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
        if _tell(daemon, message, [self._launched.pidfd]):
            self._daemons.append(daemon)

    def _broadcast(self, message: dict[str, Any]) -> None:
        self._daemons = [daemon for daemon in self._daemons if _tell(daemon, message)]

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
        channel.close_all(fds)

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
        while self._exit is None or self._outputs:
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
        # A client that does not read holds the process up, as a pipe would; so does who takes the log. Not beyond its end.
        if self._exit is not None or not ((log is not None and log.full) or any(client.full for client in self._clients)):
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
        for warning in _run_hooks(self._document, "poststop", "stopped"):
            os.write(2, f"warning: {warning}\n".encode())
        _remove_bundle(self._document)
        directory = self._document["directory"]
        try:
            write_record(directory, EXIT_RECORD, self._exit, durable=not self._document.get("volatile"))
        except OSError:
            pass  # the directory is gone or the disk full: whoever listens is told all the same
        forget(directory, SOCKET)
        forget(directory, RUN_RECORD)
        # Told before clients see their end: who asks for the exit code then must find it.
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
