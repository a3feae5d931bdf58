"""/networks: the two that are there without any set-up, `none` and `host`; /swarm and /plugins, which there are not."""

from __future__ import annotations

from lamina.api.backend import Backend, Document
from lamina.api.message import Request, Response, json_reply
from lamina.api.router import Route
from lamina.errors import NotFound, Unavailable, Unsupported
from lamina.network.mode import built_in_networks


class NetworkNotFound(NotFound):
    """No network has that name or ID."""


def list_all(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /networks."""
    filters = request.query.filters()
    return json_reply([document for document in built_in_networks() if _passes(document, filters)])


def _passes(document: Document, filters: dict[str, list[str]]) -> bool:
    for key, values in filters.items():
        if key == "name" and not any(value in document["Name"] for value in values):
            return False
        if key == "id" and not any(document["Id"].startswith(value) for value in values):
            return False
        if key == "driver" and document["Driver"] not in values:
            return False
        if key == "label" or (key == "type" and "builtin" not in values):
            return False
    return True


def inspect(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /networks/{id}."""
    wanted = request.parameters["id"]
    for document in built_in_networks():
        if wanted == document["Name"] or (len(wanted) >= 4 and document["Id"].startswith(wanted)):
            return json_reply(document)
    raise NetworkNotFound(f"network {wanted} not found")


def unavailable(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """Everything that makes or changes networks."""
    raise Unsupported("networks other than none and host are not available yet")


def no_swarm(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """Everything about clusters, as a daemon answers that is in none."""
    raise Unavailable("this node is not a swarm manager")


def no_plugin(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /plugins/{name}/json."""
    raise NotFound(f"plugin {request.parameters['name']} not found")


def no_plugins(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /plugins."""
    return json_reply([])


def prune(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """POST /networks/prune: there is nothing to remove."""
    return json_reply({"NetworksDeleted": []})


_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")
ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/networks", list_all),
    Route("POST", "/networks/prune", prune),
    Route("POST", "/networks/create", unavailable),
    Route("POST", "/networks/{id}/connect", unavailable),
    Route("POST", "/networks/{id}/disconnect", unavailable),
    Route("GET", "/networks/{id}", inspect),
    Route("DELETE", "/networks/{id}", unavailable),
    Route("GET", "/plugins", no_plugins),
    Route("GET", "/plugins/{name:path}/json", no_plugin),
    *(Route("GET", f"/{name}", no_swarm) for name in _SWARM),
    *(Route("GET", f"/{name}/{{id}}", no_swarm) for name in _SWARM),
)
