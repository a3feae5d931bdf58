"""/containers: their life, their streams, their files; /commit."""

from __future__ import annotations

import base64
import json

from lamina.api.backend import Backend
from lamina.api.message import InvalidParameter, Reply, Request, Response, Streamed, Writer, encode, fields, json_reply
from lamina.api.render import aliased
from lamina.api.router import Route
from lamina.api.routes.attach import stream_type
from lamina.api.times import nanoseconds
from lamina.apitypes.requests import ContainerConfig, CreateContainer, HostConfig
from lamina.container.requests import CommitRequest, LogQuery, PathStat
from lamina.errors import NotFound

_NO_CONTENT = Reply(204)
_TAIL_DIGITS = 19
"""A number of lines with so many is all of them."""


def list_all(engine: Backend, request: Request) -> Response:
    """GET /containers/json; with `networks=0`, which Docker does not know, each without its NetworkSettings."""
    query = request.query
    limit, networks = query.number("limit", 0) or 0, query.flag("networks", default=True)
    return json_reply(
        engine.containers.list(
            all=query.flag("all"), limit=max(0, limit), size=query.flag("size"), networks=networks, filters=query.filters()
        )
    )


def create(engine: Backend, request: Request) -> Response:
    """POST /containers/create."""
    document = request.fields(CreateContainer)
    host_config = document.pop("HostConfig", None) or {}
    networking = document.pop("NetworkingConfig", None) or {}
    if request.api_version < (1, 40) and not host_config.get("IpcMode"):
        host_config["IpcMode"] = "shareable"  # the default then, which docker-compose 1 relies on
    made = engine.containers.create(
        document, host_config, networking, name=request.query.text("name"), platform=request.query.text("platform")
    )
    return json_reply({"Id": made.id, "Warnings": list(made.warnings)}, 201)


def inspect(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/json."""
    document = engine.containers.inspect(request.parameters["id"], size=request.query.flag("size"))
    return json_reply(aliased(document, request.api_version))


def start(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/start."""
    if request.query.text("checkpoint"):
        raise InvalidParameter("checkpoint is only supported in experimental mode")
    engine.containers.start(request.parameters["id"], detach_keys=request.query.text("detachKeys"), verify=request.query.flag("verify"))
    return _NO_CONTENT


def stop(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/stop."""
    engine.containers.stop(request.parameters["id"], timeout=request.query.number("t"), signal=request.query.text("signal"))
    return _NO_CONTENT


def restart(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/restart."""
    engine.containers.restart(request.parameters["id"], timeout=request.query.number("t"), signal=request.query.text("signal"))
    return _NO_CONTENT


def kill(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/kill."""
    engine.containers.kill(request.parameters["id"], signal=request.query.text("signal"))
    return _NO_CONTENT


def pause(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/pause."""
    engine.containers.pause(request.parameters["id"])
    return _NO_CONTENT


def unpause(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/unpause."""
    engine.containers.unpause(request.parameters["id"])
    return _NO_CONTENT


def rename(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/rename."""
    engine.containers.rename(request.parameters["id"], request.query.text("name"))
    return _NO_CONTENT


def update(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/update."""
    changes = request.fields(HostConfig)
    return json_reply({"Warnings": list(engine.containers.update(request.parameters["id"], changes)) or None})


def remove(engine: Backend, request: Request) -> Response:
    """DELETE /containers/{id}."""
    query = request.query
    engine.containers.remove(request.parameters["id"], force=query.flag("force"), volumes=query.flag("v"), link=query.flag("link"))
    return _NO_CONTENT


def remove_link(engine: Backend, request: Request) -> Response:
    """DELETE /containers/{id}/{alias}: a link's name, which stands for no container."""
    name = f"{request.parameters['id']}/{request.parameters['alias']}"
    if not request.query.flag("link"):
        raise NotFound(f"No such container: {name[:200]}")
    engine.containers.remove(name, link=True)
    return _NO_CONTENT


def resize(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/resize."""
    height, width = size_of(request)
    engine.containers.resize(request.parameters["id"], height, width)
    return Reply(200)


def size_of(request: Request) -> tuple[int, int]:
    """A terminal's (height, width) as a query gives it."""
    height, width = request.query.number("h"), request.query.number("w")
    if height is None or width is None:
        raise InvalidParameter("missing parameter: h and w are a terminal's height and width")
    if not (0 <= height < 1 << 16 and 0 <= width < 1 << 16):
        raise InvalidParameter("invalid terminal size: a side is at most 65535 characters")
    return height, width


def wait(engine: Backend, request: Request) -> Response:
    """POST /containers/{id}/wait. The head goes out as soon as the wait is registered: clients start the container after it."""
    waiter = engine.containers.wait(request.parameters["id"], request.query.text("condition", "not-running"))

    def produce(writer: Writer) -> None:
        with waiter:
            writer.start()
            while (result := waiter.result(1.0)) is None:
                if writer.gone():
                    return
            error = {"Message": result.error} if result.error else None
            writer.write(encode({"StatusCode": result.status_code, **({"Error": error} if error else {})}))

    return Streamed(produce)


def logs(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/logs."""
    ref, query = request.parameters["id"], request.query
    if not (query.flag("stdout") or query.flag("stderr")):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tail = query.text("tail", "all")
    asked = LogQuery(
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        follow=query.flag("follow"),
        restarts=query.flag("restarts"),
        timestamps=query.flag("timestamps"),
        details=query.flag("details"),
        tail=int(tail) if tail.isdecimal() and len(tail) < _TAIL_DIGITS else None,
        since_ns=nanoseconds(query.text("since")) or 0,
        until_ns=nanoseconds(query.text("until")) or 0,
    )
    tty = engine.containers.get(ref).tty
    chunks = engine.containers.logs(ref, asked)  # what cannot be read is said before the answer begins

    def produce(writer: Writer) -> None:
        next(chunks)  # opens it: who has the answer's head may remove the container
        writer.start()
        for chunk in chunks:
            if chunk:
                writer.write(chunk)
            elif writer.gone():
                return

    return Streamed(produce, stream_type(request, tty=tty))


def top(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/top."""
    return json_reply(engine.containers.top(request.parameters["id"], request.query.text("ps_args")))


def stats(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/stats: lines of JSON."""
    stream, one_shot = request.query.flag("stream", default=True), request.query.flag("one-shot")
    if stream and one_shot:
        raise InvalidParameter("cannot have stream=true and one-shot=true")
    found = engine.containers.stats(request.parameters["id"], stream=stream, one_shot=one_shot)

    def produce(writer: Writer) -> None:
        writer.start()
        for document in found:
            writer.write(encode(document))
            if writer.gone():
                return

    return Streamed(produce)


def changes(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/changes."""
    found = engine.containers.changes(request.parameters["id"])
    return json_reply([{"Path": change.path, "Kind": change.kind} for change in found])


def export(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/export."""
    ref = engine.containers.get(request.parameters["id"]).id
    return Streamed(lambda writer: engine.containers.export(ref, writer.outlet()), "application/octet-stream")


def _stat_header(stat: PathStat) -> tuple[str, str]:
    document = {"name": stat.name, "size": stat.size, "mode": stat.mode, "mtime": stat.mtime, "linkTarget": stat.link_target}
    return "X-Docker-Container-Path-Stat", base64.b64encode(json.dumps(document).encode()).decode()


def _path(request: Request) -> str:
    path = request.query.path("path")
    if not path:
        raise InvalidParameter("missing parameter: path")
    return path


def archive_stat(engine: Backend, request: Request) -> Response:
    """HEAD /containers/{id}/archive."""
    return Reply(200, headers=(_stat_header(engine.containers.archive_stat(request.parameters["id"], _path(request))),))


def archive_get(engine: Backend, request: Request) -> Response:
    """GET /containers/{id}/archive."""
    ref, path = request.parameters["id"], _path(request)
    stat = engine.containers.archive_stat(ref, path)
    return Streamed(
        lambda writer: engine.containers.archive_get(ref, path, writer.outlet()), "application/x-tar", headers=(_stat_header(stat),)
    )


def archive_put(engine: Backend, request: Request) -> Response:
    """PUT /containers/{id}/archive."""
    query = request.query
    with request.body.lent() as source:
        engine.containers.archive_put(
            request.parameters["id"],
            _path(request),
            source,
            no_overwrite_dir_non_dir=query.flag("noOverwriteDirNonDir"),
            copy_uid_gid=query.flag("copyUIDGID"),
        )
    return Reply(200)


def prune(engine: Backend, request: Request) -> Response:
    """POST /containers/prune."""
    pruned = engine.containers.prune(request.query.filters())
    return json_reply({"ContainersDeleted": list(pruned.removed), "SpaceReclaimed": pruned.space})


def commit(engine: Backend, request: Request) -> Response:
    """POST /commit."""
    query = request.query
    data = request.body.document().strip()
    config = fields(data, ContainerConfig) if data != b"null" else None
    asked = CommitRequest(
        repository=query.text("repo"),
        tag=query.text("tag"),
        author=query.text("author"),
        comment=query.text("comment"),
        pause=query.flag("pause", default=True),
        changes=query.all("changes"),
        config=config or None,
    )
    return json_reply({"Id": str(engine.containers.commit(query.text("container"), asked).id)}, 201)


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/containers/json", list_all),
    Route("POST", "/containers/create", create),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/{id}/json", inspect),
    Route("POST", "/containers/{id}/start", start),
    Route("POST", "/containers/{id}/stop", stop),
    Route("POST", "/containers/{id}/restart", restart),
    Route("POST", "/containers/{id}/kill", kill),
    Route("POST", "/containers/{id}/pause", pause),
    Route("POST", "/containers/{id}/unpause", unpause),
    Route("POST", "/containers/{id}/rename", rename),
    Route("POST", "/containers/{id}/update", update),
    Route("POST", "/containers/{id}/resize", resize),
    Route("POST", "/containers/{id}/wait", wait),
    Route("GET", "/containers/{id}/logs", logs),
    Route("GET", "/containers/{id}/top", top),
    Route("GET", "/containers/{id}/stats", stats),
    Route("GET", "/containers/{id}/changes", changes),
    Route("GET", "/containers/{id}/export", export),
    Route("HEAD", "/containers/{id}/archive", archive_stat),
    Route("GET", "/containers/{id}/archive", archive_get),
    Route("PUT", "/containers/{id}/archive", archive_put),
    Route("DELETE", "/containers/{id}", remove),
    Route("DELETE", "/containers/{id}/{alias}", remove_link),
    Route("POST", "/commit", commit),
)
