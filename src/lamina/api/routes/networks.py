"""/networks: made, listed, removed, and containers on them."""

from __future__ import annotations

import msgspec

from lamina.api.backend import Backend
from lamina.api.message import Reply, Request, Response, json_reply
from lamina.api.router import Route
from lamina.apitypes.requests import NetworkConnect, NetworkCreate, NetworkDisconnect
from lamina.network.requests import NetworkRequest


def list_all(engine: Backend, request: Request) -> Response:
    """GET /networks."""
    return json_reply(list(engine.networks.list(request.query.filters())))


def inspect(engine: Backend, request: Request) -> Response:
    """GET /networks/{id}."""
    query = request.query
    return json_reply(engine.networks.inspect(request.parameters["id"], verbose=query.flag("verbose"), scope=query.text("scope")))


def create(engine: Backend, request: Request) -> Response:
    """POST /networks/create."""
    asked = request.document(NetworkCreate)
    ipam = asked.ipam
    made, warning = engine.networks.create(
        NetworkRequest(
            name=asked.name,
            driver=asked.driver,
            scope=asked.scope,
            internal=asked.internal,
            attachable=asked.attachable,
            ingress=asked.ingress,
            config_only=asked.config_only,
            config_from=asked.config_from.network if asked.config_from else "",
            ipv4=asked.enable_ipv4,
            ipv6=asked.enable_ipv6,
            ipam_driver=ipam.driver if ipam else "default",
            ipam_options=ipam.options if ipam else None,
            ipam=[msgspec.to_builtins(entry) for entry in ipam.config or ()] if ipam else (),
            options=asked.options or {},
            labels=asked.labels or {},
        )
    )
    return json_reply({"Id": made.id, "Warning": warning}, 201)


def remove(engine: Backend, request: Request) -> Response:
    """DELETE /networks/{id}."""
    engine.networks.remove(request.parameters["id"])
    return Reply(204)


def connect(engine: Backend, request: Request) -> Response:
    """POST /networks/{id}/connect."""
    asked = request.fields(NetworkConnect)
    engine.networks.connect(request.parameters["id"], asked.get("Container") or "", asked.get("EndpointConfig"))
    return Reply(200)


def disconnect(engine: Backend, request: Request) -> Response:
    """POST /networks/{id}/disconnect."""
    asked = request.document(NetworkDisconnect)
    engine.networks.disconnect(request.parameters["id"], asked.container, force=asked.force)
    return Reply(200)


def prune(engine: Backend, request: Request) -> Response:
    """POST /networks/prune."""
    return json_reply({"NetworksDeleted": list(engine.networks.prune(request.query.filters()))})


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/networks", list_all),
    Route("GET", "/networks/", list_all),
    Route("POST", "/networks/prune", prune),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/{id:path}/connect", connect),
    Route("POST", "/networks/{id:path}/disconnect", disconnect),
    Route("GET", "/networks/{id:path}", inspect),
    Route("DELETE", "/networks/{id:path}", remove),
)
