"""/lamina: what Docker's API has no words for: layers, and the files in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from lamina.api.backend import Backend, Document
from lamina.api.message import InvalidParameter, Request, Response, Streamed, Writer, json_reply, named_reply
from lamina.api.router import Route
from lamina.api.routes.images import platform_of, save_as
from lamina.explore.explorer import Explorer
from lamina.explore.model import Subject
from lamina.image.archive.outline import OutlinedLayer
from lamina.image.model import LayerFacts, TreeNode
from lamina.image.queries import FileRow, Found, Holder

_BATCH = 1 << 16
_KINDS = ("containers", "networks", "volumes", "images", "build")


def info(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /lamina/info."""
    return json_reply(engine.system.details())


def paths(engine: Backend, request: Request) -> Response:
    """GET /lamina/containers/{id}/paths: where on the host its files are."""
    container = engine.containers.get(request.parameters["id"])
    return json_reply({"diff": container.upper, "init": container.init_layer, "root": container.directory, "log": container.log_path})


def save(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/save: an archive in one of the layouts docker, oci and v1."""
    return save_as(engine, request.query.all("names"), request.query.text("format", "docker"), platform_of(request))


def prune(engine: Backend, request: Request) -> Response:
    """GET /lamina/prune: what prunes would remove and free; nothing is removed."""
    query = request.query
    kinds = query.all("kind") or ("containers", "images", "build")
    if unknown := sorted(set(kinds) - set(_KINDS)):
        raise InvalidParameter(f"unknown kind: {unknown[0]!r} (there are {', '.join(_KINDS)})")
    plan = engine.system.plan_prune(kinds, query.filters(), all=query.flag("all"), keep=query.number("keep-storage", 0) or 0)
    return json_reply(plan)


def tree(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """GET /lamina/images/tree."""
    return json_reply({"layers": _listed(engine.images.tree())})


def outline(engine: Backend, request: Request) -> Response:
    """POST /lamina/images/tree: the same of an archive, the body, which is not loaded."""
    with request.body.piped() as source:
        return json_reply({"layers": _listed(engine.images.outline(source))})


def _listed(roots: Sequence[TreeNode | OutlinedLayer]) -> list[Document]:
    """Every layer after its parent, which it names: documents within each other, as high as a stack is, would be read by few."""
    found: list[Document] = []
    pending: list[tuple[TreeNode | OutlinedLayer, str | None]] = [(node, None) for node in reversed(roots)]
    while pending:
        node, parent = pending.pop()
        document = _outlined(node) if isinstance(node, OutlinedLayer) else _node(node)
        found.append(document | {"parent": parent})
        children: Sequence[TreeNode | OutlinedLayer] = node.children
        pending.extend((child, str(document["layer"])) for child in reversed(children))
    return found


def _node(node: TreeNode) -> Document:
    facts = node.layer
    return {
        "layer": str(facts.id),
        "diff_id": str(facts.diff_id),
        "size": facts.content_size,
        "tar_size": facts.tar_size,
        "own": node.own,
        "shared_by": node.shared_by,
        "instruction": facts.instruction,
        "created_by": facts.created_by,
        "created": facts.created,
        "images": list(node.images),
    }


def _outlined(layer: OutlinedLayer) -> Document:
    """As `_node`; null is what documents alone do not tell: bytes in files, and of the tar."""
    return {
        "layer": layer.id,
        "diff_id": layer.diff_id,
        "size": None,
        "tar_size": None,
        "own": layer.size if layer.size >= 0 else None,
        "shared_by": layer.shared_by,
        "instruction": layer.note.instruction,
        "created_by": layer.note.created_by,
        "created": layer.note.created,
        "images": layer.images,
    }


def _layer(facts: LayerFacts, index: int) -> Document:
    return {
        "id": str(facts.id),
        "diff_id": str(facts.diff_id),
        "index": index,
        "instruction": facts.instruction,
        "created_by": facts.created_by,
    }


def _holder(holder: Holder | None) -> Document | None:
    return None if holder is None else _layer(holder.facts, holder.index)


def _version(holder: Holder) -> Document:
    entry = holder.entry
    return _layer(holder.facts, holder.index) | ({"type": entry.type, "size": entry.size, "mode": entry.mode} if entry else {})


def _path(request: Request, default: str = "") -> str:
    path = request.query.path("path", default)
    if not path:
        raise InvalidParameter("missing parameter: path")
    return path


def which(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/{ref}/which; the reference may be of a container or a snapshot."""
    ref, path = request.parameters["ref"], _path(request)
    subject = engine.explorer.subject(ref)
    if subject.fixed and subject.snapshot is None:
        return named_reply(_found(engine.images.which(subject.image_id, path)))
    return named_reply(_found_in(engine.explorer, subject, path))


def _found_in(explorer: Explorer, subject: Subject, path: str) -> Document:
    """The same of a stack that ends in what a container wrote."""
    told = explorer.which(subject, path)
    facts = [
        {"id": each.id, "diff_id": each.diff_id, "index": each.index, "instruction": each.instruction, "created_by": each.created_by}
        for each in subject.facts
    ]
    versions = [facts[each["level"]] | {key: each[key] for key in ("type", "size", "mode")} for each in told["versions"]]
    seen = told["versions"][0] if told["found"] and versions else None
    return {
        "path": told["path"],
        "found": told["found"],
        **({key: seen[key] if seen else empty for key, empty in (("type", ""), ("size", 0), ("mode", 0))}),
        "layer": facts[seen["level"]] if seen else None,
        "older": versions[1:] if seen else versions,
        "deleted_by": facts[told["deleted_by"]] if told["deleted_by"] >= 0 else None,
    }


def _found(found: Found) -> Document:
    entry = found.entry
    return {
        "path": found.path,
        "found": entry is not None,
        "type": entry.type if entry else "",
        "size": entry.size if entry else 0,
        "mode": entry.mode if entry else 0,
        "layer": _holder(found.layer),
        "older": [_version(holder) for holder in found.older],
        "deleted_by": _holder(found.deleted_by),
    }


def ls(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/{ref}/ls."""
    path, ref = _path(request, "/"), request.parameters["ref"]
    with engine.explorer.images_alone(ref):
        return named_reply({"path": path, "entries": [_row(row) for row in engine.images.ls(ref, path)]})


def _row(row: FileRow) -> Document:
    return {**asdict(row), "mtime": row.mtime_ns // 1_000_000_000}


def cat(engine: Backend, request: Request) -> Response:
    """GET /lamina/images/{ref}/cat: the file's bytes, with their number in the head."""
    ref = request.parameters["ref"]
    with engine.explorer.images_alone(ref):
        size, chunks = engine.images.cat(ref, _path(request))

    def produce(writer: Writer) -> None:
        held = bytearray()
        for chunk in chunks:
            held += chunk
            if len(held) >= _BATCH:
                writer.write(bytes(held))
                held.clear()
        writer.write(bytes(held))

    return Streamed(produce, "application/octet-stream", length=size)


def check(engine: Backend, request: Request) -> Response:
    """POST /lamina/system/check: what is wrong with the data root, a JSON object per line as it is found; `repair=1` mends what can be."""
    repair = request.query.flag("repair")

    def produce(writer: Writer) -> None:
        for finding in engine.system.check(repair=repair):
            writer.write(msgspec.json.encode({**asdict(finding), "line": finding.line}) + b"\n")

    return Streamed(produce)


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/lamina/info", info),
    Route("POST", "/lamina/system/check", check),
    Route("GET", "/lamina/prune", prune),
    Route("GET", "/lamina/images/save", save),
    Route("GET", "/lamina/images/tree", tree),
    Route("POST", "/lamina/images/tree", outline),
    Route("GET", "/lamina/images/{ref:path}/which", which),
    Route("GET", "/lamina/images/{ref:path}/ls", ls),
    Route("GET", "/lamina/images/{ref:path}/cat", cat),
    Route("GET", "/lamina/containers/{id}/paths", paths),
)
