"""/lamina: what Docker's API has no words for: layers, and the files in them."""

from __future__ import annotations

from lamina.api.backend import Backend
from lamina.api.message import Request, Response, json_reply
from lamina.api.router import Route


def info(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /lamina/info."""
    return json_reply(engine.system.details())


def paths(engine: Backend, request: Request) -> Response:
    """GET /lamina/containers/{id}/paths: where on the host its files are."""
    container = engine.containers.get(request.parameters["id"])
    return json_reply({"diff": container.upper, "init": container.init_layer, "root": container.directory, "log": container.log_path})


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/lamina/info", info),
    Route("GET", "/lamina/containers/{id}/paths", paths),
)
