"""/containers/{id}/attach, and the same for websockets."""

from __future__ import annotations

import socket
from collections.abc import Callable

from lamina.api.backend import Backend
from lamina.api.message import Hijacked, Query, Request, Response
from lamina.api.router import Route
from lamina.api.websocket import Relay, accepted
from lamina.container.requests import AttachRequest

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def stream_type(request: Request, *, tty: bool) -> str:
    """The media type of a container's streams (since API 1.42 it tells whether they are in frames)."""
    return RAW if tty or request.api_version < (1, 42) else MULTIPLEXED


def attach(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/attach: the connection becomes the container's streams and is handed to its monitor."""
    container = engine.containers.check_attachable(request.parameters["id"], request.query.text("detachKeys"))

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
        engine.containers.attach(container.id, _asked(request.query, fd, pending, accept))

    return Hijacked(take, stream_type(request, tty=container.tty))


def attach_websocket(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/attach/ws: the streams as binary messages, output without Docker's frames. It ends with the daemon."""
    container = engine.containers.check_attachable(request.parameters["id"], request.query.text("detachKeys"))
    headers = accepted(request)

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
        inner, given = socket.socketpair()
        relay = Relay(fd, pending, inner, framed=not container.tty)

        def begin() -> None:
            accept()
            relay.start()

        with inner:
            with given:
                engine.containers.attach(container.id, _asked(request.query, given.fileno(), b"", begin))
            relay.run()

    return Hijacked(take, content_type="", headers=headers)


def _asked(query: Query, fd: int, pending: bytes, accept: Callable[[], None]) -> AttachRequest:
    return AttachRequest(
        fd,
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        stream=query.flag("stream"),
        logs=query.flag("logs"),
        detach_keys=query.text("detachKeys"),
        pending=pending,
        accept=accept,
    )


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/containers/{id}/attach", attach),
    Route("GET", "/containers/{id}/attach/ws", attach_websocket),
)
