"""/_ping, /version, /info, /events, /system/df, /auth."""

from __future__ import annotations

import time
from collections.abc import Callable

from lamina.api.backend import Backend, Events
from lamina.api.message import InvalidParameter, Reply, Request, Response, Streamed, Writer, encode, json_reply
from lamina.api.render import sized
from lamina.api.router import Route
from lamina.api.times import nanoseconds
from lamina.apitypes.events import Event
from lamina.apitypes.requests import AuthConfig
from lamina.distribution.auth import Auth

_PING = (
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
)


_KINDS = ("container", "image", "volume", "build-cache")


def ping(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET, HEAD /_ping."""
    return Reply(200, b"OK", _PING)


def version(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /version."""
    return json_reply(engine.system.version())


def info(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /info."""
    return json_reply(engine.system.info())


def disk_usage(engine: Backend, request: Request) -> Response:
    """GET /system/df."""
    kinds = request.query.all("type")
    if unknown := [kind for kind in kinds if kind not in _KINDS]:
        raise InvalidParameter(f"unknown object type: {unknown[0][:100]}")
    document = engine.system.disk_usage(kinds)
    if document["Images"]:
        document = {**document, "Images": [sized(image, request.api_version) for image in document["Images"]]}
    return json_reply(document)


def auth(engine: Backend, request: Request) -> Response:
    """POST /auth."""
    config = request.document(AuthConfig)
    result = engine.registry.login(Auth(config.username, config.password, config.identitytoken, config.registrytoken, config.serveraddress))
    return json_reply({"Status": result.status, "IdentityToken": result.identity_token})


def events(engine: Backend, request: Request) -> Response:
    """GET /events: one JSON object per line, each sent at once; listening begins before the head is sent."""
    asked = request.query.text("since"), request.query.text("until")
    since, until = map(nanoseconds, asked)
    if until is not None and since is not None and until < since:
        raise InvalidParameter(f"`since` time ({asked[0]}) cannot be after `until` time ({asked[1]})")
    filters = request.query.filters()
    known = lambda event: request.api_version >= (1, 46) or (event.type, event.action) != ("image", "create")  # noqa: E731
    return Streamed(lambda writer: _send_events(engine.events.subscribe(filters, since_ns=since, until_ns=until), writer, until, known))


def _send_events(source: Events, writer: Writer, until_ns: int | None, known: Callable[[Event], bool]) -> None:
    """`known`: whether clients of the version asked for know such an event."""
    try:
        writer.start()
        while not source.closed:
            event = source.get(1.0)
            if until_ns is not None and (event.time_ns if event else time.time_ns()) > until_ns:
                return
            if event and known(event):
                writer.write(encode(event_document(event)))
            elif writer.gone():
                return
    finally:
        source.close()


def event_document(event: Event) -> dict[str, object]:
    """An event as the API's EventMessage, with the old fields that clients before 1.22 read."""
    document: dict[str, object] = {}
    if event.type == "container":
        document |= {"status": event.action, "id": event.id, "from": event.attributes.get("image", "")}
    elif event.type == "image":
        document |= {"status": event.action, "id": event.id}
    return document | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/events", events),
    Route("GET", "/system/df", disk_usage),
    Route("POST", "/auth", auth),
)
