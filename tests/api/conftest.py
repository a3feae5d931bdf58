"""A server of the API over fakes of the rooms, on a unix socket, and a client of it."""

from __future__ import annotations

import http.client
import io
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lamina.api import app
from lamina.api.listen import listen
from lamina.container.attaching import InvalidDetachKeys
from lamina.container.model import ContainerNotFound, State
from lamina.container.requests import AttachRequest, Created, LogQuery, PathStat, WaitResult
from lamina.daemon.events import EventBus
from lamina.errors import InvalidArgument, NotModified
from lamina.image.model import ImageNotFound
from lamina.network.model import Network, NetworkNotFound
from lamina.network.requests import NetworkRequest
from lamina.runtime.abilities import Abilities
from lamina.worker.incoming import Loan, arriving
from lamina.worker.outgoing import Outlet, departing


class FakeWaiter:
    """A wait that ends when it is told."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def result(self, timeout: float | None = None) -> WaitResult | None:
        return WaitResult(7) if self.ended.wait(timeout) else None

    def close(self) -> None:
        self.ended.set()

    def __enter__(self) -> FakeWaiter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class FakeContainers:
    """One container, called c."""

    waiter: FakeWaiter = field(default_factory=FakeWaiter)
    created: list[Any] = field(default_factory=list)
    attached: list[AttachRequest] = field(default_factory=list)
    queries: list[LogQuery] = field(default_factory=list)
    abilities: Abilities = field(default_factory=Abilities)

    def get(self, ref: str) -> Any:
        if ref != "c":
            raise ContainerNotFound(f"no such container: {ref}")
        return SimpleNamespace(id="c", tty=False, state=SimpleNamespace(status=State.RUNNING))

    def check_attachable(self, ref: str, detach_keys: str = "") -> Any:
        if detach_keys:
            raise InvalidDetachKeys(f"Invalid detach keys: {detach_keys}")
        return self.get(ref)

    def create(self, config: Any, host_config: Any, networking: Any, *, name: str, platform: str) -> Created:
        self.created.append((config, host_config, networking, name, platform))
        return Created("c", ("a warning",))

    def start(self, ref: str, *, detach_keys: str = "", verify: bool = False) -> None:
        self.get(ref)
        raise NotModified("it runs")

    def wait(self, ref: str, condition: str) -> FakeWaiter:
        self.get(ref)
        return self.waiter

    def attach(self, ref: str, request: AttachRequest) -> None:
        self.attached.append(request)
        request.accept()
        os.write(request.fd, b"<" + request.pending + b">")

    def logs(self, ref: str, query: LogQuery) -> Iterator[bytes]:
        self.queries.append(query)
        if query.tail == 13:
            raise InvalidArgument("it cannot be opened")
        yield from (b"", b"one", b"", b"two")

    def archive_stat(self, ref: str, path: str) -> PathStat:
        return PathStat(path.rpartition("/")[2], 3, 0o644, "2024-01-01T00:00:00Z", "")

    def archive_get(self, ref: str, path: str, out: Outlet) -> PathStat:
        if path == "/broken":
            raise InvalidArgument("it broke")
        target = departing(out.params, out.fd, out.hear)
        target.write(b"tar bytes")
        target.finish()
        return self.archive_stat(ref, path)

    def archive_put(self, ref: str, path: str, source: Loan, **options: bool) -> None:
        with arriving(source.lend(), source.fileno(), source.take_back) as body:
            self.created.append(b"".join(body.pieces))

    def exec_check(self, exec_id: str) -> bool:
        return False

    def exec_inspect(self, exec_id: str) -> dict[str, object]:
        return {"ID": exec_id, "OpenStdin": True, "Running": False, "ExitCode": 0}

    def exec_start(self, exec_id: str, request: AttachRequest | None = None, *, size: object = None) -> None:
        assert request is not None
        request.accept()
        raise InvalidArgument("executable file not found in $PATH")


@dataclass
class FakeImages:
    """No images."""

    loaded: list[bytes] = field(default_factory=list)
    roots: Sequence[Any] = ()

    def tree(self) -> Sequence[Any]:
        return self.roots

    def resolve(self, text: str, platform: Any = None) -> Any:
        raise ImageNotFound(f"no such image: {text}")

    def list(self, *, all: bool, filters: Mapping[str, Sequence[str]]) -> Sequence[Any]:
        return []

    def load(self, source: io.RawIOBase, sink: Any, *, platform: Any = None) -> None:
        self.loaded.append(source.readall())


@dataclass
class FakeRegistry:
    """Pulls fail after a line of progress."""

    pulled: list[Any] = field(default_factory=list)

    def pull(self, reference: Any, *, platform: Any, all_tags: bool, auth: Any, sink: Any, verify: bool = False) -> None:
        from lamina.errors import NotFound
        from lamina.spec.progress import Update

        self.pulled.append((str(reference), all_tags, auth.username))
        if reference.path == "library/absent":
            raise NotFound("manifest unknown")
        sink(Update(status="Downloading", id="abc", current=1, total=2))
        raise NotFound("a blob is gone")


@dataclass
class FakeBuilder:
    """Remembers what it was asked."""

    asked: list[Any] = field(default_factory=list)

    def build(self, request: Any, sink: Any, cancellation: Any) -> None:
        from lamina.spec.progress import Update

        if request.context.fd is None:
            self.asked.append((request, b""))
        else:
            with os.fdopen(os.dup(request.context.fd), "rb") as file:
                self.asked.append((request, file.read()))
        sink(Update(stream="Step 1/1 : FROM scratch\n"))
        sink(Update(aux={"ID": "sha256:1"}))


class FakeNetworks:
    """One network, and what was asked for."""

    def host_gateway(self) -> str:
        return "172.17.0.1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def list(self, filters: object) -> list[dict[str, Any]]:
        return [{"Name": "bridge"}]

    def inspect(self, ref: str, *, verbose: bool, scope: str) -> dict[str, Any]:
        if ref != "bridge":
            raise NetworkNotFound(f"network {ref} not found")
        return {"Name": ref}

    def create(self, request: NetworkRequest) -> tuple[Network, str]:
        self.asked.append(("create", request))
        return Network("1" * 64, request.name), "careful"

    def connect(self, ref: str, container: str, settings: object) -> None:
        self.asked.append(("connect", (ref, container, settings)))


@dataclass
class FakeEngine:
    """See api.backend.Backend."""

    containers: FakeContainers = field(default_factory=FakeContainers)
    images: FakeImages = field(default_factory=FakeImages)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    builder: FakeBuilder = field(default_factory=FakeBuilder)
    networks: FakeNetworks = field(default_factory=FakeNetworks)
    events: EventBus = field(default_factory=EventBus)


class Client:
    """HTTP over the unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(120)
        sock.connect(self._path)
        return sock

    def open(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("lamina", timeout=120)
        connection.sock = self.connect()
        connection.request(method, f"/v1.51{path}", body, dict(headers or {}))
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        response = self.open(method, path, body, headers)
        return response.status, response.read()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def api(engine: FakeEngine, tmp_path: Path) -> Iterator[Client]:
    server = app.server(engine, "0")  # type: ignore[arg-type]
    path = str(tmp_path / "api.sock")
    server.listen(listen(f"unix://{path}"))
    yield Client(path)
    server.close()
