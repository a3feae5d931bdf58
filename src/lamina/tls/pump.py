"""One TLS connection carried over to an ordinary pair of sockets, so that descriptors can be read, polled and given away as usual."""

from __future__ import annotations

import _socket
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

_PIECE = 1 << 16
_HELD = 1 << 18
_HANDSHAKE_SECONDS = 20


def behind(
    outer: _socket.socket,
    context: ssl.SSLContext,
    *,
    server: bool,
    name: str | None = None,
    failed: Callable[[Exception], object] = lambda _: None,
) -> socket.socket:
    """Do the handshake on `outer`; the socket that stands for the connection from then on. `outer` belongs to a thread that carries the
    bytes.

    `name` is the server's, which a client verifies. Half-closing goes through in both directions. `failed` is told, in that thread and
    before the socket ends, why a connection broke later: with TLS 1.3 a client learns only then that its certificate is refused.

    Raises:
        OSError, ssl.SSLError: the handshake failed, or took too long; `outer` is closed.
    """
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(arriving, leaving, server_side=server, server_hostname=None if server else name)
    try:
        outer.settimeout(_HANDSHAKE_SECONDS)
        _shake(outer, tls, arriving, leaving)
        inner, given = socket.socketpair()
    except BaseException:
        outer.close()
        raise
    threading.Thread(target=Pump(outer, inner, tls, (arriving, leaving), failed).run, name="tls", daemon=True).start()
    return given


def _shake(outer: _socket.socket, tls: ssl.SSLObject, arriving: ssl.MemoryBIO, leaving: ssl.MemoryBIO) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            outer.sendall(leaving.read())
            data = outer.recv(_PIECE)
            if not data:
                raise ConnectionResetError("the other side closed the connection during the TLS handshake") from None
            arriving.write(data)
        except ssl.SSLError:
            with suppress(OSError):
                outer.sendall(leaving.read())  # the alert that says why
            raise
        else:
            outer.sendall(leaving.read())
            return


class Pump:
    """Carries bytes between `outer`, where TLS is spoken, and `inner`, where it is not. One thread's; owns both sockets."""

    def __init__(
        self,
        outer: _socket.socket,
        inner: _socket.socket,
        tls: ssl.SSLObject,
        buffers: tuple[ssl.MemoryBIO, ssl.MemoryBIO],
        failed: Callable[[Exception], object],
    ) -> None:
        self._outer, self._inner, self._tls, self._failed = outer, inner, tls, failed
        self._arriving, self._leaving = buffers
        self._to_inner, self._to_outer = bytearray(), bytearray()
        self._outer_ended = self._inner_ended = self._inner_told = False

    def run(self) -> None:
        """Carry until both directions have ended, or either side breaks."""
        try:
            self._outer.setblocking(False)
            self._inner.setblocking(False)
            self._decrypt()  # what came with the handshake's last message
            while not self._finished():
                self._step()
        except OSError as error:  # ssl.SSLError is one
            self._failed(error)
        finally:
            self._outer.close()
            self._inner.close()

    def _finished(self) -> bool:
        return self._outer_ended and self._inner_ended and not self._to_inner and not self._to_outer

    def _step(self) -> None:
        poll = select.poll()
        outer = (select.POLLOUT if self._to_outer else 0) | (select.POLLIN if not self._outer_ended and len(self._to_inner) < _HELD else 0)
        inner = (select.POLLOUT if self._to_inner else 0) | (select.POLLIN if not self._inner_ended and len(self._to_outer) < _HELD else 0)
        if outer:
            poll.register(self._outer, outer)
        if inner:
            poll.register(self._inner, inner)
        for fd, events in poll.poll():
            if fd == self._outer.fileno():
                self._serve_outer(events)
            else:
                self._serve_inner(events)
        self._pass_end_on()

    def _serve_outer(self, events: int) -> None:
        if events & select.POLLOUT:
            del self._to_outer[: self._outer.send(self._to_outer)]
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._outer_ended:
            data = self._outer.recv(_PIECE)
            if data:
                self._arriving.write(data)
            else:
                self._arriving.write_eof()
            self._decrypt()

    def _serve_inner(self, events: int) -> None:
        if events & select.POLLOUT and self._to_inner:
            del self._to_inner[: self._inner.send(self._to_inner)]
        if events & (select.POLLIN | select.POLLHUP) and not self._inner_ended:
            data = self._inner.recv(_PIECE)
            if data:
                self._tls.write(data)
                self._to_outer += self._leaving.read()
            else:
                self._inner_ended = True
                self._say_goodbye()

    def _decrypt(self) -> None:
        """Everything readable now; the peer's close_notify, or the end of its connection, ends this direction."""
        while not self._outer_ended:
            try:
                data = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            self._to_inner += data
            self._outer_ended = not data
        self._to_outer += self._leaving.read()  # answers of the protocol itself

    def _say_goodbye(self) -> None:
        """Send close_notify (RFC 8446 6.1): our direction ends, the other may go on."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._to_outer += self._leaving.read()

    def _pass_end_on(self) -> None:
        if self._outer_ended and not self._to_inner and not self._inner_told:
            self._inner_told = True
            with suppress(OSError):
                self._inner.shutdown(socket.SHUT_WR)
