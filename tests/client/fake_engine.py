"""An engine that answers from a table and remembers what it was asked: a fake for tests of the client and the CLI."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


Handler = Callable[[Request, socket.socket], bytes | None]


def reply(body: object = None, *, status: int = 200, headers: str = "", raw: bytes | None = None, type: str = "application/json") -> bytes:
    """A whole answer; JSON unless `raw` bytes are given."""
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: {type}\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


def chunked(*pieces: bytes) -> bytes:
    """An answer in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def json_lines(*messages: object) -> bytes:
    """A stream of JSON messages."""
    return chunked(*(json.dumps(message).encode() + b"\r\n" for message in messages))


def frame(kind: int, data: bytes) -> bytes:
    """One frame of a multiplexed stream."""
    return struct.pack(">BxxxI", kind, len(data)) + data


UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


@dataclass
class FakeEngine:
    """`routes` maps `METHOD /path` to an answer or to a handler, which may write to the socket itself and gives None then."""

    path: str
    routes: dict[str, bytes | Handler] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    @property
    def host(self) -> str:
        """What --host takes."""
        return f"unix://{self.path}"

    def asked(self) -> list[str]:
        """`METHOD /path` of every request, in order."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def serve(self, connection: socket.socket) -> None:
        """Answer one connection's requests."""
        with connection, connection.makefile("rb") as file:
            while (request := _read(file)) is not None:
                self.requests.append(request)
                answer = self.routes.get(
                    f"{request.method} {request.path}", reply({"message": f"page not found: {request.path}"}, status=404)
                )
                data = answer(request, connection) if callable(answer) else answer
                if data is None:
                    return
                connection.sendall(data)


def _read(file) -> Request | None:  # type: ignore[no-untyped-def]
    head = file.readline().decode().split()
    if not head:
        return None
    headers = {}
    while line := file.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    else:
        body = file.read(int(headers.get("content-length", 0)))
    path, _, query = head[1].partition("?")
    return Request(head[0], path, query, headers, body)


@contextmanager
def fake_engine(directory: str) -> Iterator[FakeEngine]:
    """A running engine on a socket in `directory`."""
    path = os.path.join(directory, "engine.sock")
    engine = FakeEngine(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_quietly, args=(engine, connection), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield engine
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def _quietly(engine: FakeEngine, connection: socket.socket) -> None:
    try:
        engine.serve(connection)
    except (BrokenPipeError, ConnectionResetError):
        pass
