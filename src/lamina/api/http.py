"""An HTTP/1.1 server: one thread per connection, h11 for heads, bodies by our own code."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import unquote

import h11

from lamina.api.body import Body, HeadTooLong, Wire
from lamina.api.carrying import Carriers
from lamina.api.message import Direct, FileReply, Handler, Hijacked, InvalidParameter, Query, Reply, Request, Response, Streamed
from lamina.errors import Cancelled, Forbidden
from lamina.linux.crew import Crew
from lamina.linux.scheduling import take_short_turns
from lamina.spec.framing import Chunked, Framing, Sized
from lamina.worker.incoming import BodyCut
from lamina.worker.outgoing import ClientGone, Outlet

_ABSOLUTE = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""What stands before the path where a target is a whole address (RFC 9112, 3.2.2)."""
_HEAD_LIMIT = 1 << 18
_DRAIN_LIMIT = 1 << 20
_PAUSE_SECONDS = 0.5
_LINGER_SECONDS = 10
Secure = Callable[[socket.socket], socket.socket]
_log = logging.getLogger("lamina.api")
_REASONS = http.client.responses | {101: "UPGRADED", 499: "Client Closed Request"}


class Server:
    """Serves `handle` on listening sockets. `headers` go into every response; `failure` renders what `handle` raises; `carriers` move
    long bodies."""

    def __init__(
        self,
        handle: Handler,
        failure: Callable[[Exception], Reply],
        headers: Sequence[tuple[str, str]],
        carriers: Carriers | None = None,
    ) -> None:
        self._carriers = carriers
        self._crew = Crew("connection")
        self._handle = handle
        self._failure = failure
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
        self._listeners: list[socket.socket] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False

    def listen(self, listener: socket.socket, secure: Secure | None = None) -> None:
        """Accept connections from `listener` in a thread of its own, until `close`. `secure` makes of each the socket that is served."""
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, secure), name="accept", daemon=True).start()

    def close(self) -> None:
        """Stop accepting and cut what is connected. Streams handed to others go on. Idempotent."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        for sock in (*self._listeners, *connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for listener in self._listeners:
            listener.close()

    def serve(self, sock: socket.socket, secure: Secure | None = None) -> None:
        """Serve one connection until it ends; closes `sock`."""
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure is not None:
            try:
                sock = secure(sock)
            except OSError as error:  # ssl.SSLError is one
                _log.info("a client's TLS handshake failed: %s", error)
                return
        with self._lock:
            if self._closed:
                sock.close()
                return
            self._open.add(sock)
        take_short_turns()
        try:
            Connection(sock, self._handle, self._failure, self._headers, self._carriers).run()
        except (OSError, Cancelled) as error:
            _log.debug("a connection ended: %s", error)
        except Exception:
            _log.exception("a connection failed")
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _accept(self, listener: socket.socket, secure: Secure | None) -> None:
        while not self._closed:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if self._closed or listener.fileno() < 0:
                    return
                _log.warning("accepting a connection failed: %s", error)
                select.select([], [], [], 0.05)
                continue
            try:
                self._crew.start(self.serve, sock, secure)
            except RuntimeError as error:  # no room for another thread: this client is turned away, later ones need not be
                _log.warning("a connection is refused: %s", error)
                sock.close()


class Connection:
    """One connection's requests, one after the other."""

    def __init__(
        self,
        sock: socket.socket,
        handle: Handler,
        failure: Callable[[Exception], Reply],
        headers: bytes,
        carriers: Carriers | None = None,
    ) -> None:
        self._carriers = carriers
        self._sock = sock
        self._wire = Wire(sock)
        self._handle = handle
        self._failure = failure
        self._headers = headers

    def run(self) -> None:
        """Serve until either side ends it."""
        while True:
            try:
                head = self._wire.head(_HEAD_LIMIT)
                if not head:
                    return
                request, keep = self._parse(head)
            except (InvalidParameter, HeadTooLong) as error:
                self._reply(self._failure(error), "GET", keep=False)
                self._linger(Body(self._wire, Sized(_DRAIN_LIMIT)))
                return
            if not self._answer(request, keep=keep):
                return

    def _parse(self, head: bytes) -> tuple[Request, bool]:
        event, headers = parse_head(head)
        framing = framing_of(headers)
        expects = headers.get("expect", "").lower() == "100-continue"
        body = Body(self._wire, framing, self._continue if expects and not framing.done else None, self._carriers)
        path, _, query = _ABSOLUTE.sub("", event.target.decode("ascii")).partition("?")
        keep = event.http_version == b"1.1" and "close" not in headers.get("connection", "").lower()
        return Request(event.method.decode("ascii"), unquote(path or "/"), Query.parse(query), headers, body), keep

    def _continue(self) -> None:
        self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self, request: Request, *, keep: bool) -> bool:
        """Handle one request; whether the connection may carry another."""
        try:
            check_origin(request.headers)
            response = self._handle(request)
        except Exception as error:
            response = self._failure(error)
        if isinstance(response, Hijacked):
            return self._hijack(request, response)
        if request.body.broken:
            keep = False
        if isinstance(response, Reply) and keep and not request.body.finished:
            keep = "expect" not in request.headers and self._read_over(request.body)
        sent = self._send(request, response, keep=keep)
        if sent and request.body.finished:
            return keep
        if sent:
            self._linger(Body(self._wire, Sized(_DRAIN_LIMIT)) if request.body.broken else request.body)
        return False

    def _send(self, request: Request, response: Response, *, keep: bool) -> bool:
        if isinstance(response, Streamed):
            return self._stream(request, response, keep=keep)
        if isinstance(response, FileReply):
            self._send_file(response, request.method, keep=keep)
        elif isinstance(response, Direct):
            self._sock.sendall(
                self._head(200, (("Content-Type", response.content_type), ("Content-Length", str(response.size))), keep=keep)
            )
            if request.method != "HEAD":
                response.write(self._sock.fileno())
        elif isinstance(response, Reply):
            self._reply(response, request.method, keep=keep)
        return True

    def _reply(self, reply: Reply, method: str, *, keep: bool) -> None:
        bodiless = reply.status in (204, 304)
        length = (
            () if bodiless or any(name == "Content-Length" for name, _ in reply.headers) else (("Content-Length", str(len(reply.body))),)
        )
        head = self._head(reply.status, (*reply.headers, *length), keep=keep)
        self._sock.sendall(head if method == "HEAD" or bodiless else head + reply.body)

    def _send_file(self, reply: FileReply, method: str, *, keep: bool) -> None:
        try:
            self._sock.sendall(self._head(200, (*reply.headers, ("Content-Length", str(reply.size))), keep=keep))
            offset, end = reply.offset, reply.offset + reply.size
            while offset < end and method != "HEAD":
                sent = os.sendfile(self._sock.fileno(), reply.fd, offset, end - offset)
                if not sent:
                    raise ClientGone("a file became shorter while it was being sent")
                offset += sent
        finally:
            os.close(reply.fd)

    def _stream(self, request: Request, response: Streamed, *, keep: bool) -> bool:
        """Let `produce` write; False where the connection cannot go on."""
        framing = ("Transfer-Encoding", "chunked") if response.length is None else ("Content-Length", str(response.length))
        head = self._head(response.status, (("Content-Type", response.content_type), *response.headers, framing), keep=keep)
        writer = ChunkWriter(self._sock, head, chunked=response.length is None and request.method != "HEAD")
        try:
            if request.method != "HEAD":
                response.produce(writer)
            writer.end()
        except (BrokenPipeError, ConnectionResetError, ClientGone, BodyCut):
            return False
        except Exception as error:
            if not writer.started:
                self._reply(self._failure(error), request.method, keep=keep and request.body.finished)
                return True
            if response.failed is None:
                _log.warning("a stream broke off: %s", error)
                return False
            writer.write(response.failed(error))
            writer.end()
        return keep

    def _hijack(self, request: Request, response: Hijacked) -> bool:
        """Answer with the upgrade the client asked for, or plainly; the socket then belongs to `take`."""
        upgrade = request.headers.get("upgrade", "")
        if upgrade:
            lines = "".join(f"{name}: {value}\r\n" for name, value in (("Content-Type", response.content_type), *response.headers) if value)
            head = f"HTTP/1.1 101 UPGRADED\r\n{lines}Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"
        else:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {response.content_type}\r\n"
        accepted = False

        def accept() -> None:
            nonlocal accepted
            if not accepted:
                accepted = True
                self._sock.sendall(head.encode() + self._headers + b"\r\n")

        try:
            if "content-length" in request.headers:
                request.body.drain(_DRAIN_LIMIT)  # dockerode sends its options as a body of attach: they are not input of the container's
            response.take(self._sock.fileno(), self._wire.release(), accept)
        except Exception as error:
            if accepted:
                raise
            self._reply(self._failure(error), request.method, keep=False)
        return False

    def _head(self, status: int, headers: Iterable[tuple[str, str]], *, keep: bool) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        connection = b"" if keep else b"Connection: close\r\n"
        return (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n{lines}".encode("latin-1", "replace")
            + self._headers
            + connection
            + b"\r\n"
        )

    def _read_over(self, body: Body) -> bool:
        """Whether what nobody wants of a body came to its end in a moment. A client that pauses, or sends no
        more, gets its answer all the same."""
        self._sock.settimeout(_PAUSE_SECONDS)
        try:
            return body.drain(_DRAIN_LIMIT)
        except (TimeoutError, BodyCut):
            return False
        finally:
            self._sock.settimeout(None)

    def _linger(self, body: Body) -> None:
        """The answer came before the body's end: let the client read it before the connection goes (RFC 9112 9.6)."""
        with contextlib.suppress(OSError, Cancelled, InvalidParameter):
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(_LINGER_SECONDS)
            body.drain(1 << 40)


class ChunkWriter:
    """See message.Writer: each write is one chunk, sent at once; unless `chunked`, plain bytes."""

    __slots__ = ("_chunked", "_head", "_sock", "started")

    def __init__(self, sock: socket.socket, head: bytes, *, chunked: bool = True) -> None:
        self._sock = sock
        self._head = head
        self._chunked = chunked
        self.started = False

    def start(self) -> None:
        """See Writer.start."""
        if not self.started:
            self.started = True
            self._sock.sendall(self._head)

    def write(self, data: bytes) -> None:
        """See Writer.write."""
        if not data:
            return
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        if not self.started:
            self.started = True
            chunk = self._head + chunk
        self._sock.sendall(chunk)

    def outlet(self) -> Outlet:
        """See Writer.outlet."""
        return Outlet(self._sock.fileno(), b"" if self.started else self._head, self._chunked, self._begun)

    def _begun(self) -> None:
        self.started = True

    def gone(self, timeout: float = 0) -> bool:
        """See Writer.gone."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return bool(poll.poll(timeout * 1000))

    def fileno(self) -> int:
        """See Writer.fileno."""
        return self._sock.fileno()

    def end(self) -> None:
        """Send the last chunk."""
        self.start()
        if self._chunked:
            self._sock.sendall(b"0\r\n\r\n")


def parse_head(head: bytes) -> tuple[h11.Request, dict[str, str]]:
    """A request's head and its headers by lower-case name (the last of equal names wins).

    Raises:
        InvalidParameter: it is not a request.
    """
    machine = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
    machine.receive_data(head)
    try:
        event = machine.next_event()
    except h11.RemoteProtocolError as error:
        raise InvalidParameter(f"malformed request: {str(error).partition(': bytearray(')[0]}") from None
    if not isinstance(event, h11.Request):
        raise InvalidParameter("malformed request: incomplete head")
    return event, {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}


class ForeignPage(Forbidden):
    """A web page of another site asks, in the name of whoever looks at it."""


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse what a browser sends for a page of another site (RFC 6454): a daemon on TCP would take it for its user's. Docker's clients
    send no Origin.

    Raises:
        ForeignPage: it comes from such a page.
    """
    origin = headers.get("origin", "")
    if origin and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        raise ForeignPage(f"requests by web pages of other sites are refused: {origin[:200]}")


def framing_of(headers: dict[str, str]) -> Framing:
    """How the body of a request with these headers ends.

    Raises:
        InvalidParameter: two ways are named at once (RFC 9112 6.1: a sign of smuggling).
    """
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise InvalidParameter("malformed request: both Transfer-Encoding and Content-Length")
        return Chunked()
    return Sized(int(headers.get("content-length", "0")))
