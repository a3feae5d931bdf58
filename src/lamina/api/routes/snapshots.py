"""/lamina/containers/{id}: what a container had written at earlier moments, going back to it, and what it writes now."""

from __future__ import annotations

from contextlib import closing

from lamina.api.backend import Backend
from lamina.api.message import InvalidParameter, Reply, Request, Response, Streamed, Writer, encode, json_reply
from lamina.api.router import Route


def list_all(engine: Backend, request: Request) -> Response:
    """GET /lamina/containers/{id}/snapshots: the oldest first."""
    snapshots = engine.containers.snapshots
    return json_reply([snapshots.describe(each) for each in snapshots.list(request.parameters["id"])])


def create(engine: Backend, request: Request) -> Response:
    """POST /lamina/containers/{id}/snapshots: `name` may be left out."""
    snapshots = engine.containers.snapshots
    return json_reply(snapshots.describe(snapshots.create(request.parameters["id"], request.query.text("name"))), 201)


def remove(engine: Backend, request: Request) -> Response:
    """DELETE /lamina/containers/{id}/snapshots/{name}."""
    engine.containers.snapshots.remove(request.parameters["id"], request.parameters["name"])
    return Reply(204)


def rollback(engine: Backend, request: Request) -> Response:
    """POST /lamina/containers/{id}/rollback: to the snapshot `snapshot`."""
    name = request.query.text("snapshot")
    if not name:
        raise InvalidParameter("missing parameter: snapshot")
    engine.containers.snapshots.rollback(request.parameters["id"], name)
    return Reply(204)


def watch(engine: Backend, request: Request) -> Response:
    """GET /lamina/containers/{id}/watch: a JSON object per line for each change, until the container is gone; `existing=1`: first those
    that are there."""
    ref, existing = engine.containers.get(request.parameters["id"]).id, request.query.flag("existing")

    def produce(writer: Writer) -> None:
        writer.start()
        with closing(engine.containers.watch(ref, existing=existing)) as found:
            for seen in found:
                if seen is not None:
                    writer.write(encode(seen.document()))
                elif writer.gone():
                    return

    return Streamed(produce)


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/lamina/containers/{id}/snapshots", list_all),
    Route("POST", "/lamina/containers/{id}/snapshots", create),
    Route("DELETE", "/lamina/containers/{id}/snapshots/{name}", remove),
    Route("POST", "/lamina/containers/{id}/rollback", rollback),
    Route("GET", "/lamina/containers/{id}/watch", watch),
)
