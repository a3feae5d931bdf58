"""A small client of BuildKit's protocol: what `docker buildx build` says to an engine, without docker buildx."""

from __future__ import annotations

import fnmatch
import os
import secrets
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina.buildkit import tree
from lamina.buildkit.failure import NOT_FOUND, Refused
from lamina.buildkit.http2 import Gone, Stream, Transport
from lamina.buildkit.messages import (
    BytesMessage,
    Definition,
    Empty,
    Exporter,
    GatewaySolveRequest,
    GatewaySolveResponse,
    Packet,
    Result,
    ReturnRequest,
    SecretRequest,
    SolveRequest,
    SolveResponse,
    Stat,
    Status,
    StatusRequest,
    StatusResponse,
)
from lamina.buildkit.wire import decode, encode

CONTROL, BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"


def dial(path: Path, route: str, headers: Mapping[str, str] | None = None) -> socket.socket:
    """A connection that the daemon has turned over to HTTP/2."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(str(path))
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    sock.sendall(f"POST {route} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{lines}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    sock.settimeout(None)
    return sock


@dataclass
class Told:
    """What a build's status said: vertices by name, in order, each as it was told last; and all output."""

    vertices: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    warnings: list[str] = field(default_factory=list)

    def take(self, response: StatusResponse) -> None:
        for vertex in response.vertexes:
            self.vertices[vertex.name] = vertex
        self.output += b"".join(log.msg for log in response.logs).decode()
        self.warnings += [warning.short.decode() for warning in response.warnings]

    @property
    def cached(self) -> list[str]:
        return [name for name, vertex in self.vertices.items() if vertex.cached]


class Client:
    """One client with a session. `folders` are its local directories; `asked` notes which paths were sent."""

    def __init__(self, path: Path, folders: Mapping[str, Path], given: Mapping[str, bytes] | None = None) -> None:
        self.path, self.folders, self.given = path, dict(folders), dict(given or {})
        self.result: Result = Result()
        self.session, self.sent, self.received = secrets.token_hex(12), list[str](), dict[str, bytes]()
        self.local = frozenset[str]()
        self._socks = [dial(path, "/grpc"), dial(path, "/session", {"X-Docker-Expose-Session-Uuid": self.session})]
        self.transport = Transport(self._socks[0])
        for transport in (self.transport, Transport(self._socks[1], self._serve)):
            threading.Thread(target=transport.run, daemon=True).start()

    def close(self) -> None:
        for sock in self._socks:
            sock.shutdown(socket.SHUT_RDWR)

    def call(self, path: str, message: Any, answer: type[Any], build: str = "") -> Any:
        """One call with one answer."""
        stream = self.open(path, message, build)
        raw = stream.receive()
        while stream.receive() is not None:
            pass
        return decode(answer, raw or b"")

    def open(self, path: str, message: Any, build: str = "") -> Stream:
        """A call whose answers are yet to come."""
        stream = self.transport.call(path, [("buildkit-controlapi-buildid", build)] if build else [])
        stream.send(encode(message))
        stream.finish()
        return stream

    def build(
        self,
        attributes: Mapping[str, str] | None = None,
        exporters: Sequence[Exporter] = (),
        inputs: Mapping[str, Definition] | None = None,
    ) -> tuple[Mapping[str, str], Told]:
        """Build as buildx does: by the gateway, with the export in a call beside it."""
        ref, told = secrets.token_hex(12), Told()
        solve = self.open(f"{CONTROL}Solve", SolveRequest(ref=ref, session=self.session, exporters=tuple(exporters)))
        status = threading.Thread(target=self._follow, args=(ref, told))
        status.start()
        try:
            asked = GatewaySolveRequest(frontend="dockerfile.v0", options=dict(attributes or {}), inputs=inputs or {})
            result = self.call(f"{BRIDGE}Solve", asked, GatewaySolveResponse, ref).result
            self.result = result
            self.call(f"{BRIDGE}Return", ReturnRequest(result=Result(ref=result.ref)), Empty, ref)
        except Refused as error:
            self.call(f"{BRIDGE}Return", ReturnRequest(error=Status(error.number, error.message)), Empty, ref)
            raise
        finally:
            try:
                answer = decode(SolveResponse, solve.receive() or b"")
            except Refused:
                answer = SolveResponse()
            status.join(60)
        return answer.exporter_response, told

    def _follow(self, ref: str, told: Told) -> None:
        stream = self.open(f"{CONTROL}Status", StatusRequest(ref))
        while (raw := stream.receive()) is not None:
            told.take(decode(StatusResponse, raw))

    def _serve(self, stream: Stream) -> None:
        served = {
            "/moby.filesync.v1.FileSync/DiffCopy": self._files,
            "/moby.buildkit.secrets.v1.Secrets/GetSecret": self._secret,
            "/moby.filesync.v1.FileSend/DiffCopy": self._take,
            "/moby.upload.v1.Upload/Pull": self._upload,
        }
        try:
            stream.headers_once()
            handler = served.get(stream.headers[":path"])
            if handler is None:
                raise Refused("unknown method", code=12)
            handler(stream)
            stream.trailers([("grpc-status", "0")])
        except Refused as error:
            stream.trailers(error.trailers())

    def _secret(self, stream: Stream) -> None:
        name = decode(SecretRequest, stream.receive() or b"").id
        if name not in self.given:
            raise Refused(f"secret {name}: not found", code=NOT_FOUND)
        stream.send(encode(BytesMessage(self.given[name])))

    def _upload(self, stream: Stream) -> None:
        data = self.given[stream.headers["urlpath"]]
        for begin in range(0, len(data), 1000):
            stream.send(encode(BytesMessage(data[begin : begin + 1000])))

    def _take(self, stream: Stream) -> None:
        number = stream.headers.get("buildkit-attachable-exporter-id", "0")
        if number in self.local:
            with tempfile.TemporaryFile() as file:
                tree.receive(stream, file.fileno(), lambda _: None)
                file.seek(0)
                self.received[number] = file.read()
            return
        data = b""
        while (raw := stream.receive()) is not None:
            data += decode(BytesMessage, raw).data
        self.received[number] = data

    def _files(self, stream: Stream) -> None:
        """fsutil's sending side."""
        folder = self.folders.get(stream.headers["dir-name"])
        if folder is None:
            raise Refused(f"no access allowed to dir {stream.headers['dir-name']!r}", code=NOT_FOUND)
        followed = [value for name, value in stream.fields if name == "followpaths"]
        entries = [entry for entry in _walk(folder, stream.headers.get("exclude-patterns", "")) if _named(entry.path, followed)]
        for entry in entries:
            stream.send(encode(Packet(type=0, stat=entry)))
        stream.send(encode(Packet(type=0)))
        while (raw := stream.receive()) is not None:
            packet = decode(Packet, raw)
            if packet.type == 3:
                stream.send(encode(Packet(type=3)))
                return
            if packet.type == 1:
                path = entries[packet.id].path
                self.sent.append(path)
                data = (folder / path).read_bytes()
                for begin in range(0, len(data), 32 << 10):
                    stream.send(encode(Packet(type=2, id=packet.id, data=data[begin : begin + (32 << 10)])))
                stream.send(encode(Packet(type=2, id=packet.id)))


def _named(path: str, followed: Sequence[str]) -> bool:
    """Whether a path is one of these, above or below one; all are where there are none."""
    return not followed or any(f"{path}/".startswith(f"{each}/") or f"{each}/".startswith(f"{path}/") for each in followed)


def _walk(folder: Path, excluded: str) -> Iterator[Stat]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found = os.lstat(path)
        if excluded and fnmatch.fnmatch(name, excluded):
            continue
        mode = stat.S_IMODE(found.st_mode) | (1 << 31 if stat.S_ISDIR(found.st_mode) else 1 << 27 if stat.S_ISLNK(found.st_mode) else 0)
        link = str(path.readlink()) if path.is_symlink() else ""
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        yield Stat(path=name, mode=mode, size=size, mtime=found.st_mtime_ns, linkname=link)


@contextmanager
def connected(path: Path, folder: Path, given: Mapping[str, bytes] | None = None, **more: Path) -> Iterator[Client]:
    """A client whose context and Dockerfile are in `folder`."""
    client = Client(path, {"context": folder, "dockerfile": folder, **more}, given)
    try:
        yield client
    finally:
        client.close()


__all__ = ["BRIDGE", "CONTROL", "Client", "Gone", "Told", "connected", "dial"]
