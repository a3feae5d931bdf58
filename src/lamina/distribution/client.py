"""A registry as its client sees it: resolve, fetch, upload, for one repository with one set of credentials.

Reads try the mirrors first, in order, then the registry itself; writes go to the registry alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from urllib3.exceptions import HTTPError

from lamina.distribution.auth import Auth
from lamina.distribution.protocol import (
    ACCEPT_MANIFESTS,
    DOCKER_DOMAIN,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    PAGES_LIMIT,
    blob_path,
    manifest_path,
    next_link,
    registry_host,
    scope,
    span,
)
from lamina.distribution.session import Endpoints, Session
from lamina.distribution.transport import (
    RegistryFailed,
    RegistryOptions,
    RegistryUnknown,
    RegistryUnreachable,
    Response,
    Transport,
    discard,
    failure,
    translated,
    whole,
)
from lamina.distribution.upload import Outgoing, Uploads
from lamina.errors import Forbidden, LaminaError, NotFound, Unauthorized, Unavailable, Unsupported
from lamina.linux.pieces import PIECE
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch, InvalidDigest
from lamina.spec.reference import Reference

T = TypeVar("T")
_NO_HEAD = (405, 501)
"""How servers answer that take GET alone."""


class ManifestUnknown(NotFound):
    """The registry has no manifest of that name."""


class PullDenied(NotFound):
    """The registry gives it to nobody with these rights. NotFound as with dockerd, since whether it is there is not said: upon Unauthorized
    the docker CLI asks for a password, and waits for one also where nobody can give it."""


class BlobUnknown(NotFound):
    """The registry does not have the blob."""


class Registries:
    """All registries elsewhere: connection pools and what is known of hosts, shared by every operation. Thread-safe."""

    def __init__(self, options: RegistryOptions | None = None, *, user_agent: str = "lamina", transport: Transport | None = None) -> None:
        self.transport = transport or Transport(options or RegistryOptions(), user_agent)
        self.endpoints = Endpoints(self.transport)

    def repository(self, reference: Reference, auth: Auth | None = None, *, push: bool = False) -> RegistryClient:
        """A client for the repository that `reference` names; contacts nobody yet."""
        scopes = (scope(reference.path, push=push),)
        origin = self.session(registry_host(reference.domain), auth, scopes)
        mirrors: tuple[Session, ...] = ()
        if reference.domain == DOCKER_DOMAIN and not push:
            # Docker's credentials are for Docker's registry: a mirror does not see them.
            mirrors = tuple(self.session(mirror, None, scopes) for mirror in self.transport.options.mirrors)
        return RegistryClient(reference, origin, mirrors)

    def session(self, host: str, auth: Auth | None = None, scopes: tuple[str, ...] = ()) -> Session:
        """Requests to `host` that belong to no repository."""
        return Session(self.transport, self.endpoints, host, auth or Auth(), scopes)

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()


@dataclass(slots=True)
class RegistryClient:
    """One repository at one registry. Thread-safe."""

    repository: Reference
    origin: Session
    mirrors: tuple[Session, ...] = ()
    _refused: set[str] = field(default_factory=set)

    # --- manifests

    def resolve(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """The manifest or index that a tag or digest names (`latest` without either), and its verified bytes.

        Raises:
            ManifestUnknown: there is none.
            DigestMismatch: the bytes are not those of the digest asked for, or promised.
            Unsupported: it is a manifest of Docker's first schema.
        """
        return self.sound(lambda: self._resolve(reference))

    def _resolve(self, reference: Reference) -> tuple[Descriptor, bytes]:
        target = _target(reference)
        path, what = manifest_path(self.repository.path, target), _manifest_what(reference)
        response, data = self._document(path, {"Accept": ACCEPT_MANIFESTS}, what, MANIFEST_LIMIT)
        promised = reference.digest or _digest_header(response)
        digest = Digest.of(data, promised.algorithm if promised else "sha256")
        if promised and digest != promised:
            raise DigestMismatch(f"manifest of {reference.familiar} has digest {digest} instead of {promised}")
        return Descriptor(_manifest_type(response, data, reference), digest, len(data)), data

    def head(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest names, without its bytes; None where the registry does not tell, or takes GET alone.

        Raises:
            ManifestUnknown: there is no such manifest.
        """
        target = _target(reference)
        response, _ = self._read(
            "HEAD", manifest_path(self.repository.path, target), {"Accept": ACCEPT_MANIFESTS}, _manifest_what(reference)
        )
        discard(response)
        digest = _digest_header(response)
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if digest is None or media_type not in MANIFEST_TYPES:
            return None
        return Descriptor(media_type, digest, _length(response))

    def put_manifest(self, media_type: str, data: bytes, target: str) -> Digest:
        """Store a manifest under a tag or digest.

        Raises:
            DigestMismatch: the registry says that it stored something else.
        """
        path = manifest_path(self.repository.path, target)
        response = self.origin.request("PUT", path, {"Content-Type": media_type}, data)
        if response.status not in (200, 201, 202):
            raise failure(response, self.origin.name, f"manifest {target} of {self.repository.familiar_name}")
        discard(response)
        promised = _digest_header(response)
        digest = Digest.of(data, promised.algorithm if promised else "sha256")
        if promised and promised != digest:
            raise DigestMismatch(f"registry {self.origin.name} stored the manifest as {promised} instead of {digest}")
        return digest

    def tags(self) -> Iterator[str]:
        """Every tag, in the registry's order, page by page.

        Raises:
            RegistryUnknown: the registry has no such repository.
            RegistryFailed: its pages have no end.
        """
        path, what = f"/v2/{self.repository.path}/tags/list?n=1000", f"tags of {self.repository.familiar_name}"
        for _ in range(PAGES_LIMIT):
            response, data = self._document(path, {}, what, 16 << 20)
            yield from _texts(data, "tags")
            path = _following(response, path)
            if not path:
                return
        raise RegistryFailed(f"registry {self.origin.name} has more than {PAGES_LIMIT} pages of {what}")

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to the manifest `digest` by its subject field; none where the registry does not keep that."""
        try:
            response, source = self._read("GET", f"/v2/{self.repository.path}/referrers/{digest}", {}, f"referrers of {digest}")
        except RegistryUnknown:
            return ()
        return _descriptors(whole(response, source.name, MANIFEST_LIMIT))

    # --- blobs

    def exists(self, digest: Digest) -> int | None:
        """The blob's size in bytes where the registry's repository has it, before it would be pushed; None where it has not."""
        response = self.origin.request("HEAD", blob_path(self.repository.path, digest))
        if response.status == 404:
            discard(response)
            return None
        if response.status != 200:
            raise self._uploads.refused(response)
        discard(response)
        return _length(response)

    def download(self, descriptor: Descriptor, offset: int, write: Callable[[bytes], object]) -> None:
        """Hand the blob's bytes from `offset` to its size to `write`, in order; a cut connection is taken up where it broke.

        The bytes are not verified, but never more than the descriptor's size. What `write` raises passes through. A mirror that gets
        no further is passed over from then on.

        Raises:
            BlobUnknown: the registry does not have it.
            RegistryUnreachable: the connection was lost as often as the options allow without a byte of progress.
        """
        path, what = blob_path(self.repository.path, descriptor.digest), f"blob {descriptor.digest}"
        failures = 0
        while offset < descriptor.size:
            source = self.origin
            try:
                response, source = self._read("GET", path, {"Range": f"bytes={offset}-"} if offset else {}, what)
                with BlobStream(response, source.name) as stream:
                    stream.go_to(offset, what)
                    while offset < descriptor.size:
                        piece = stream.read(min(PIECE, descriptor.size - offset))
                        if not piece:
                            raise RegistryUnreachable(f"registry {source.name} ended {what} after {offset} bytes")
                        write(piece)
                        offset, failures = offset + len(piece), 0
            except (RegistryUnreachable, RegistryFailed) as error:
                failures = self._again(source, failures, error)

    def blob(self, descriptor: Descriptor) -> bytes:
        """All of a small blob.

        Raises:
            DigestMismatch: it is not what the descriptor says.
            BlobUnknown, RegistryUnreachable: as `download`.
        """
        return self.sound(lambda: self._blob(descriptor))

    def _blob(self, descriptor: Descriptor) -> bytes:
        pieces: list[bytes] = []
        self.download(descriptor, 0, pieces.append)
        data = b"".join(pieces)
        if (digest := Digest.of(data, descriptor.digest.algorithm)) != descriptor.digest:
            raise DigestMismatch(f"blob has digest {digest} instead of {descriptor.digest}")
        return data

    def sound(self, read: Callable[[], T]) -> T:
        """What `read` brings from here; where that is damaged, and perhaps a mirror's, once more, from the registry itself.

        Raises:
            DigestMismatch: it is damaged there, too.
        """
        mirrors = {mirror.host for mirror in self.mirrors} - self._refused
        try:
            return read()
        except DigestMismatch:
            if not mirrors:
                raise
            self._refused |= mirrors
            return read()

    def mount(self, digest: Digest, source: str) -> bool:
        """Take the blob from the repository path `source` of the same registry; False where the registry will not."""
        return self._uploads.mount(digest, source)

    def upload(
        self,
        descriptor: Descriptor,
        blob: BinaryIO,
        *,
        chunk: int = 0,
        sent: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Send the seekable `blob`, whose digest and size the descriptor says; in pieces of `chunk` bytes where that is not 0.

        A lost connection is taken up again: whole, or in pieces from what the registry has. `sent` is told how
        many bytes went so far; what it raises ends the upload.

        Raises:
            RegistryFailed: the registry does not take it.
        """
        if chunk:
            self._uploads.pieces(descriptor, blob, chunk, sent)
        else:
            self._uploads.whole(descriptor, blob, sent)

    def upload_stream(self, outgoing: Outgoing) -> Descriptor:
        """Send bytes while they are made; what they were is known at their end. See `Uploads.stream`."""
        return self._uploads.stream(outgoing)

    # --- parts

    def _document(self, path: str, headers: Mapping[str, str], what: str, limit: int) -> tuple[Response, bytes]:
        """An answer and all of it, `limit` bytes at most; where the connection is cut, it is asked for again."""
        failures = 0
        while True:
            source = self.origin
            try:
                response, source = self._read("GET", path, headers, what)
                return response, whole(response, source.name, limit)
            except (RegistryUnreachable, RegistryFailed) as error:
                failures = self._again(source, failures, error)

    def _again(self, source: Session, failures: int, error: LaminaError) -> int:
        """Pause before `source` is asked again, or go over from a mirror to whom is next; how often that one has failed in a row.

        Raises:
            RegistryUnreachable, RegistryFailed: it is the error of the registry itself, and there is no use in more attempts.
        """
        transport, failures = source.transport, failures + 1
        if isinstance(error, RegistryUnreachable) and failures < transport.options.retries:
            transport.pause(failures - 1)
            return failures
        if source is self.origin:
            raise error
        self._refused.add(source.host)
        return 0

    def _read(self, method: str, path: str, headers: Mapping[str, str], what: str) -> tuple[Response, Session]:
        """An answer, and whose it is."""
        for mirror in self.mirrors:
            if mirror.host in self._refused:
                continue
            try:
                return self._read_from(mirror, method, path, headers, what), mirror
            except (NotFound, Unavailable, Unauthorized, Forbidden) as error:
                if isinstance(error, PullDenied) or not isinstance(error, NotFound):
                    self._refused.add(mirror.host)
        return self._read_from(self.origin, method, path, headers, what), self.origin

    def _read_from(self, session: Session, method: str, path: str, headers: Mapping[str, str], what: str) -> Response:
        response = session.request(method, path, headers)
        if response.status in (200, 206) or (method == "HEAD" and response.status in _NO_HEAD):
            return response
        raise self._refusal(failure(response, session.name, what), session, response.status, path, what)

    def _refusal(self, error: LaminaError, session: Session, status: int, path: str, what: str) -> LaminaError:
        """The same failure in the words for what was asked."""
        if status == 404 and "/manifests/" in path:
            return ManifestUnknown(f"{what} not found: manifest unknown")
        if status == 404 and "/blobs/" in path:
            return BlobUnknown(f"registry {self.origin.name} does not have {what}")
        if status == 403 or (status == 401 and not session.judged):
            return PullDenied(
                f"pull access denied for {self.repository.familiar_name}, repository does not exist or may require 'docker login'",
                hint=f"lamina login {self.repository.domain}",
            )
        return error

    @property
    def _uploads(self) -> Uploads:
        return Uploads(self.origin, self.repository)


@dataclass(slots=True)
class BlobStream:
    """Bytes of one blob as they arrive. The caller closes it."""

    response: Response
    host: str

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as some are here; empty at the end.

        Raises:
            RegistryUnreachable: the connection was cut, or is silent for longer than the read timeout.
        """
        try:
            return self.response.read1(size, decode_content=False)
        except (HTTPError, OSError) as error:
            raise translated(error, self.host) from error

    def go_to(self, offset: int, what: str) -> None:
        """Come to the byte `offset`, from which on was asked for: where all was sent instead, what is before it is dropped.

        Raises:
            RegistryFailed: another part was sent.
        """
        if self.response.status == 206:
            bounds = span(self.response.headers.get("Content-Range", ""))
            if bounds is not None and bounds[0] != offset:
                raise RegistryFailed(f"registry {self.host} sent another range of {what} than asked for")
            return
        while offset:
            piece = self.read(min(PIECE, offset))
            if not piece:
                raise RegistryUnreachable(f"registry {self.host} ended a blob early")
            offset -= len(piece)

    def close(self) -> None:
        """Give the connection back where all was read, or drop it."""
        if getattr(self.response, "length_remaining", None) == 0:
            discard(self.response)
        else:
            self.response.close()

    def __enter__(self) -> BlobStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _target(reference: Reference) -> str:
    return str(reference.digest) if reference.digest else reference.tag or "latest"


def _manifest_what(reference: Reference) -> str:
    return f"manifest for {reference.with_default_tag().familiar}"


def _digest_header(response: Response) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", ""))
    except InvalidDigest:
        return None


def _length(response: Response) -> int:
    """How many bytes the answer's head says; 0 where it says nothing that makes sense."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def _manifest_type(response: Response, data: bytes, reference: Reference) -> str:
    """The media type of a manifest: what the answer's head says, else what the document says, else by its members."""
    try:
        document = json.loads(data)
        stated = document.get("mediaType")
    except (ValueError, AttributeError, RecursionError):
        raise RegistryFailed(f"manifest of {reference.familiar} is not a JSON document") from None
    if document.get("schemaVersion") == 1:
        raise Unsupported(
            f"manifest of {reference.familiar} is of Docker's first schema", hint="push the image again with a current engine"
        )
    announced = response.headers.get("Content-Type", "").partition(";")[0].strip()
    for media_type in (stated, announced):
        if media_type in MANIFEST_TYPES:
            return str(media_type)
    if isinstance(stated, str) and stated:
        raise Unsupported(f"manifest of {reference.familiar} has the unknown media type {stated[:100]}")
    return mediatype.OCI_INDEX if "manifests" in document else mediatype.OCI_MANIFEST


def _following(response: Response, path: str) -> str:
    following = next_link(response.headers.getlist("Link"), path)
    return "" if following == path else following


def _texts(body: bytes, key: str) -> list[str]:
    try:
        values = json.loads(body)[key] or []
    except (ValueError, LookupError, TypeError, RecursionError):
        raise RegistryFailed(f"registry answered without {key}") from None
    return [value for value in values if isinstance(value, str)]


def _descriptors(body: bytes) -> tuple[Descriptor, ...]:
    try:
        rows = json.loads(body)["manifests"]
        return tuple(Descriptor(str(row["mediaType"]), Digest.parse(row["digest"]), int(row["size"])) for row in rows)
    except (ValueError, LookupError, TypeError, InvalidDigest):
        raise RegistryFailed("registry answered without a list of referrers") from None
