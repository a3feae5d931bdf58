"""Registries for tests: Lamina's own in this process, and one in front of it that misbehaves on demand."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lamina.registry.http import Connection, FilePart, Request, Response
from lamina.registry.server import RegistryServer, ServeOptions

Fault = Callable[[Request, Response], Response | None]
"""Sees a request and the good answer; gives another answer, or None to cut the connection."""


def started(root: Path, **options: object) -> RegistryServer:
    """A registry on a free port of loopback; the caller closes it."""
    server = RegistryServer(replace(ServeOptions(str(root), "127.0.0.1:0"), **options))  # type: ignore[arg-type]
    server.start()
    return server


def host(server: RegistryServer) -> str:
    return "{}:{}".format(*server.address)


@dataclass
class Faulty:
    """Answers as `server` would, but through `fault`; remembers what was asked."""

    server: RegistryServer
    fault: Fault = lambda request, response: response
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = "{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def requests(self, method: str, part: str) -> int:
        """How often a path with `part` in it was asked for."""
        return sum(asked == method and part in path for asked, path in self.asked)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            Connection(connection, server="faulty").serve(self._answer)

    def _answer(self, request: Request) -> Response:
        self.asked.append((request.method, request.path))
        self.headers.append(dict(request.headers))
        answer = self.fault(request, self.server._service.answer(request))
        if answer is None:
            raise ConnectionResetError("cut on purpose")
        return answer


def in_memory(response: Response) -> bytes:
    """The body of an answer, read out of its file where it is one."""
    if isinstance(response.body, bytes):
        return response.body
    with response.body.file as file:
        file.seek(response.body.offset)
        data = b""
        while len(data) < response.body.count and (more := file.read(response.body.count - len(data))):
            data += more
        return data


def cut_after(response: Response, count: int) -> Response:
    """The same answer, whose connection ends after `count` bytes of the body while its head promises all."""
    assert isinstance(response.body, FilePart)
    part = response.body
    beginning = tempfile.TemporaryFile()
    with part.file as file:
        file.seek(part.offset)
        beginning.write(file.read(min(count, part.count)))
    beginning.flush()
    # Sending ends where the file does.
    return replace(response, body=FilePart(beginning, 0, part.count))


def stall_after(response: Response, count: int) -> Response:
    """The same answer, of whose body nothing comes after `count` bytes while the connection stays."""
    assert isinstance(response.body, FilePart)
    promised = ("Content-Length", str(response.body.count))
    return replace(response, headers=(*response.headers, promised), body=replace(response.body, count=min(count, response.body.count)))
