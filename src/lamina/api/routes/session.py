"""/lamina/build/session: what `lamina build` gives to a build besides its context, held in memory as long as the client's connection is
open."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

import msgspec

from lamina.api.backend import Backend
from lamina.api.message import Hijacked, InvalidParameter, Request, Response, Streamed, Writer, encode
from lamina.api.router import Route

_SECRET_LIMIT = 500 << 10
"""BuildKit's: a secret is not a file transfer."""


class SessionRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """Secrets in base64 by ID, and the IDs of SSH agents."""

    secrets: dict[str, str] = {}
    agents: tuple[str, ...] = ()


def hold(engine: Backend, request: Request) -> Response:
    """POST /lamina/build/session: a line with its ID, then a line whenever a connection to an agent is wanted; it ends with the
    connection."""
    asked = request.document(SessionRequest)
    given = {name: _decoded(name, text) for name, text in asked.secrets.items()}

    def produce(writer: Writer) -> None:
        with engine.builder.sessions.opened(given, asked.agents) as (name, session):
            writer.write(encode({"Id": name}))
            while True:
                wanted = session.wanted(0.2)
                if wanted:
                    writer.write(encode({"Agent": wanted[0], "Connection": wanted[1]}))
                elif writer.gone():
                    return

    return Streamed(produce)


def _decoded(name: str, text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InvalidParameter(f"secret {name[:100]} is not in base64") from None
    if len(data) > _SECRET_LIMIT:
        raise InvalidParameter(f"secret {name[:100]} is larger than {_SECRET_LIMIT >> 10} KiB")
    return data


def connect(engine: Backend, request: Request) -> Response:
    """POST /lamina/build/session/{id}/connections/{number}: the connection becomes one to the agent."""
    session = engine.builder.sessions.get(request.parameters["id"])
    number = request.parameters["number"]

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:  # noqa: ARG001  agents speak when they are asked
        accept()
        session.bring(number, fd)

    return Hijacked(take)


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/lamina/build/session", hold),
    Route("POST", "/lamina/build/session/{id}/connections/{number}", connect),
)
