"""POST /build, the classic builder's request, and /build/prune."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping

import msgspec

from lamina.api.backend import Backend
from lamina.api.message import InvalidParameter, Query, Request, Response, Writer, json_reply
from lamina.api.router import Route
from lamina.api.routes.images import platform_of
from lamina.api.streams import progress, watching
from lamina.builder.request import BuildRequest, Cancellation, Context
from lamina.distribution.auth import Auth
from lamina.distribution.protocol import registry_host, server_host
from lamina.errors import Unsupported
from lamina.spec.progress import Sink
from lamina.spec.reference import Reference


def build(engine: Backend, request: Request) -> Response:
    """POST /build: the context is a tar in the body; a client that goes away cancels the build."""
    asked = request.query
    _refuse_unavailable(asked)
    credentials = credentials_of(registry_config(request.headers.get("x-registry-config", "")))
    tags = tuple(Reference.parse(tag).with_default_tag() for tag in asked.all("t"))
    build_args, labels = _mapping(asked, "buildargs"), _mapping(asked, "labels")
    platform, cache_from = platform_of(request), _strings(asked, "cachefrom")

    def work(sink: Sink, writer: Writer) -> None:
        cancellation = Cancellation()
        with request.body.piped() as source, watching(writer, cancellation.cancel):
            engine.builder.build(
                BuildRequest(
                    context=Context(fd=source),
                    dockerfile=asked.text("dockerfile", "Dockerfile"),
                    tags=tags,
                    build_args=build_args,
                    labels={name: value or "" for name, value in labels.items()},
                    target=asked.text("target"),
                    no_cache=asked.flag("nocache"),
                    pull=asked.flag("pull"),
                    quiet=asked.flag("q"),
                    network=_network(asked.text("networkmode")),
                    platform=platform,
                    cache_from=cache_from,
                    extra_hosts=tuple(value for text in asked.all("extrahosts") for value in text.split(",")),
                    credentials=credentials,
                ),
                sink,
                cancellation,
            )

    return progress(work)


def _refuse_unavailable(query: Query) -> None:
    if query.text("remote"):
        raise Unsupported("building from a remote context is not available yet", hint="fetch it and send it as the context")
    if query.text("version", "1") != "1":
        raise Unsupported("BuildKit's builder is not available yet", hint="set DOCKER_BUILDKIT=0")
    if query.flag("squash"):
        raise Unsupported("squashing layers is not available yet")


def _network(mode: str) -> str:
    return "" if mode in ("default", "bridge") else mode


def _mapping(query: Query, name: str) -> dict[str, str | None]:
    document = query.document(name) or {}
    if not isinstance(document, dict):
        raise InvalidParameter(f"invalid value for {name}: not an object")
    return {str(key): None if value is None else str(value) for key, value in document.items()}


def _strings(query: Query, name: str) -> tuple[str, ...]:
    document = query.document(name) or []
    if not isinstance(document, list):
        raise InvalidParameter(f"invalid value for {name}: not a list")
    return tuple(str(item) for item in document)


def registry_config(header: str) -> dict[str, Auth]:
    """`X-Registry-Config`: base64url of credentials by registry."""
    if not header:
        return {}
    try:
        text = header.replace("+", "-").replace("/", "_").rstrip("=")
        document = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}", type=dict[str, dict[str, object]])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise InvalidParameter("invalid X-Registry-Config header")
    return {server: Auth.from_fields(fields) for server, fields in document.items()}


def credentials_of(config: Mapping[str, Auth]) -> Callable[[Reference], Auth | None]:
    """What finds the credentials for a reference's registry; keys are hosts or URLs, as docker login stores them."""
    by_host = {registry_host(server_host(server)): auth for server, auth in config.items()}
    return lambda reference: by_host.get(registry_host(reference.domain))


def prune(engine: Backend, request: Request) -> Response:
    """POST /build/prune."""
    return json_reply(engine.system.prune_build_cache(all=request.query.flag("all")))


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/build", build),
    Route("POST", "/build/prune", prune),
)
