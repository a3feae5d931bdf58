"""What a registry answers: the distribution specification over a storage."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from lamina.distribution.protocol import MANIFEST_LIMIT, MANIFEST_TYPES, RangeNotSatisfiable, byte_range, span
from lamina.errors import Exhausted, Forbidden, InvalidArgument, LaminaError, NotFound
from lamina.registry.access import AuthenticationRequired, Gate
from lamina.registry.documents import read_needs
from lamina.registry.errors import (
    BlobUnknown,
    BlobUploadInvalid,
    DigestInvalid,
    ManifestInvalid,
    NotAllowed,
    SizeInvalid,
    TooLarge,
    code,
)
from lamina.registry.http import BadRequest, FilePart, Request, Response
from lamina.registry.routes import Route, is_name, is_tag, route
from lamina.registry.storage import Storage, StoredManifest, Upload
from lamina.spec import mediatype
from lamina.spec.digest import Digest, InvalidDigest

_VERSION = ("Docker-Distribution-API-Version", "registry/2.0")
_MOST_ROWS = 10_000


class PathUnknown(NotFound):
    """A registry has nothing there."""


class StorageFull(Exhausted):
    """The storage's disk has no space, or the quota is used up."""


@dataclass(frozen=True, slots=True)
class Service:
    """Answers requests. Thread-safe."""

    storage: Storage
    gate: Gate
    read_only: bool = False
    delete: bool = True

    def answer(self, request: Request) -> Response:
        """The answer to any request; failures become the specification's error bodies."""
        try:
            found = self._answer(request)
            return Response(found.status, (_VERSION, *found.headers), found.body)
        except AuthenticationRequired as error:
            return _refusal(error, (("WWW-Authenticate", 'Basic realm="lamina registry"'),))
        except LaminaError as error:
            return _refusal(error)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # mostly the client's connection
            return _refusal(StorageFull("no space left on the disk of the registry"))

    def _answer(self, request: Request) -> Response:
        self.gate.check(request.headers.get("authorization", ""))
        where = route(request.path)
        handlers = self._handlers().get(where.kind)
        if handlers is None:
            raise PathUnknown(f"no such path: {request.path[:200]}")
        handler = handlers.get(request.method)
        if handler is None:
            raise NotAllowed(f"method {request.method[:20]} is not allowed here")
        if self.read_only and request.method not in ("GET", "HEAD"):
            raise Forbidden("this registry is read-only")
        return handler(request, where)

    def _handlers(self) -> Mapping[str, Mapping[str, Callable[[Request, Route], Response]]]:
        return {
            "root": {"GET": _root, "HEAD": _root},
            "catalog": {"GET": self._catalog},
            "search": {"GET": self._search},
            "tags": {"GET": self._tags},
            "referrers": {"GET": self._referrers},
            "blob": {"GET": self._blob, "HEAD": self._blob, "DELETE": self._delete_blob},
            "manifest": {
                "GET": self._manifest,
                "HEAD": self._manifest,
                "PUT": self._put_manifest,
                "DELETE": self._delete_manifest,
            },
            "uploads": {"POST": self._begin},
            "upload": {"GET": self._progress, "PATCH": self._append, "PUT": self._finish, "DELETE": self._cancel},
        }

    # --- lists

    def _catalog(self, request: Request, _: Route) -> Response:
        rows, link = _page(list(self.storage.repositories()), request, "/v2/_catalog")
        return _json({"repositories": rows}, link)

    def _search(self, request: Request, _: Route) -> Response:
        words, limit = request.query.get("q", "").lower(), _count(request.query.get("n", "25"))
        names = [name for name in self.storage.repositories() if words in name][: min(limit, 100)]
        rows = [{"name": name, "description": "", "star_count": 0, "is_official": False, "is_automated": False} for name in names]
        return _json({"query": words, "num_results": len(rows), "results": rows})

    def _tags(self, request: Request, where: Route) -> Response:
        rows, link = _page(self.storage.tags(where.repository), request, f"/v2/{where.repository}/tags/list")
        return _json({"name": where.repository, "tags": rows}, link)

    def _referrers(self, request: Request, where: Route) -> Response:
        wanted = request.query.get("artifactType", "")
        rows = [_referrer(stored) for stored in self.storage.referrers(where.repository, _digest(where.reference))]
        kept = [row for row in rows if not wanted or row["artifactType"] == wanted]
        headers = (("OCI-Filters-Applied", "artifactType"),) if wanted else ()
        document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": kept}
        return Response(200, (("Content-Type", mediatype.OCI_INDEX), *headers), json.dumps(document).encode())

    # --- blobs

    def _blob(self, request: Request, where: Route) -> Response:
        digest = _digest(where.reference)
        size = self.storage.blob_size(where.repository, digest)
        headers = (
            ("Content-Type", "application/octet-stream"),
            ("Docker-Content-Digest", str(digest)),
            ("Accept-Ranges", "bytes"),
            ("ETag", f'"{digest}"'),
        )
        if request.method == "HEAD":
            return Response(200, (*headers, ("Content-Length", str(size))))
        bounds = byte_range(request.headers.get("range", ""), size)
        file = self.storage.open_blob(where.repository, digest)
        if bounds is None:
            return Response(200, headers, FilePart(file, 0, size))
        start, end = bounds
        return Response(206, (*headers, ("Content-Range", f"bytes {start}-{end - 1}/{size}")), FilePart(file, start, end - start))

    def _delete_blob(self, _: Request, where: Route) -> Response:
        self._may_delete()
        self.storage.unlink_blob(where.repository, _digest(where.reference))
        return Response(202)

    # --- uploads

    def _begin(self, request: Request, where: Route) -> Response:
        query = request.query
        if "mount" in query and self._mounted(query.get("from", ""), where.repository, query["mount"]):
            return _created(where.repository, _digest(query["mount"]))
        upload_id = self.storage.begin(where.repository)
        if "digest" in query:
            digest = _digest(query["digest"])
            with self.storage.upload(where.repository, upload_id) as upload:
                _take(request, upload)
                upload.commit(digest)
            return _created(where.repository, digest)
        return _under_way(202, where.repository, upload_id, 0)

    def _mounted(self, source: str, repository: str, text: str) -> bool:
        digest = _digest(text)
        if not is_name(source):
            return False
        try:
            self.storage.link_blob(source, repository, digest)
        except BlobUnknown:
            return False
        return True

    def _progress(self, _: Request, where: Route) -> Response:
        with self.storage.upload(where.repository, where.reference) as upload:
            return _under_way(204, where.repository, where.reference, upload.offset)

    def _append(self, request: Request, where: Route) -> Response:
        with self.storage.upload(where.repository, where.reference) as upload:
            _check_span(request, upload)
            _take(request, upload)
            return _under_way(202, where.repository, where.reference, upload.offset)

    def _finish(self, request: Request, where: Route) -> Response:
        digest = _digest(request.query.get("digest", ""))
        with self.storage.upload(where.repository, where.reference) as upload:
            _check_span(request, upload)
            _take(request, upload)
            upload.commit(digest)
        return _created(where.repository, digest)

    def _cancel(self, _: Request, where: Route) -> Response:
        self.storage.cancel(where.repository, where.reference)
        return Response(204)

    # --- manifests

    def _manifest(self, _: Request, where: Route) -> Response:
        stored = self.storage.manifest(where.repository, _reference(where.reference))
        headers = (
            ("Content-Type", stored.media_type),
            ("Docker-Content-Digest", str(stored.digest)),
            ("ETag", f'"{stored.digest}"'),
        )
        return Response(200, headers, stored.data)

    def _put_manifest(self, request: Request, where: Route) -> Response:
        reference = _reference(where.reference)
        data = _manifest_body(request)
        digest = Digest.of(data, reference.algorithm if isinstance(reference, Digest) else "sha256")
        if isinstance(reference, Digest) and reference != digest:
            raise DigestInvalid(f"provided digest did not match uploaded content: {digest}")
        media_type = request.headers.get("content-type", "").partition(";")[0].strip() or _stated(data)
        if media_type not in MANIFEST_TYPES:
            raise ManifestInvalid(f"manifest invalid: unsupported media type {media_type[:100]!r}")
        needs = read_needs(data, media_type)
        tag = reference if isinstance(reference, str) else ""
        manifest = StoredManifest(media_type, digest, data)
        self.storage.put_manifest(where.repository, manifest, tag, (*needs.blobs, *needs.manifests), needs.subject)
        headers = (("Location", f"/v2/{where.repository}/manifests/{digest}"), ("Docker-Content-Digest", str(digest)))
        subject = (("OCI-Subject", str(needs.subject)),) if needs.subject else ()
        return Response(201, (*headers, *subject))

    def _delete_manifest(self, _: Request, where: Route) -> Response:
        self._may_delete()
        reference = _reference(where.reference)
        if isinstance(reference, Digest):
            self.storage.delete_manifest(where.repository, reference)
        else:
            self.storage.delete_tag(where.repository, reference)
        return Response(202)

    def _may_delete(self) -> None:
        if not self.delete:
            raise NotAllowed("deleting is switched off in this registry")


def _root(_: Request, __: Route) -> Response:
    return _json({})


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise DigestInvalid(error.message) from None


def _reference(text: str) -> str | Digest:
    if ":" in text:
        return _digest(text)
    if not is_tag(text):
        raise ManifestInvalid(f"invalid tag: {text[:100]!r}")
    return text


def _manifest_body(request: Request) -> bytes:
    try:
        return request.body.read(MANIFEST_LIMIT)
    except BadRequest as error:
        raise TooLarge(error.message) from None


def _stated(data: bytes) -> str:
    try:
        return str(json.loads(data)["mediaType"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _check_span(request: Request, upload: Upload) -> None:
    """A piece must begin where the last one ended ("Pushing a blob in chunks")."""
    value = request.headers.get("content-range", "")
    if not value:
        return
    bounds, length = span(value), request.body.length
    if bounds is None or bounds[0] != upload.offset:
        raise BlobUploadInvalid(f"piece {value[:60]!r} does not follow the {upload.offset} bytes that are here")
    if length is not None and length != bounds[1] - bounds[0] + 1:
        raise SizeInvalid(f"piece {value[:60]!r} has {length} bytes")


def _take(request: Request, upload: Upload) -> None:
    for view in request.body.views():
        upload.write(view)


def _under_way(status: int, repository: str, upload_id: str, offset: int) -> Response:
    # "0-0" for nothing yet is what clients know from Docker's registry.
    headers = (
        ("Location", f"/v2/{repository}/blobs/uploads/{upload_id}"),
        ("Range", f"0-{max(offset - 1, 0)}"),
        ("Docker-Upload-UUID", upload_id),
    )
    return Response(status, headers)


def _created(repository: str, digest: Digest) -> Response:
    return Response(201, (("Location", f"/v2/{repository}/blobs/{digest}"), ("Docker-Content-Digest", str(digest))))


def _json(document: object, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(200, (("Content-Type", "application/json"), *headers), json.dumps(document).encode())


def _page(rows: list[str], request: Request, path: str) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The rows after `last`, `n` at most, and a link to the next page ("Listing Tags")."""
    last, count = request.query.get("last", ""), _count(request.query.get("n", str(_MOST_ROWS)))
    rest = [row for row in rows if row > last] if last else rows
    page = rest[:count]
    if len(page) == len(rest) or not page:
        return page, ()
    return page, (("Link", f'<{path}?last={quote(page[-1], safe="")}&n={count}>; rel="next"'),)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument(f"invalid number of rows: {text[:20]!r}")
    return min(int(text), _MOST_ROWS)


def _referrer(stored: StoredManifest) -> dict[str, object]:
    needs = read_needs(stored.data, stored.media_type)
    row: dict[str, object] = {
        "mediaType": stored.media_type,
        "digest": str(stored.digest),
        "size": len(stored.data),
        "artifactType": needs.artifact_type,
    }
    return {**row, "annotations": dict(needs.annotations)} if needs.annotations else row


def _refusal(error: LaminaError, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    status = 416 if isinstance(error, RangeNotSatisfiable) else error.http_status
    body = json.dumps({"errors": [{"code": code(error), "message": error.message, "detail": error.hint or None}]}).encode()
    return Response(status, (_VERSION, ("Content-Type", "application/json"), *headers), body)
