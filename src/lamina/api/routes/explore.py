"""/lamina: layers that people can see: who touched what, what differs, where a file is."""

from __future__ import annotations

from dataclasses import asdict

from lamina.api.backend import Backend, Document
from lamina.api.message import FileReply, InvalidParameter, Request, Response, json_reply, named_reply
from lamina.api.router import Route
from lamina.explore.answers import Answer
from lamina.explore.model import LayerRow
from lamina.spec.reference import Reference

_TYPES = {"json": "application/json", "text": "text/plain; charset=utf-8"}


def layers(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/{ref}/layers, base first; `ref` may name a container, whose writable layer comes last."""
    subject = engine.explorer.subject(request.parameters["ref"])
    document: Document = {"image": subject.image_id, "layers": [_layer_row(row) for row in engine.explorer.layers(subject)]}
    return json_reply(document | ({"container": subject.container.id} if subject.container else {}))


def _layer_row(row: LayerRow) -> Document:
    facts = asdict(row.facts)
    return facts | {
        "parent": facts["parent"] or None,
        "size": row.size,
        "hidden": row.hidden,
        "added": row.added,
        "modified": row.modified,
        "deleted": row.deleted,
    }


def blame(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/{ref}/blame: JSON, or with form=text the tree that people read; `ref` may name a container."""
    subject = engine.explorer.subject(request.parameters["ref"])
    form, whole = _form(request), request.query.flag("whole")
    depth = request.query.number("depth", 0) or 0
    answer = engine.explorer.blame(subject, request.query.path("path", "/"), form=form, depth=max(depth, 0), whole=whole)
    return _file(answer, form)


def _form(request: Request) -> str:
    form = request.query.text("form", "json")
    if form not in _TYPES:
        raise InvalidParameter(f"unknown form {form[:40]!r}: there are {' and '.join(_TYPES)}")
    return form


def _file(answer: Answer, form: str) -> Response:
    """An answer sent as it lies there, without passing through the interpreter."""
    return FileReply(answer.fd, answer.size, headers=(("Content-Type", _TYPES[form]),))


def diff(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/diff: JSON, or with form=text what people read; `a` and `b` may name containers."""
    query, form = request.query, _form(request)
    a, b = query.text("a"), query.text("b")
    if not (a and b):
        raise InvalidParameter("missing parameter: a and b name the two images")
    answer = engine.explorer.diff(
        engine.explorer.subject(a),
        engine.explorer.subject(b),
        query.path("path", "/"),
        form=form,
        whole=query.flag("whole"),
        contents=query.flag("contents", default=True),
        new=query.flag("new"),
    )
    return _file(answer, form)


def find(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/find: JSON, or with form=text what people read."""
    query, form = request.query, _form(request)
    pattern = query.path("pattern")
    if not pattern:
        raise InvalidParameter("missing parameter: pattern")
    answer = engine.explorer.find(pattern, regex=query.flag("regex"), fold=query.flag("fold"), form=form, whole=query.flag("whole"))
    return _file(answer, form)


def squash(engine: Backend, request: Request) -> Response:
    """POST /lamina/images/{ref}/squash: an image whose layers above `base` are one; each `t` is a name for it."""
    query, explorer = request.query, engine.explorer
    base = explorer.subject(query.text("base")) if query.text("base") else None
    names = [Reference.parse(name).with_default_tag() for name in query.all("t")]
    return json_reply({"Id": str(explorer.squash(explorer.subject(request.parameters["ref"]), base, names).id)}, 201)


def mounts(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /lamina/mounts: what is mounted on the host."""
    return named_reply({"mounts": [asdict(each) for each in engine.explorer.mounts.list()]})


def mount(engine: Backend, request: Request) -> Response:
    """POST /lamina/mounts: mount `reference`, an image or a layer, at the host's directory `target`."""
    reference, target = request.query.text("reference"), request.query.path("target")
    if not (reference and target):
        raise InvalidParameter("missing parameter: reference and target")
    with engine.explorer.images_alone(reference):
        return named_reply(asdict(engine.explorer.mounts.mount(reference, target)), 201)


def unmount(engine: Backend, request: Request) -> Response:
    """DELETE /lamina/mounts: unmount what is at `target`, or everything that is the image or layer of that name."""
    target = request.query.path("target")
    if not target:
        raise InvalidParameter("missing parameter: target")
    gone = engine.explorer.mounts.unmount(target, force=request.query.flag("force"))
    return named_reply({"mounts": [asdict(each) for each in gone]})


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/lamina/images/diff", diff),
    Route("GET", "/lamina/mounts", mounts),
    Route("POST", "/lamina/mounts", mount),
    Route("DELETE", "/lamina/mounts", unmount),
    Route("POST", "/lamina/images/{ref:path}/squash", squash),
    Route("GET", "/lamina/images/find", find),
    Route("GET", "/lamina/images/{ref:path}/layers", layers),
    Route("GET", "/lamina/images/{ref:path}/blame", blame),
)
