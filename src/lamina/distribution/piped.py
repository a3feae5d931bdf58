"""A request's body out of a pipe: moved into the connection by the kernel where that is possible, else read and written."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

PIECE = 1 << 20
"""Bytes read from or written to a socket at once."""


@dataclass(frozen=True, slots=True)
class Piped:
    """The bytes from the pipe `reader` to its end. `ended` is called there, before the request is: what it raises gives that up."""

    reader: int
    ended: Callable[[], None]

    def wait(self) -> None:
        """Until there are bytes, or there will be none and none were wanted. Raises what `ended` does."""
        if not self._ready():
            self.ended()

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, for a connection that encrypts them."""
        while piece := os.read(self.reader, PIECE):
            yield piece
        self.ended()

    def moved(self, connection: HTTPConnection) -> Iterator[bytes]:
        """Move the bytes into a plain connection by splice(2), as chunks of a body (RFC 9112, 7.1); nothing is left to be sent.

        An iterator, so that this happens when the request's head has gone.
        """
        sock, end = connection.sock, b""
        while size := self._ready():
            sock.sendall(b"%s%x\r\n" % (end, size), socket.MSG_MORE)
            _splice(self.reader, sock, size)
            end = b"\r\n"
        sock.sendall(end)
        self.ended()
        yield b""

    def _ready(self) -> int:
        """How many bytes are in the pipe; waits for some, 0 at its end."""
        readable = select.poll()
        readable.register(self.reader, select.POLLIN)
        readable.poll()
        return int.from_bytes(fcntl.ioctl(self.reader, termios.FIONREAD, bytes(4)), sys.byteorder)


def _splice(reader: int, sock: socket.socket, size: int) -> None:
    """Raises TimeoutError when the other side takes nothing for as long as the socket's timeout."""
    timeout = sock.gettimeout()
    writable = select.poll()
    writable.register(sock, select.POLLOUT)
    while size:
        try:
            size -= os.splice(reader, sock.fileno(), size)
        except BlockingIOError:
            if not writable.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError("timed out") from None


class _Connection(HTTPConnection):
    def request(self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any) -> None:  # type: ignore[override]
        """See `HTTPConnection.request`."""
        super().request(method, url, body.moved(self) if isinstance(body, Piped) else body, headers, **options)


class MovingPool(HTTPConnectionPool):
    """Connections without TLS that take `Piped` bodies without reading them."""

    ConnectionCls = _Connection
