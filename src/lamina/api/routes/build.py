"""POST /build, the classic builder's request, and /build/prune."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from lamina.api.backend import Backend
from lamina.api.message import InvalidParameter, Query, Request, Response, Writer, json_reply
from lamina.api.router import Route
from lamina.api.routes.images import platform_of
from lamina.api.streams import progress, watching
from lamina.apitypes.keys import spelled
from lamina.apitypes.requests import Ulimit
from lamina.builder.given import Given
from lamina.builder.request import BuildRequest, Cancellation, Context, RunOptions
from lamina.container.connecting import HOST_GATEWAY, check_extra_host
from lamina.container.devices import device_number
from lamina.container.resources import checked
from lamina.container.spec import limits
from lamina.distribution.auth import Auth
from lamina.distribution.protocol import registry_host, server_host
from lamina.errors import Unsupported
from lamina.runtime.abilities import Abilities
from lamina.spec.progress import Sink
from lamina.spec.reference import Reference

_SESSION_SECONDS = 1.0
_NUMBERS = {
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuquota": "CpuQuota",
    "cpuperiod": "CpuPeriod",
}


class NoBuildKit(Unsupported):
    """BuildKit's protocol was asked for by the route of before buildx."""


def build(engine: Backend, request: Request) -> Response:
    """POST /build: the context is a tar in the body, or `remote`; a client that goes away cancels the build."""
    if request.query.text("version", "1") != "1":
        # The client opens its session beside this: told before that stands, it waits for the session's end for ever.
        time.sleep(_SESSION_SECONDS)
        raise NoBuildKit("BuildKit is reached by /grpc, not by this route: use a docker CLI with buildx, or set DOCKER_BUILDKIT=0")
    given = _given(engine, request.query.text("session"))
    asked = _asked(request, given, engine.containers.abilities, lambda: engine.networks.host_gateway())

    def work(sink: Sink, writer: Writer) -> None:
        cancellation = Cancellation()
        with watching(writer, cancellation.cancel):
            if asked.context.remote:
                engine.builder.build(asked, sink, cancellation)
                return
            with request.body.piped() as source:
                engine.builder.build(replace(asked, context=Context(fd=source)), sink, cancellation)

    return progress(work)


def _given(engine: Backend, session: str) -> Given | None:
    """What the client gives: `none` is that of one which could, "" of one that cannot.

    Raises:
        SessionNotFound: the session is not open.
    """
    return engine.builder.sessions.get(session).given if session not in ("", "none") else Given() if session else None


def _asked(request: Request, given: Given | None, can: Abilities, gateway: Callable[[], str]) -> BuildRequest:
    """What the query asks for, but for a context that comes in the body. `gateway` gives what `host-gateway` stands for.

    Raises:
        InvalidParameter, Unsupported: a parameter is malformed, or asks for what is not here.
    """
    asked = request.query
    if asked.text("isolation", "default").lower() not in ("default", ""):
        raise InvalidParameter(f"invalid isolation: {asked.text('isolation')[:50]!r} on linux", hint="only default is known here")
    labels = _mapping(asked, "labels")
    return BuildRequest(
        context=Context(remote=asked.text("remote")),
        dockerfile=asked.text("dockerfile", "Dockerfile"),
        tags=tuple(_tag(text) for text in asked.all("t")),
        build_args=_mapping(asked, "buildargs"),
        labels={name: value or "" for name, value in labels.items()},
        target=asked.text("target"),
        no_cache=asked.flag("nocache"),
        pull=asked.flag("pull"),
        quiet=asked.flag("q"),
        network=_network(asked.text("networkmode")),
        platform=platform_of(request),
        cache_from=_strings(asked, "cachefrom"),
        cache_only_from=bool(_strings(asked, "cachefrom")),  # as the classic builder; BuildKit adds them to its own cache
        extra_hosts=_extra_hosts(asked, gateway),
        credentials=credentials_of(registry_config(request.headers.get("x-registry-config", ""))),
        run=_run_options(asked, can),
        squash=asked.flag("squash"),
        explain=asked.flag("explain"),
        given=given,
        keep_containers=bool(asked.text("rm")) and not asked.flag("rm") and not asked.flag("forcerm"),
    )


def _tag(text: str) -> Reference:
    """A name that the image is to get. Raises InvalidReference, InvalidParameter."""
    name = Reference.parse(text)
    if name.digest is not None:
        raise InvalidParameter(f"build tag cannot contain a digest: {name.familiar}")
    return name.with_default_tag()


def _run_options(asked: Query, can: Abilities) -> RunOptions:
    """Limits of every RUN, as a container's; -1 for --memory-swap is no limit of swap.

    Raises:
        InvalidLimit: one makes no sense.
    """

    def number(name: str) -> int:
        return asked.number(name, 0) or 0

    for name, least in (("memory", 0), ("memswap", -1), ("cpushares", 0), ("cpuquota", -1), ("cpuperiod", 0), ("shmsize", 0)):
        if number(name) < least:
            raise InvalidParameter(f"invalid value for {name}: {number(name)}")
    host = {key: number(name) for name, key in _NUMBERS.items()}
    texts = {"CpusetCpus": asked.text("cpusetcpus"), "CpusetMems": asked.text("cpusetmems")}
    limited, _ = checked({**host, **texts, "Ulimits": _ulimits(asked)}, can)
    size = number("shmsize") or RunOptions().shm_size
    security = tuple(word for text in asked.all("securityopt") for word in _words(text))
    parent = asked.text("cgroupparent")
    if "\n" in parent or "\0" in parent:
        raise InvalidParameter(
            f"invalid value for cgroupparent: {parent[:200]!r}: a control group's name cannot hold a line break or a NUL"
        )
    return RunOptions(limits(limited, device_number), size, security, parent)


def _ulimits(asked: Query) -> list[dict[str, str | int]]:
    """`[{"Name": "nofile", "Soft": 1, "Hard": 2}]`."""
    document = spelled(asked.document("ulimits") or [], list[Ulimit])
    try:
        return [{"Name": str(entry["Name"]), "Soft": int(entry["Soft"]), "Hard": int(entry["Hard"])} for entry in document]
    except (TypeError, KeyError, ValueError):
        raise InvalidParameter("invalid value for ulimits: not a list of names with soft and hard limits") from None


def _extra_hosts(asked: Query, gateway: Callable[[], str]) -> tuple[str, ...]:
    """`name:address` (or `=`), one a parameter, in a list, or between commas."""
    hosts = [word.replace("=", ":", 1) for text in asked.all("extrahosts") for word in _words(text)]
    for host in hosts:
        check_extra_host(host)
    return tuple(host.replace(HOST_GATEWAY, gateway()) if host.endswith(f":{HOST_GATEWAY}") else host for host in hosts)


def _words(text: str) -> list[str]:
    """A JSON list, or words between commas."""
    if not text.startswith("["):
        return [word for word in text.split(",") if word]
    try:
        return [str(word) for word in msgspec.json.decode(text, type=list[str])]
    except msgspec.MsgspecError:
        raise InvalidParameter(f"invalid list: {text[:100]!r}") from None


def _network(mode: str) -> str:
    return "" if mode in ("default", "bridge") else mode


def _mapping(query: Query, name: str) -> dict[str, str | None]:
    document = query.document(name) or {}
    if not isinstance(document, dict):
        raise InvalidParameter(f"invalid value for {name}: not an object")
    for key, value in document.items():
        if value is not None and not isinstance(value, str):
            raise InvalidParameter(f"invalid value for {name}: {key[:100]} is not a text")
    return document


def _strings(query: Query, name: str) -> tuple[str, ...]:
    document = query.document(name) or []
    if not isinstance(document, list):
        raise InvalidParameter(f"invalid value for {name}: not a list")
    return tuple(str(item) for item in document)


def registry_config(header: str) -> dict[str, Auth]:
    """`X-Registry-Config`: base64url of credentials by registry; Go's clients send `null` where they have none."""
    if not header:
        return {}
    try:
        text = header.replace("+", "-").replace("/", "_").rstrip("=")
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}"
        document = msgspec.json.decode(data, type=dict[str, dict[str, object] | None] | None) or {}
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise InvalidParameter("invalid X-Registry-Config header")
    return {server: Auth.from_fields(fields or {}) for server, fields in document.items()}


def credentials_of(config: Mapping[str, Auth]) -> Callable[[Reference], Auth | None]:
    """What finds the credentials for a reference's registry; keys are hosts or URLs, as docker login stores them."""
    by_host = {registry_host(server_host(server)): auth for server, auth in config.items()}
    return lambda reference: by_host.get(registry_host(reference.domain))


def prune(engine: Backend, request: Request) -> Response:
    """POST /build/prune."""
    query = request.query
    keep, reserved, most, free = (
        max(query.number(name, 0) or 0, 0) for name in ("keep-storage", "reserved-space", "max-used-space", "min-free-space")
    )
    pruned = engine.system.prune_build_cache(query.filters(), all=query.flag("all"), keep=max(keep, reserved), most=most, free=free)
    return json_reply(pruned)


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/build", build),
    Route("POST", "/build/prune", prune),
)
