"""`lamina registry serve`: a registry of the OCI distribution specification, in a process of its own."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lamina import __version__
from lamina.distribution.protocol import split_host
from lamina.errors import InvalidArgument, Unavailable
from lamina.registry.access import Gate, read_users
from lamina.registry.filesystem import FileStorage
from lamina.registry.http import Connection
from lamina.registry.service import Service
from lamina.tls.contexts import server_context


class AddressUnusable(Unavailable):
    """The address cannot be listened on."""


class InvalidAddress(InvalidArgument):
    """The text is not a host:port."""


_PAUSE = 0.05
"""Seconds until the next try where a connection could not be accepted: as long as no descriptor is left, every try fails at once."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """`address` is host:port (port 0 lets the kernel choose); `users` a file of `name:hash` lines, none means anonymous.

    `idle` is how many seconds a connection may be silent.
    """

    root: str
    address: str = "127.0.0.1:5000"
    users: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    read_only: bool = False
    delete: bool = True
    idle: float = 120.0


class RegistryServer:
    """Accepts connections, a thread each, from `start` until `close`."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        users = read_users(options.users) if options.users else None
        self._tls = _tls(options)
        self._listener = _listen(options.address)  # before the storage: where somebody else listens, none is made
        try:
            self._service = Service(FileStorage(options.root), Gate(users), options.read_only, options.delete)
        except BaseException:
            self._listener.close()
            raise
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="registry-accept", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Accept connections from now on, in the background."""
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and end all connections; what is half uploaded can be resumed."""
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._ended.wait(_PAUSE):
                    return
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), name="registry-connection", daemon=True).start()
            except RuntimeError:  # no room for another thread: this client is turned away, later ones need not be
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            connection.settimeout(self._options.idle)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            served = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            # A socket with a timeout is non-blocking underneath, which sendfile does not like: the kernel keeps the time.
            if not self._tls:
                _kernel_timeout(served, self._options.idle)
            with served:
                Connection(served, server=f"lamina/{__version__}").serve(self._service.answer)
        except OSError:
            pass  # The client went away, or was silent for too long.
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def serve(options: ServeOptions, *, ready: Callable[[str, int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called with host and port once connections are accepted.

    Raises:
        AddressUnusable: somebody else listens there, or it is not this machine's.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = RegistryServer(options)
    server.start()
    if ready:
        ready(*server.address)
    ended.wait()
    server.close()


def _listen(address: str) -> socket.socket:
    host, port = split_host(address)
    if port is None or port > 65535:
        raise InvalidAddress(f"invalid address: {address[:100]!r}", hint="write it as 127.0.0.1:5000")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        # the standard library puts the address behind the reason
        reason = (error.strerror or str(error)).partition(" (")[0].lower()
        raise AddressUnusable(f"cannot listen on {address}: {reason}") from None


def _kernel_timeout(connection: socket.socket, seconds: float) -> None:
    connection.settimeout(None)
    timeval = int(seconds).to_bytes(8, "little") + int(seconds % 1 * 1_000_000).to_bytes(8, "little")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def _tls(options: ServeOptions) -> ssl.SSLContext | None:
    if not options.tls_certificate and not options.tls_key:
        return None
    return server_context(certificate=options.tls_certificate, key=options.tls_key, authority="")
