"""/exec and /containers/{id}/exec: further commands in running containers."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from lamina.api.backend import Backend
from lamina.api.errors import message_of
from lamina.api.message import Hijacked, InvalidParameter, Reply, Request, Response, json_reply
from lamina.api.router import Route
from lamina.api.routes.attach import stream_type
from lamina.api.routes.containers import size_of
from lamina.apitypes.requests import ExecConfig, ExecStart
from lamina.container.requests import AttachRequest
from lamina.linux.unread import await_reading

_STDERR = 2


def create(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/exec."""
    config = request.fields(ExecConfig)
    if not config.get("Cmd"):
        raise InvalidParameter("No exec command specified")
    return json_reply({"Id": engine.containers.exec_create(request.parameters["id"], config)}, 201)


def start(engine: Backend, request: Request) -> Response:
    """POST /exec/{id}/start: unless detached, the connection becomes the command's streams.

    As with dockerd the body's `Tty` alone says whether they are in frames: clients that create an exec with a terminal and leave
    the field out here (docker-py) read frames. What the command gets is settled by its creation.
    """
    exec_id = request.parameters["id"]
    asked = request.document(ExecStart)
    size = (asked.console_size[0], asked.console_size[1]) if asked.console_size and len(asked.console_size) == 2 else None
    engine.containers.exec_check(exec_id)
    if asked.detach:
        engine.containers.exec_start(exec_id, None, size=size)
        return Reply(200)
    config = engine.containers.exec_inspect(exec_id)

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
        begun = False

        def accepted() -> None:
            nonlocal begun
            begun = True
            accept()

        attach = AttachRequest(
            fd,
            stdin=bool(config.get("OpenStdin")),
            stdout=bool(config.get("OpenStdout", True)),
            stderr=bool(config.get("OpenStderr", True)),
            detach_keys=str(config.get("DetachKeys") or ""),
            pending=pending,
            accept=accepted,
            framed=not asked.tty,
        )
        try:
            engine.containers.exec_start(exec_id, attach, size=size)
        except Exception as error:
            if not begun:
                raise
            # The 101 has gone out: what went wrong can only be told in the stream, as dockerd does.
            await_reading(fd)
            text = f"{message_of(error)}\r\n".encode()
            os.write(fd, text if asked.tty else struct.pack(">BxxxL", _STDERR, len(text)) + text)

    return Hijacked(take, stream_type(request, tty=asked.tty))


def inspect(engine: Backend, request: Request) -> Response:
    """GET /exec/{id}/json."""
    return json_reply(engine.containers.exec_inspect(request.parameters["id"]))


def resize(engine: Backend, request: Request) -> Response:
    """POST /exec/{id}/resize."""
    height, width = size_of(request)
    engine.containers.exec_resize(request.parameters["id"], height, width)
    return Reply(200)


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/containers/{id}/exec", create),
    Route("POST", "/exec/{id}/start", start),
    Route("GET", "/exec/{id}/json", inspect),
    Route("POST", "/exec/{id}/resize", resize),
)
