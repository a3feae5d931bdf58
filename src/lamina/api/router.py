"""The table of routes: method and path template to handler; version prefixes are stripped and checked here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lamina.api.message import InvalidParameter, Request, Response
from lamina.errors import LaminaError, NotFound

MAX_VERSION = (1, 51)
MIN_VERSION = (1, 12)
"""Of what is accepted: skopeo asks for images by 1.22. Advertised is 1.24, whose answers the older ones get."""
_VERSION = re.compile(r"/v(\d{1,3})\.(\d{1,4})(?=/)")
_PLACE = re.compile(r"\{(\w+)(:path)?\}")
Engine = TypeVar("Engine")


class NoSuchRoute(NotFound):
    """The API has no such path."""


class WrongMethod(LaminaError):
    """The path is there, but not with this method."""

    code, http_status = "invalid_argument", 405


@dataclass(frozen=True, slots=True)
class Route(Generic[Engine]):
    """One row: `{name}` in the template is one segment, perhaps with the slash that names of containers begin with in answers;
    `{name:path}` may hold slashes."""

    method: str
    template: str
    handle: Callable[[Engine, Request], Response]


class Router(Generic[Engine]):
    """Finds and calls the handler of a request; a template that comes first in the table wins."""

    def __init__(self, engine: Engine, routes: Iterable[Route[Engine]]) -> None:
        self._engine = engine
        self._table: dict[str, list[tuple[re.Pattern[str], Route[Engine]]]] = {}
        for route in routes:
            first = route.template.split("/")[1]
            self._table.setdefault(first, []).append((_compile(route.template), route))

    def __call__(self, request: Request) -> Response:
        """Answer `request`.

        Raises:
            NoSuchRoute, WrongMethod, InvalidParameter (the version), and what the handler raises.
        """
        version, path = split_version(request.path)
        methods = (request.method, "GET") if request.method == "HEAD" else (request.method,)
        for method in methods:
            for pattern, route in self._table.get(path.split("/", 2)[1] if path.startswith("/") else "", ()):
                match = pattern.fullmatch(path)
                if match and route.method == method:
                    return route.handle(self._engine, replace(request, path=path, parameters=match.groupdict(), api_version=version))
        raise self._unknown(request.method, path)

    def _unknown(self, method: str, path: str) -> LaminaError:
        for pattern, _ in self._table.get(path.split("/", 2)[1] if path.startswith("/") else "", ()):
            if pattern.fullmatch(path):
                return WrongMethod(f"{path[:200]} does not take {method[:20]}")
        return NoSuchRoute(f"page not found: {method[:20]} {path[:200]}")


def split_version(path: str) -> tuple[tuple[int, int], str]:
    """The API version a path asks for (the newest where it names none) and the rest of the path.

    Raises:
        InvalidParameter: the version is older or newer than those served.
    """
    match = _VERSION.match(path)
    if not match:
        return MAX_VERSION, path
    version = int(match[1]), int(match[2])
    shown = f"{version[0]}.{version[1]}"
    if version < MIN_VERSION:
        raise InvalidParameter(
            f"client version {shown} is too old. Minimum supported API version is 1.12, please upgrade your client to a newer version"
        )
    if version > MAX_VERSION:
        raise InvalidParameter(f"client version {shown} is too new. Maximum supported API version is 1.51")
    return version, path[match.end() :]


def _compile(template: str) -> re.Pattern[str]:
    parts: list[str] = []
    at = 0
    for place in _PLACE.finditer(template):
        parts.append(re.escape(template[at : place.start()]))
        parts.append(f"(?P<{place[1]}>{'.+' if place[2] else '/?[^/]+'})")
        at = place.end()
    return re.compile("".join(parts) + re.escape(template[at:]), re.DOTALL)
