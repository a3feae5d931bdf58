"""Swarm: /swarm, /nodes, /services, /tasks, /secrets, /configs answer as an engine that is in no swarm; it can join none either."""

from __future__ import annotations

from lamina.api.backend import Backend
from lamina.api.message import Request, Response
from lamina.api.router import Route
from lamina.errors import Unavailable, Unsupported
from lamina.network.requests import NO_SWARM

_MANAGED = (
    ("GET", "/swarm"),
    ("POST", "/swarm/update"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    ("GET", "/nodes"),
    ("GET", "/nodes/{id:path}"),
    ("DELETE", "/nodes/{id:path}"),
    ("POST", "/nodes/{id:path}/update"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{id:path}"),
    ("GET", "/tasks/{id:path}/logs"),
    ("GET", "/services/{id:path}/logs"),
    *(
        row
        for kind in ("services", "secrets", "configs")
        for row in (
            ("GET", f"/{kind}"),
            ("POST", f"/{kind}/create"),
            ("GET", f"/{kind}/{{id:path}}"),
            ("DELETE", f"/{kind}/{{id:path}}"),
            ("POST", f"/{kind}/{{id:path}}/update"),
        )
    ),
)


class NoSwarm(Unavailable):
    """What only a swarm has was asked for. The words are dockerd's outside a swarm, and clients compare them."""


class NoSwarmMode(Unsupported):
    """A swarm was to be made or joined."""


def not_a_manager(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """Whatever only a manager of a swarm answers."""
    raise NoSwarm(NO_SWARM)


def leave(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """POST /swarm/leave."""
    raise NoSwarm("This node is not part of a swarm")


def begin(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """POST /swarm/init, /swarm/join."""
    raise NoSwarmMode("Lamina runs on one machine: it has no swarm mode", hint="docker compose runs several containers on one machine")


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/swarm/init", begin),
    Route("POST", "/swarm/join", begin),
    Route("POST", "/swarm/leave", leave),
    *(Route(method, template, not_a_manager) for method, template in _MANAGED),
)
