"""/volumes."""

from __future__ import annotations

from lamina.api.backend import Backend
from lamina.api.message import Reply, Request, Response, json_reply
from lamina.api.router import Route
from lamina.apitypes.requests import VolumeCreate
from lamina.errors import Unavailable
from lamina.network.requests import NO_SWARM


def list_all(engine: Backend, request: Request) -> Response:
    """GET /volumes."""
    found = engine.volumes.list(request.query.filters())
    return json_reply({"Volumes": [volume.document() for volume in found], "Warnings": None})


def create(engine: Backend, request: Request) -> Response:
    """POST /volumes/create."""
    asked = request.document(VolumeCreate)
    if asked.cluster_volume_spec is not None:
        raise Unavailable(NO_SWARM)
    made = engine.volumes.create(asked.name, driver=asked.driver or "local", labels=asked.labels, options=asked.driver_opts)
    return json_reply(made.document(), 201)


def inspect(engine: Backend, request: Request) -> Response:
    """GET /volumes/{name}."""
    return json_reply(engine.volumes.get(request.parameters["name"]).document())


def remove(engine: Backend, request: Request) -> Response:
    """DELETE /volumes/{name}."""
    engine.volumes.remove(request.parameters["name"], force=request.query.flag("force"))
    return Reply(204)


def prune(engine: Backend, request: Request) -> Response:
    """POST /volumes/prune."""
    filters = request.query.filters()
    if request.api_version < (1, 42):  # anonymous or not: there was no filter `all`
        filters["all"] = ["true"]
    removed, space = engine.volumes.prune(filters)
    return json_reply({"VolumesDeleted": list(removed), "SpaceReclaimed": space})


def update(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """PUT /volumes/{name}: only volumes of a cluster can be changed."""
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/volumes", list_all),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name:path}", inspect),
    Route("PUT", "/volumes/{name:path}", update),
    Route("DELETE", "/volumes/{name:path}", remove),
)
