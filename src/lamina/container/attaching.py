"""Connections of clients: kept until start where nothing runs yet, otherwise handed to the monitor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from lamina.container.live import Live
from lamina.container.model import State, WrongState
from lamina.container.parts import Parts
from lamina.container.requests import AttachRequest, LogQuery
from lamina.errors import InvalidArgument
from lamina.linux.channel import write_all
from lamina.linux.unread import await_reading
from lamina.runtime.launch import DETACH_KEYS, Attach
from lamina.runtime.process import ProcessGone

ReadLog = Callable[[Live, LogQuery], Iterator[bytes]]
_CALL_ENDS = 0.01
"""Seconds within which the call that took the head off the queue has looked once more whether anything came after it."""


class InvalidDetachKeys(InvalidArgument):
    """The text is not a sequence of keys."""


def detach_sequence(keys: str) -> bytes:
    """`ctrl-p,ctrl-q`, `ctrl-@,x` as the bytes that a terminal sends; "" is Docker's default.

    Raises:
        InvalidDetachKeys: a key is neither one character nor ctrl- and one of a-z @ [ \\ ] ^ _.
    """
    return bytes(_key(key) for key in keys.split(",")) if keys else DETACH_KEYS


def _key(key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    name = key.removeprefix("ctrl-")
    if key.startswith("ctrl-") and len(name) == 1 and name.isascii() and (name.islower() or name in "@[\\]^_"):
        return ord(name.upper()) - 64
    raise InvalidDetachKeys(f"Invalid detach keys: Unknown character: '{key}'", hint="write detach keys as ctrl-p,ctrl-q")


def runtime_attach(request: AttachRequest, *, fd: int, tty: bool) -> Attach:
    """The request as the runtime takes it, on descriptor `fd`. Only who types at a terminal detaches: what else comes in is data."""
    keys = detach_sequence(request.detach_keys)
    return Attach(
        fd=fd,
        stdin=request.stdin,
        stdout=request.stdout,
        stderr=request.stderr,
        framed=not tty if request.framed is None else request.framed,
        pending=request.pending,
        detach_keys=keys if tty else b"",
    )


class Attachments:
    """Attach and resize. Thread-safe."""

    def __init__(self, parts: Parts, read_log: ReadLog) -> None:
        self._parts, self._read_log = parts, read_log

    def check(self, live: Live) -> None:
        """Raises WrongState where Docker refuses to attach."""
        if live.state.status is State.PAUSED:
            raise WrongState(f"container {live.container.id} is paused, unpause the container before attach")
        if live.state.status is State.RESTARTING:
            raise WrongState(f"container {live.container.id} is restarting, wait until the container is running")

    def attach(self, live: Live, request: AttachRequest) -> None:
        """See Containers.attach."""
        self.check(live)
        attach = runtime_attach(request, fd=request.fd, tty=live.container.tty)
        # Before the first start there is no log, and the head is a client's sign for that start: it must not come before the attachment.
        logs = request.logs and live.state.status is not State.CREATED
        if logs or not request.stream:
            request.accept()
        if logs:
            await_reading(request.fd)
            time.sleep(_CALL_ENDS)
            self._replay(live, request)
        if not request.stream:
            return
        with live.lock:
            process = live.process
            if process is None and live.removing:
                raise WrongState(f"container {live.container.id} is marked for removal and cannot be attached to")
            if process is None:
                live.drop_gone()
                live.pending.append(runtime_attach(request, fd=os.dup(request.fd), tty=live.container.tty))
                request.accept()  # with the lock: nobody writes there before a start
        if process is not None:
            request.accept()
            with suppress(ProcessGone):  # it ended just now: the client sees the end of its streams
                process.attach(attach)
        self._parts.emit(live.event("attach"))

    def _replay(self, live: Live, request: AttachRequest) -> None:
        """Write the log so far; a client that went away is not an error here."""
        try:
            for chunk in self._read_log(live, LogQuery(stdout=request.stdout, stderr=request.stderr)):
                write_all(request.fd, chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def resize(self, live: Live, height: int, width: int) -> None:
        """See Containers.resize."""
        with live.lock:
            if live.process is None and live.state.status is not State.CREATED:
                raise live.not_running()
            live.size = (height, width)
            if live.process is not None:
                with suppress(ProcessGone):
                    live.process.resize(height, width)
        self._parts.emit(live.event("resize", height=str(height), width=str(width)))
