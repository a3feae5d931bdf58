"""HTTP/1.1 on one connection: h11 reads heads, bodies are moved by own code (sendfile out, one buffer in)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import parse_qs, unquote

import h11

from lamina.errors import InvalidArgument

_BUFFER = 1 << 20
_HEAD_LIMIT = 64 << 10
_DRAIN_LIMIT = 8 << 20
_LINE_LIMIT = 4096
_MOST_FIELDS = 64


class BadRequest(InvalidArgument):
    """The bytes are not an HTTP request that is understood here."""


class ClientGone(ConnectionError):
    """The other side ended the connection in the middle of a body."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """`count` bytes of a file from `offset`; sending closes the file."""

    file: BinaryIO
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler answers. For HEAD the body is left out, its length is told all the same."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | FilePart = b""


@dataclass(slots=True)
class Request:
    """One request. `headers` have lower-case names; `query` keeps each key's first value; `path` is decoded."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body


Handler = Callable[[Request], Response]


@dataclass(slots=True)
class Body:
    """A request's body, read once, in order. Views are good until the next one is asked for."""

    connection: Connection
    length: int | None
    expects: bool = False
    finished: bool = False
    _stream: Iterator[memoryview] | None = None

    def views(self) -> Iterator[memoryview]:
        """The body's bytes as they come; a second call goes on where the first was left.

        Raises:
            ClientGone: the connection ended before the body did.
            BadRequest: the chunked coding is broken.
        """
        if self._stream is None:
            self._stream = self._read()
        return self._stream

    def _read(self) -> Iterator[memoryview]:
        if self.expects:
            self.expects = False
            self.connection.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.length is not None:
            yield from self.connection.exactly(self.length)
        else:
            while size := self.connection.chunk_size():
                yield from self.connection.exactly(size)
                self.connection.line()
            while self.connection.line():
                pass  # Trailers say nothing here.
        self.finished = True

    def read(self, limit: int) -> bytes:
        """All of it.

        Raises:
            BadRequest: it is longer than `limit` bytes.
        """
        data = bytearray()
        for view in self.views():
            data += view
            if len(data) > limit:
                raise BadRequest(f"request body is larger than {limit} bytes")
        return bytes(data)

    def drain(self) -> bool:
        """Drop what is left, so that the next request can be read; False where that is not worth it."""
        if self.finished:
            return True
        if self.expects or (self.length or 0) > _DRAIN_LIMIT:
            return False
        seen = 0
        for view in self.views():
            seen += len(view)
            if seen > _DRAIN_LIMIT:
                return False
        return True


class Connection:
    """One client's connection, served in the caller's thread until either side has enough."""

    def __init__(self, sock: socket.socket, *, server: str) -> None:
        self.socket = sock
        self._server = server
        self._buffer: memoryview | None = None
        self._pending = memoryview(b"")

    def serve(self, handle: Handler) -> None:
        """Requests one after the other. Returns when the connection is done with; the caller closes it."""
        keep = True
        while keep:
            try:
                request = self._request()
                if request is None:
                    return
                response = handle(request)
                keep = request.headers.get("connection", "").lower() != "close"
                keep = self._drained(request) and keep
                self._send(response, head_only=request.method == "HEAD", keep=keep)
            except (BadRequest, h11.ProtocolError) as error:
                self._send(Response(400, (("Content-Type", "text/plain"),), f"{error}\n".encode()), head_only=False, keep=False)
                return

    def exactly(self, count: int) -> Iterator[memoryview]:
        """`count` bytes from the client."""
        if self._pending and count:
            view, self._pending = self._pending[:count], self._pending[count:]
            count -= len(view)
            yield view
        if count and self._buffer is None:
            self._buffer = memoryview(bytearray(_BUFFER))
        while count and self._buffer is not None:
            received = self.socket.recv_into(self._buffer, min(count, _BUFFER))
            if not received:
                raise ClientGone("connection ended in the middle of a body")
            count -= received
            yield self._buffer[:received]

    def line(self) -> bytes:
        """One line of the chunked coding, without its end."""
        while (end := bytes(self._pending[:_LINE_LIMIT]).find(b"\n")) < 0:
            if len(self._pending) > _LINE_LIMIT:
                raise BadRequest("line of the chunked coding is too long")
            data = self.socket.recv(65536)
            if not data:
                raise ClientGone("connection ended in the middle of a body")
            self._pending = memoryview(bytes(self._pending) + data)
        found = bytes(self._pending[:end]).rstrip(b"\r")
        self._pending = self._pending[end + 1 :]
        return found

    def chunk_size(self) -> int:
        """The size in the line that begins a chunk."""
        text = self.line().partition(b";")[0].strip()
        if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
            raise BadRequest("size of a chunk is not a number")
        return int(text, 16)

    def _request(self) -> Request | None:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
        if self._pending:
            parser.receive_data(bytes(self._pending))
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                self._pending = memoryview(parser.trailing_data[0])
                return self._parsed(event)
            if event is not h11.NEED_DATA:
                return None
            data = self.socket.recv(65536)
            if not data:
                return None
            parser.receive_data(data)

    def _parsed(self, event: h11.Request) -> Request:
        headers: dict[str, str] = {}
        for name, value in event.headers:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        path, _, query = event.target.decode("latin-1").partition("?")
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = None if chunked else int(headers.get("content-length", "0"))
        expects = headers.get("expect", "").lower() == "100-continue"
        body = Body(self, length, expects and length != 0, finished=length == 0)
        return Request(event.method.decode("latin-1"), unquote(path), _first_values(query), headers, body)

    def _drained(self, request: Request) -> bool:
        try:
            return request.body.drain()
        except ClientGone:
            return False

    def _send(self, response: Response, *, head_only: bool, keep: bool) -> None:
        body = response.body
        length = len(body) if isinstance(body, bytes) else body.count
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}", f"Server: {self._server}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        if response.status != 204 and not any(name.lower() == "content-length" for name, _ in response.headers):
            lines.append(f"Content-Length: {length}")
        if not keep:
            lines.append("Connection: close")
        head = "\r\n".join((*lines, "", "")).encode("latin-1", "replace")
        if isinstance(body, bytes):
            self.socket.sendall(head if head_only else head + body)
            return
        with body.file:
            self.socket.sendall(head)
            if not head_only:
                self._send_file(body)

    def _send_file(self, part: FilePart) -> None:
        if isinstance(self.socket, ssl.SSLSocket):
            part.file.seek(part.offset)
            self.socket.sendfile(part.file, part.offset, part.count)
            return
        offset, left = part.offset, part.count
        while left:
            sent = os.sendfile(self.socket.fileno(), part.file.fileno(), offset, min(left, 1 << 30))
            if not sent:
                raise ClientGone("file ended before its size")
            offset, left = offset + sent, left - sent


def _first_values(query: str) -> dict[str, str]:
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise BadRequest(f"query has more than {_MOST_FIELDS} fields") from None
    return {key: values[0] for key, values in fields.items()}


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Unknown"
