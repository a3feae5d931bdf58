"""/plugins: none are installed, and none can be."""

from __future__ import annotations

from lamina.api.backend import Backend
from lamina.api.message import InvalidParameter, Request, Response, json_reply
from lamina.api.router import Route
from lamina.errors import NotFound, Unsupported

_ONE = (
    ("GET", "/plugins/{name:path}/json"),
    ("DELETE", "/plugins/{name:path}"),
    ("POST", "/plugins/{name:path}/enable"),
    ("POST", "/plugins/{name:path}/disable"),
    ("POST", "/plugins/{name:path}/upgrade"),
    ("POST", "/plugins/{name:path}/push"),
    ("POST", "/plugins/{name:path}/set"),
)
_FILTERS = frozenset({"enabled", "capability"})


class PluginNotFound(NotFound):
    """No plugin has that name: none has."""


class NoPlugins(Unsupported):
    """A plugin was to be installed or made."""


def listing(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /plugins."""
    unknown = sorted(set(request.query.filters()) - _FILTERS)
    if unknown:
        raise InvalidParameter(f"invalid filter '{unknown[0]}'")
    return json_reply([])


def one(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """Whatever is asked of one plugin."""
    raise PluginNotFound(f'plugin "{request.parameters["name"][:200]}" not found')


def add(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /plugins/privileges (which the docker CLI asks before it installs), POST /plugins/pull and /plugins/create."""
    raise NoPlugins("Lamina takes no plugins: volumes, networks and logs are its own")


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/plugins", listing),
    Route("GET", "/plugins/privileges", add),
    Route("POST", "/plugins/pull", add),
    Route("POST", "/plugins/create", add),
    *(Route(method, template, one) for method, template in _ONE),
)
