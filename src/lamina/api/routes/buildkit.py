"""/grpc and /session, BuildKit's protocol: connections that become HTTP/2, and gRPC over it. What serves them is loaded with the first.

Connections are accepted before that: docker CLIs before 23 wait for ever for a session that is accepted after their build was refused.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lamina.api.backend import Backend
from lamina.api.message import Hijacked, InvalidParameter, Request, Response
from lamina.api.router import Route

if TYPE_CHECKING:
    from lamina.buildkit.service import BuildKit

_lock = threading.Lock()
_served: WeakKeyDictionary[Backend, BuildKit] = WeakKeyDictionary()


def _service(engine: Backend) -> BuildKit:
    """What serves the engine's connections."""
    from lamina.buildkit.service import BuildKit

    with _lock:
        found = _served.get(engine)
        if found is None:
            found = _served[engine] = BuildKit(engine.builder, engine.system, lambda: engine.networks.host_gateway())
        return found


def grpc(engine: Backend, request: Request) -> Response:
    """POST /grpc: the client calls."""
    _check(request)

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
        accept()
        with socket.socket(fileno=socket.dup(fd)) as sock:
            _service(engine).serve(sock, pending)

    return Hijacked(take, content_type="")


def session(engine: Backend, request: Request) -> Response:
    """POST /session: the daemon calls."""
    _check(request)
    name = request.headers.get("x-docker-expose-session-uuid", "")
    if not name:
        raise InvalidParameter("a session needs an ID", hint="X-Docker-Expose-Session-Uuid")

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
        accept()
        with socket.socket(fileno=socket.dup(fd)) as sock:
            _service(engine).hold(name, sock, pending)

    return Hijacked(take, content_type="")


def _check(request: Request) -> None:
    if request.headers.get("upgrade", "").lower() != "h2c":
        raise InvalidParameter("BuildKit's protocol needs an upgrade to h2c")


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/grpc", grpc),
    Route("POST", "/session", session),
)
