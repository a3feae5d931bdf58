"""HTTP/1.1 to an engine (RFC 9112), as much of it as the Engine API uses: over a unix socket or TCP.

A `Transport` opens connections; a `Connection` carries one request after another; a `Response` is read once,
whole, in pieces or as JSON lines; a hijacked one (101) gives its socket away.
"""

from __future__ import annotations

import _socket

from lamina.client.text import decode, document, encode
from lamina.errors import (
    Conflict,
    Corrupt,
    Exhausted,
    Forbidden,
    Internal,
    InvalidArgument,
    LaminaError,
    NotFound,
    NotModified,
    Unauthorized,
    Unavailable,
    Unsupported,
)

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    class Sendable(Protocol):
        """Bytes of a body that are not in memory."""

        def __len__(self) -> int: ...

        def send(self, fd: int) -> None:
            """Write them to a descriptor."""

    Piece = bytes | memoryview | Sendable

_KINDS = {
    kind.http_status: kind
    for kind in (Internal, InvalidArgument, Unauthorized, Forbidden, NotFound, Conflict, NotModified, Exhausted, Unsupported, Unavailable)
}
_PIECE = 1 << 16
_BYTES = (bytes, memoryview)
_SO_SNDBUFFORCE = 32
_HEAD_LIMIT = 1 << 16


class EngineUnreachable(Unavailable):
    """Nobody answers at the engine's address."""


class Address:
    """Where an engine listens: a socket's path, or a TCP host and port."""

    __slots__ = ("host", "path", "port")

    def __init__(self, *, path: str = "", host: str = "", port: int = 0) -> None:
        self.path, self.host, self.port = path, host, port

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `unix:///run/lamina.sock`, `/run/lamina.sock` or `tcp://host:port`.

        Raises:
            InvalidArgument: it is none of these.
        """
        scheme, separator, rest = text.partition("://")
        if not separator and text.startswith("/"):
            return cls(path=text)
        if scheme == "unix" and rest:
            return cls(path=rest)
        if scheme in ("tcp", "http") and rest:
            return cls._tcp(rest.rstrip("/"), text)
        raise InvalidArgument(f"unable to parse docker host {text!r}", hint="write unix:///path/to/socket or tcp://host:port")

    @classmethod
    def _tcp(cls, rest: str, text: str) -> Address:
        host, colon, port = rest.rpartition(":")
        if not colon or "]" in port:
            host, port = rest, "2375"
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise InvalidArgument(f"invalid port in engine address {text!r}")
        return cls(host=host.strip("[]") or "127.0.0.1", port=int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix://{self.path}" if self.path else f"tcp://{host}:{self.port}"


class Transport:
    """Opens connections to one engine. Thread-safe: it holds nothing but the address."""

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address

    def connect(self) -> Connection:
        """A new connection, the caller's to close.

        Raises:
            EngineUnreachable: nobody listens there, or we may not.
        """
        try:
            return Connection(self.open_socket())
        except OSError as fault:
            reason = "permission denied" if isinstance(fault, PermissionError) else (fault.strerror or str(fault)).lower()
            advice = "only root and who may write to that socket may use it: try sudo"
            raise EngineUnreachable(
                f"cannot connect to the engine at {self.address}: {reason}",
                hint=advice if isinstance(fault, PermissionError) else "is laminad running there?",
            ) from None

    def open_socket(self) -> _socket.socket:
        """A connected socket.

        Raises:
            OSError: there is nobody.
        """
        address = self.address
        if address.path:
            made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            made.connect(address.path)
            return made
        fault: OSError = OSError(f"no address for {address.host}")
        try:
            found = _socket.getaddrinfo(address.host, address.port, 0, _socket.SOCK_STREAM)
        except UnicodeError:
            raise OSError(f"{address.host} is no name of a host") from None
        for family, kind, _, _, target in found:
            made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
            try:
                made.connect(target)
            except OSError as failed:
                made.close()
                fault = failed
                continue
            made.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            return made
        raise fault

    def as_it_is(self) -> Transport:
        """The same engine, for who asks again and again: none is started where it has ended."""
        return self

    def request(self, method: str, path: str, body: object = None, *, headers: Iterable[str] = ()) -> Response:
        """One request on a connection of its own, its status checked; see `Connection.request`."""
        return self.connect().request(method, path, body, headers=headers)

    def get(self, path: str) -> object:
        """The JSON a GET answers with."""
        return self.request("GET", path).json()

    def post(self, path: str, body: object = None) -> dict[str, object]:
        """The JSON object a POST answers with; empty where it answers with none."""
        return document(self.request("POST", path, body).read())

    def delete(self, path: str) -> bytes:
        """The bytes a DELETE answers with."""
        return self.request("DELETE", path).read()


class Connection:
    """One connection; requests on it follow each other, each read to its end first."""

    __slots__ = ("_buffer", "socket")

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self._buffer = bytearray()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def request(self, method: str, path: str, body: object = None, *, headers: Iterable[str] = (), last: bool = False) -> Response:
        """Send a request with `body` (None, or a value sent as JSON) and read the answer's head; `headers` are whole lines.

        Raises:
            LaminaError: of the kind the answer's status names, with its message.
        """
        self.send(method, path, body, headers=headers, last=last)
        return self.response(method).checked(path)

    def send(self, method: str, path: str, body: object = None, *, headers: Iterable[str] = (), last: bool = False) -> None:
        """Send a request and return at once; the answer comes by `response`."""
        lines = [f"{method} {path} HTTP/1.1", "Host: lamina", "User-Agent: lamina", *headers]
        data = b""
        if body is not None:
            data = encode(body)
            lines += ("Content-Type: application/json", f"Content-Length: {len(data)}")
        elif method in ("POST", "PUT"):
            lines.append("Content-Length: 0")
        if last:
            lines.append("Connection: close")
        self._write("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data)

    def upload(
        self, method: str, path: str, pieces: Iterable[Piece], *, headers: Iterable[str] = (), length: int | None = None
    ) -> Response:
        """Send a request whose body is `pieces`: chunked, or bare where their `length` in bytes is known.

        An engine that answers early (an error) stops the upload, and its answer is returned.
        """
        lines = [f"{method} {path} HTTP/1.1", "Host: lamina", "User-Agent: lamina", *headers]
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        self._write("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n")
        self._widen()
        try:
            self._write_pieces(pieces, chunked=length is None)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the engine has answered and closed: what it said is in the socket
        return self.response(method).checked(path)

    def _widen(self) -> None:
        """Let a unix socket hold more of what is sent, where we may: so we go on while the engine works."""
        if self.socket.family == _socket.AF_UNIX:
            try:
                self.socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 20)
            except OSError:
                pass

    def _write_pieces(self, pieces: Iterable[Piece], *, chunked: bool) -> None:
        before = b""
        for piece in pieces:
            if not len(piece):
                continue
            if chunked:
                before += b"%x\r\n" % len(piece)
            if isinstance(piece, _BYTES):
                self._write_both(before, piece)
            else:
                self.socket.sendall(before)
                piece.send(self.socket.fileno())
            before = b"\r\n" if chunked else b""
        if chunked:
            self.socket.sendall(before + b"0\r\n\r\n")

    def _write_both(self, before: bytes, piece: bytes | memoryview) -> None:
        """In one call where there is room: each wakes whoever reads."""
        sent = self.socket.sendmsg((before, piece)) if before else 0
        if sent < len(before):
            self.socket.sendall(before[sent:])
            sent = len(before)
        if sent < len(before) + len(piece):
            self.socket.sendall(memoryview(piece)[sent - len(before) :])

    def _write(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise EngineUnreachable("the engine closed the connection before it was asked") from None

    def response(self, method: str = "GET") -> Response:
        """Read the head of the next answer, whatever its status; interim answers (1xx but 101) are skipped.

        Raises:
            EngineUnreachable: the connection ended before it.
            Corrupt: what came is not HTTP.
        """
        while True:
            status, headers = self._head()
            if status >= 200 or status == 101:
                return Response(self, status, headers, bodyless=method == "HEAD" or status in (101, 204, 304))

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise Corrupt("the engine's answer has no end of head")
            if not self.fill():
                raise EngineUnreachable("the engine closed the connection without an answer", hint="its log may say why")
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal():
            raise Corrupt(f"the engine's answer is not HTTP: {lines[0][:60]!r}")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(parts[1]), headers

    def fill(self) -> bool:
        """Receive once into the buffer; false at the end."""
        try:
            piece = self.socket.recv(_PIECE)
        except ConnectionResetError:
            return False
        self._buffer += piece
        return bool(piece)

    def take(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes; none at the end."""
        if not self._buffer:
            try:
                return self.socket.recv(min(limit, 1 << 20))
            except ConnectionResetError:
                return b""
        piece = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return piece

    def line(self) -> bytes:
        """The bytes up to the next CR LF, without it."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self.fill():
                raise EngineUnreachable("the engine's answer was cut off", hint="its log may say why")
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return text

    def detach(self) -> tuple[_socket.socket, bytes]:
        """The bare socket and what was received beyond the head; the connection is not used afterwards."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return self.socket, rest


class Response:
    """An answer: status, headers (names in lower case), and a body read once."""

    __slots__ = ("_left", "connection", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str], *, bodyless: bool) -> None:
        self.connection, self.status, self.headers = connection, status, headers
        # bytes left of the body or of its chunk; None: until the connection ends; -1: before a chunk
        self._left: int | None = 0
        if not bodyless:
            if "chunked" in headers.get("transfer-encoding", "").lower():
                self._left = -1
            else:
                length = headers.get("content-length")
                self._left = int(length) if length is not None and length.isdecimal() else None

    def checked(self, path: str = "") -> Response:
        """This response, its status being a success. `path` is what was asked for.

        Raises:
            LaminaError: of the kind its status names.
        """
        if self.status < 300 or self.status == 304:  # it is so already: a running container is started
            return self
        raise self.error(path)

    def error(self, path: str = "") -> LaminaError:
        """The error this answer to `path` tells of."""
        data = self.read()
        try:
            told = document(data)
        except Corrupt:
            told = {}
        if self.status == 404 and path.startswith("/lamina/") and "code" not in told:  # laminad's errors all have one
            return Unsupported(
                "the engine is another than laminad, or an older one: it cannot do this", hint="lamina version says which it is"
            )
        message = str(told.get("message") or data.decode("utf-8", "replace").strip() or f"the engine answered with status {self.status}")
        kind = _KINDS.get(self.status) or (Internal if self.status >= 500 else InvalidArgument)
        return kind(message.strip(), hint=str(told.get("hint") or ""))

    def some(self, limit: int = _PIECE) -> bytes:
        """At least one and at most `limit` bytes of the body; none at its end.

        Raises:
            EngineUnreachable: the body was cut off.
        """
        if self._left == -1:
            self._left = self._chunk()
        if self._left is None:
            return self.connection.take(limit)
        if self._left == 0:
            return b""
        piece = self.connection.take(min(limit, self._left))
        if not piece:
            raise EngineUnreachable("the engine's answer was cut off", hint="its log may say why")
        self._left -= len(piece)
        if self._left == 0 and "transfer-encoding" in self.headers:
            self.connection.line()
            self._left = -1
        return piece

    def _chunk(self) -> int:
        text = self.connection.line().split(b";", 1)[0].strip()
        try:
            size = int(text, 16)
        except ValueError:
            raise Corrupt(f"the engine's answer is not a chunked body: {text[:40]!r}") from None
        if size == 0:
            while self.connection.line():
                pass
        return size

    def read(self) -> bytes:
        """What is left of the body."""
        pieces = []
        while piece := self.some(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def pieces(self, limit: int = 1 << 18) -> Iterator[bytes]:
        """The body as it comes."""
        while piece := self.some(limit):
            yield piece

    def json(self) -> object:
        """The body as JSON."""
        return decode(self.read())

    def lines(self) -> Iterator[dict[str, object]]:
        """The JSON objects of a body that holds one per line, as they come."""
        rest = b""
        while piece := self.some():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield document(line)
        if rest.strip():
            yield document(rest)

    def close(self) -> None:
        """Close the connection under this answer."""
        self.connection.close()


__all__ = ["Address", "Connection", "EngineUnreachable", "Response", "Transport"]
