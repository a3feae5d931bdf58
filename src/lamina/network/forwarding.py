"""Forwards what the kernel does not translate: streams by splice(2), so that no byte passes through the interpreter, and datagrams.
Only builtin modules."""

from __future__ import annotations

import _socket
import errno
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Loop(Protocol):
        """See switchboard.Switchboard."""

        def watch(self, fd: int, handler: Callable[[int], None], events: int = ...) -> None: ...

        def forget(self, fd: int) -> None: ...


_CHUNK = 1 << 20
_TURN = 16
"""How often a stream moves bytes before it is another's turn: one that never runs dry must not keep names and ports from all others."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR
_SILENCE = 90.0
"""Seconds without a datagram after which a client is forgotten."""
_MOST_CLIENTS = 1024


class Flow:
    """One direction of a stream: bytes in a pipe, on their way from `source` to `target`."""

    __slots__ = ("ended", "held", "pipe", "source", "target")

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.held = 0
        self.ended = False

    def move(self) -> bool:
        """Move what can be moved; whether anything was."""
        moved = False
        if not self.ended and self.held < _CHUNK:
            count = _splice(self.source, self.pipe[1], _CHUNK)
            if count == 0:
                self.ended = moved = True
            elif count:
                self.held += count
                moved = True
        if self.held:
            count = _splice(self.pipe[0], self.target, self.held)
            if count:
                self.held -= count
                moved = True
        return moved

    def close(self) -> None:
        """Let go of the pipe; the sockets are the stream's."""
        for fd in self.pipe:
            os.close(fd)


def _splice(source: int, target: int, count: int) -> int | None:
    """Bytes that were moved, 0 at the source's end, None where either is not ready."""
    try:
        return os.splice(source, target, count, flags=_FLAGS)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return None
        raise


class Stream:
    """A client's connection and the one to the container, both ways, until both ends are through."""

    def __init__(self, loop: Loop, client: int, address: str, port: int) -> None:
        """Take over an accepted connection.

        Raises:
            OSError: no descriptors are left; the connection stays the caller's.
        """
        self._loop = loop
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        inner = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        inner.connect_ex((address, port))
        os.set_blocking(client, False)
        there = Flow(client, inner.fileno())
        try:
            back = Flow(inner.fileno(), client)
        except OSError:
            there.close()
            raise
        self._outer, self._inner = client, inner.detach()
        self._flows = (there, back)
        self._done: set[int] = set()
        self._want()

    def _want(self) -> None:
        for fd in (self._outer, self._inner):
            events = 0
            for flow in self._flows:
                if flow.source == fd and not flow.ended and flow.held < _CHUNK:
                    events |= _IN
                if flow.target == fd and flow.held:
                    events |= _OUT
            if events:
                self._loop.watch(fd, self._ready, events)
            else:
                # A socket that is through on both sides would be ready for ever.
                self._loop.forget(fd)

    def _ready(self, events: int) -> None:
        try:
            if events & _GONE:
                raise ConnectionError
            for _ in range(_TURN):
                if not self._flows[0].move() | self._flows[1].move():
                    break
            for flow in self._flows:
                if flow.ended and not flow.held and flow.target not in self._done:
                    self._done.add(flow.target)
                    _shut(flow.target)
            if len(self._done) == 2:
                self._close()
            else:
                self._want()
        except OSError:
            self._close()

    def _close(self) -> None:
        for fd in (self._outer, self._inner):
            self._loop.forget(fd)
            os.close(fd)
        for flow in self._flows:
            flow.close()


def _shut(fd: int) -> None:
    """Tell the other end that no more will come."""
    sock = _socket.socket(-1, -1, -1, os.dup(fd))
    try:
        sock.shutdown(_socket.SHUT_WR)
    finally:
        sock.close()


class Datagrams:
    """A UDP port: each client gets a socket to the container, until it has been silent for a while."""

    def __init__(self, loop: Loop, fd: int, address: str, port: int) -> None:
        self._loop, self._fd, self._target = loop, fd, (address, port)
        self._clients: dict[Any, tuple[Any, float]] = {}

    def from_outside(self, _: int) -> None:
        """A client sent something."""
        sock = _socket.socket(-1, -1, -1, os.dup(self._fd))
        try:
            data, client = sock.recvfrom(65535)
            if self._target[0]:
                self._of(client).send(data)
        except OSError:
            pass
        finally:
            sock.close()

    def _of(self, client: Any) -> Any:
        now = time.monotonic()
        for known, (inner, last) in list(self._clients.items()):
            if now - last > _SILENCE or (len(self._clients) > _MOST_CLIENTS and known != client):
                self._loop.forget(inner.fileno())
                inner.close()
                del self._clients[known]
        if client not in self._clients:
            family = _socket.AF_INET6 if ":" in self._target[0] else _socket.AF_INET
            inner = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            inner.connect(self._target)
            self._loop.watch(inner.fileno(), lambda _: self._from_inside(inner, client))
            self._clients[client] = (inner, now)
        inner = self._clients[client][0]
        self._clients[client] = (inner, now)
        return inner

    def lead(self, address: str) -> None:
        """Go on to another address, "" for nowhere (the container has ended, or is on no network). The port's own descriptor is whose it was."""
        self._target = address, self._target[1]
        for inner, _ in self._clients.values():
            self._loop.forget(inner.fileno())
            inner.close()
        self._clients.clear()

    def _from_inside(self, inner: Any, client: Any) -> None:
        try:
            data = inner.recv(65535)
            sock = _socket.socket(-1, -1, -1, os.dup(self._fd))
            try:
                sock.sendto(data, client)
            finally:
                sock.close()
        except OSError:
            pass
