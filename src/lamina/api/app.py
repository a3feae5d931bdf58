"""The API of one engine: all routes, and the headers that every response carries."""

from __future__ import annotations

from lamina.api.backend import Backend
from lamina.api.carrying import Carriers
from lamina.api.errors import failure
from lamina.api.http import Server
from lamina.api.router import MAX_VERSION, Route, Router
from lamina.api.routes import (
    attach,
    build,
    buildkit,
    containers,
    exec,
    explore,
    images,
    lamina,
    networks,
    plugins,
    session,
    snapshots,
    swarm,
    system,
    volumes,
)

_ROOMS = (
    system,
    containers,
    attach,
    exec,
    images,
    build,
    buildkit,
    volumes,
    networks,
    plugins,
    session,
    swarm,
    session,
    explore,
    snapshots,
    lamina,
)


def routes() -> tuple[Route[Backend], ...]:
    """Every route, in the order in which templates are tried."""
    return tuple(route for room in _ROOMS for route in room.ROUTES)


def server(engine: Backend, version: str, *, experimental: bool = False, carriers: Carriers | None = None) -> Server:
    """A server of `engine`'s API that listens nowhere yet. `experimental`: what the docker CLI asks before it offers some flags;
    `carriers` move long bodies."""
    headers = (
        ("Api-Version", f"{MAX_VERSION[0]}.{MAX_VERSION[1]}"),
        ("Ostype", "linux"),
        ("Docker-Experimental", "true" if experimental else "false"),
        ("Server", f"Lamina/{version} (linux)"),
    )
    return Server(Router(engine, routes()), failure, headers, carriers)
