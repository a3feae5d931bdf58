"""The client against a registry in this process, and against one that misbehaves."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest
from urllib3 import BaseHTTPResponse

from lamina.distribution import session, transport
from lamina.distribution.auth import Auth, TokenRefused
from lamina.distribution.client import BlobUnknown, ManifestUnknown, PullDenied, Registries, RegistryClient
from lamina.distribution.piped import MovingPool, Piped
from lamina.distribution.protocol import MANIFEST_LIMIT
from lamina.distribution.search import catalog, search
from lamina.distribution.session import log_in
from lamina.distribution.transport import RateLimited, RegistryFailed, RegistryUnauthorized, RegistryUnreachable
from lamina.errors import InvalidArgument, LaminaError, Unsupported
from lamina.layer.errors import LayerDamaged
from lamina.registry.http import Request, Response
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch
from lamina.spec.manifest import new_manifest
from lamina.spec.reference import Reference
from tests.registry.servers import Faulty, cut_after, host, in_memory, stall_after, started

CERTIFICATES = Path(__file__).parent.parent / "tls" / "certificates"


def blob(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data), len(data))


def client_of(registries: Registries, host: str, name: str = "a/b", auth: Auth | None = None) -> RegistryClient:
    return registries.repository(Reference.parse(f"{host}/{name}"), auth, push=True)


def put_image(client: RegistryClient, tag: str = "1", size: int = 300_000) -> tuple[Descriptor, bytes]:
    """An image of one random layer; the layer."""
    layer, config = os.urandom(size), b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    for data in (layer, config):
        client.upload(blob(data), io.BytesIO(data))
    made = new_manifest(replace(blob(config), media_type=mediatype.OCI_CONFIG), [replace(blob(layer), media_type=mediatype.OCI_LAYER)])
    client.put_manifest(made.media_type, made.raw, tag)
    return blob(layer), layer


def fetched(client: RegistryClient, row: Descriptor, offset: int = 0) -> bytes:
    data = bytearray()
    client.download(row, offset, data.extend)
    return bytes(data)


def test_what_was_uploaded_comes_back_by_tag_and_digest(faulty: Faulty, registries: Registries) -> None:
    client = client_of(registries, faulty.host)
    row, layer = put_image(client)
    tagged = Reference.parse(f"{faulty.host}/a/b:1")
    descriptor, data = client.resolve(tagged)
    assert client.resolve(replace(tagged, tag="", digest=descriptor.digest)) == (descriptor, data)
    assert client.head(tagged) == descriptor
    assert fetched(client, row) == layer
    assert client.exists(row.digest) == len(layer)
    assert client.exists(Digest.of(b"nothing")) is None
    assert list(client.tags()) == ["1"]


@pytest.mark.parametrize("chunk", [0, 100_000])
def test_a_blob_goes_whole_or_in_pieces(faulty: Faulty, registries: Registries, chunk: int) -> None:
    client, data, sent = client_of(registries, faulty.host), os.urandom(250_001), []
    client.upload(blob(data), io.BytesIO(data), chunk=chunk, sent=sent.append)
    assert client.exists(Digest.of(data)) == len(data)
    assert sent[-1] == len(data)


@pytest.mark.parametrize(("broken", "times"), [(cut_after, 2), (stall_after, 1)])
def test_a_broken_download_goes_on_where_it_broke(
    faulty: Faulty, impatient: Registries, broken: Callable[[Response, int], Response], times: int
) -> None:
    client = client_of(impatient, faulty.host)
    row, layer = put_image(client)
    left = times

    def fault(request: Request, response: Response) -> Response:
        nonlocal left
        if request.method == "GET" and "/blobs/" in request.path and left:
            left -= 1
            return broken(response, 100_000)
        return response

    faulty.fault = fault
    assert fetched(client, row) == layer
    ranges = [headers["range"] for headers in faulty.headers if "range" in headers]
    assert ranges == ["bytes=100000-", "bytes=200000-"][:times]


def test_a_registry_that_ignores_ranges_is_read_from_the_start_again(faulty: Faulty, registries: Registries) -> None:
    client = client_of(registries, faulty.host)
    row, layer = put_image(client)

    def fault(request: Request, response: Response) -> Response:
        if response.status != 206:
            return response
        response.body.file.close()  # type: ignore[union-attr]
        return Response(200, (), layer)

    faulty.fault = fault
    assert fetched(client, row, 200_000) == layer[200_000:]


def test_a_registry_that_never_gets_further_is_given_up(faulty: Faulty, registries: Registries, pauses: list[float]) -> None:
    client = client_of(registries, faulty.host)
    row, _ = put_image(client)
    faulty.fault = lambda request, response: None if request.method == "GET" and "/blobs/" in request.path else response
    with pytest.raises(RegistryUnreachable, match=r"was lost: [^(')]*$"):
        fetched(client, row)
    assert pauses[:3] == [0.2, 0.4, 0.8]


def test_an_upload_that_is_cut_is_sent_again(faulty: Faulty, registries: Registries) -> None:
    client, data = client_of(registries, faulty.host), os.urandom(3_000_000)
    cuts = 1

    def fault(request: Request, response: Response) -> Response | None:
        nonlocal cuts
        if request.method == "PUT" and cuts:
            cuts -= 1
            return None
        return response

    faulty.fault = fault
    client.upload(blob(data), io.BytesIO(data))
    assert client.exists(Digest.of(data)) == len(data)


class Made:
    """Bytes that are made while they go; `fail_after` pieces their maker gives up."""

    def __init__(self, data: bytes, fail_after: int = 1 << 30) -> None:
        self.data, self.fail_after, self.begun, self.ended = data, fail_after, 0, 0

    @contextmanager
    def piped(self) -> Iterator[Piped]:
        self.begun += 1
        reader, writer = os.pipe()
        thread = Thread(target=self._write, args=(writer,))
        thread.start()
        try:
            yield Piped(reader, self._check)
        finally:
            os.close(reader)
            thread.join()
            self.ended += 1

    def _write(self, writer: int) -> None:
        with suppress(BrokenPipeError), open(writer, "wb", buffering=0) as pipe:
            for start in range(0, min(len(self.data), self.fail_after * 100_000), 100_000):
                pipe.write(self.data[start : start + 100_000])

    def _check(self) -> None:
        if self.fail_after * 100_000 < len(self.data):
            raise LayerDamaged("damaged layer")

    def descriptor(self) -> Descriptor:
        return blob(self.data)


@pytest.mark.parametrize("size", [0, 1, 350_000])
def test_a_stream_goes_in_one_chunked_request_and_is_named_at_its_end(faulty: Faulty, registries: Registries, size: int) -> None:
    client, made = client_of(registries, faulty.host), Made(os.urandom(size))
    assert client.upload_stream(made) == blob(made.data)
    assert client.exists(Digest.of(made.data)) == size
    [patch] = [headers for (method, _), headers in zip(faulty.asked, faulty.headers, strict=True) if method == "PATCH"]
    assert patch["transfer-encoding"] == "chunked" and "content-length" not in patch
    [put] = [headers for (method, _), headers in zip(faulty.asked, faulty.headers, strict=True) if method == "PUT"]
    assert put["content-length"] == "0"


def test_a_stream_that_is_cut_is_made_anew(faulty: Faulty, registries: Registries) -> None:
    client, made, cuts = client_of(registries, faulty.host), Made(os.urandom(350_000)), 2

    def fault(request: Request, response: Response) -> Response | None:
        nonlocal cuts
        if request.method in ("PATCH", "PUT") and cuts:
            cuts -= 1
            return None
        return response

    faulty.fault = fault
    client.upload_stream(made)
    assert client.exists(Digest.of(made.data)) == len(made.data)
    assert (made.begun, made.ended) == (3, 3)


def test_a_stream_whose_maker_fails_is_given_up_at_the_registry(faulty: Faulty, registries: Registries, pauses: list[float]) -> None:
    client, made = client_of(registries, faulty.host), Made(os.urandom(350_000), fail_after=2)
    with pytest.raises(LayerDamaged, match="damaged layer"):
        client.upload_stream(made)
    assert (made.begun, made.ended) == (1, 1) and not pauses
    assert faulty.requests("DELETE", "/blobs/uploads/") == 1 and not faulty.requests("PUT", "")


def test_nothing_is_asked_of_the_registry_before_the_first_bytes_are_made(faulty: Faulty, registries: Registries) -> None:
    client, made = client_of(registries, faulty.host), Made(b"x", fail_after=0)
    with pytest.raises(LayerDamaged):
        client.upload_stream(made)
    assert faulty.asked == []


def test_an_upload_in_pieces_asks_what_arrived(faulty: Faulty, registries: Registries) -> None:
    client, data = client_of(registries, faulty.host), os.urandom(300_000)
    cuts = 1

    def fault(request: Request, response: Response) -> Response | None:
        nonlocal cuts
        if request.method == "PATCH" and cuts:
            cuts -= 1
            return None
        return response

    faulty.fault = fault
    client.upload(blob(data), io.BytesIO(data), chunk=100_000)
    assert client.exists(Digest.of(data)) == len(data)
    assert faulty.requests("PATCH", "/blobs/uploads/") == 3
    assert faulty.requests("GET", "/blobs/uploads/") == 1


def test_a_manifest_of_other_bytes_is_refused(faulty: Faulty, registries: Registries) -> None:
    client = client_of(registries, faulty.host)
    put_image(client)
    faulty.fault = lambda request, response: (
        Response(200, response.headers, in_memory(response) + b" ")
        if "/manifests/" in request.path and response.status == 200
        else response
    )
    with pytest.raises(DigestMismatch, match="instead of"):
        client.resolve(Reference.parse(f"{faulty.host}/a/b:1"))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"no json", RegistryFailed),
        (b"[1]", RegistryFailed),
        (b'{"schemaVersion":1}', Unsupported),
        (b'{"schemaVersion":2,"mediaType":"application/odd"}', Unsupported),
        (b" " * (MANIFEST_LIMIT + 1), RegistryFailed),
    ],
)
def test_what_is_no_manifest_is_refused(faulty: Faulty, registries: Registries, body: bytes, kind: type[LaminaError]) -> None:
    faulty.fault = lambda request, response: Response(200, (), body) if "/manifests/" in request.path else response
    reference = Reference.parse(f"{faulty.host}/a/b:1")
    with pytest.raises(kind):
        client_of(registries, faulty.host).resolve(reference)


def test_what_is_not_there_is_named(faulty: Faulty, registries: Registries) -> None:
    client = client_of(registries, faulty.host)
    put_image(client)
    with pytest.raises(ManifestUnknown, match="a/b:2 not found: manifest unknown"):
        client.resolve(Reference.parse(f"{faulty.host}/a/b:2"))
    with pytest.raises(BlobUnknown):
        fetched(client, blob(b"nothing"))


def test_a_blob_is_mounted_from_another_repository(faulty: Faulty, registries: Registries) -> None:
    row, _ = put_image(client_of(registries, faulty.host))
    other = client_of(registries, faulty.host, "other")
    assert other.mount(row.digest, "a/b")
    assert other.exists(row.digest)
    assert not other.mount(Digest.of(b"nothing"), "a/b")
    assert faulty.requests("DELETE", "/blobs/uploads/") == 1


def test_a_token_server_that_grants_nothing_on_the_other_repository_ends_no_push(faulty: Faulty, registries: Registries) -> None:
    row, _ = put_image(client_of(registries, faulty.host))
    _token_server(faulty)
    tokens = faulty.fault
    # the first token that is asked for is one for both repositories
    faulty.fault = lambda request, response: Response(403) if faulty.requests("GET", "/token") == 1 else tokens(request, response)
    registries.endpoints.forget(faulty.host)
    other = client_of(registries, faulty.host, "other", Auth("user", "pw"))
    assert not other.mount(row.digest, "a/b")
    assert other.exists(row.digest) is None


def test_lists_are_followed_page_by_page(faulty: Faulty, registries: Registries) -> None:
    client = client_of(registries, faulty.host)
    for tag in ("a", "b", "c"):
        put_image(client, tag, 10)

    def fault(request: Request, response: Response) -> Response:
        request.query = {**request.query, "n": "1"}
        return faulty.server._service.answer(request) if "/tags/" in request.path else response

    faulty.fault = fault
    assert list(client.tags()) == ["a", "b", "c"]
    assert faulty.requests("GET", "/tags/list") == 3


def test_a_busy_registry_is_asked_again_after_a_pause(faulty: Faulty, registries: Registries, pauses: list[float]) -> None:
    client = client_of(registries, faulty.host)
    put_image(client)
    busy = 2

    def fault(request: Request, response: Response) -> Response:
        nonlocal busy
        if "/manifests/" in request.path and busy:
            busy -= 1
            return Response(429, (("Retry-After", "3"),))
        return response

    faulty.fault = fault
    client.resolve(Reference.parse(f"{faulty.host}/a/b:1"))
    assert pauses == [3.0, 3.0]
    busy = 99
    with pytest.raises(RateLimited, match="limits the rate"):
        client.resolve(Reference.parse(f"{faulty.host}/a/b:1"))


def test_a_registry_that_is_busy_when_it_is_first_asked_is_asked_again(faulty: Faulty, registries: Registries, pauses: list[float]) -> None:
    faulty.fault = lambda request, response: Response(503) if faulty.requests("GET", "/v2/") < 3 else response
    assert client_of(registries, faulty.host).exists(Digest.of(b"")) is None
    assert pauses == [0.2, 0.4]
    registries.endpoints.forget(faulty.host)
    faulty.fault = lambda request, response: Response(503)
    with pytest.raises(RegistryFailed, match="answered 503 Service Unavailable for /v2/"):
        client_of(registries, faulty.host).exists(Digest.of(b""))


def test_nobody_listening_is_one_sentence(registries: Registries) -> None:
    reference = Reference.parse("127.0.0.1:1/x")
    with pytest.raises(RegistryUnreachable, match=r"^registry 127.0.0.1:1 is unreachable: connection refused$"):
        registries.repository(reference).resolve(reference)


def _token_server(faulty: Faulty, *, token: str = "good", password: str = "pw") -> None:
    """Make the registry ask for a bearer token, which `/token` of it gives for the right password."""

    def fault(request: Request, response: Response) -> Response:
        if request.path == "/token":
            return _token(request)
        if request.headers.get("authorization") == "Bearer good":
            return response
        realm = f'Bearer realm="http://{faulty.host}/token",service="test"'
        return Response(401, (("WWW-Authenticate", realm),), b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}')

    def _token(request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        if authorization and base64.b64decode(authorization[6:]).decode() != f"user:{password}":
            return Response(401)
        return Response(200, (), json.dumps({"token": token, "refresh_token": "identity"}).encode())

    faulty.fault = fault


def test_a_token_is_fetched_once_and_used_for_all(faulty: Faulty, registries: Registries) -> None:
    _token_server(faulty)
    client = client_of(registries, faulty.host, auth=Auth("user", "pw"))
    row, layer = put_image(client)
    assert fetched(client, row) == layer
    assert faulty.requests("GET", "/token") == 1


def test_a_wrong_password_is_refused_by_the_token_server(faulty: Faulty, registries: Registries) -> None:
    _token_server(faulty)
    with pytest.raises(TokenRefused, match="refuses the credentials"):
        client_of(registries, faulty.host, auth=Auth("user", "wrong")).exists(Digest.of(b""))


def test_a_token_that_the_registry_does_not_take_is_renewed_once(faulty: Faulty, registries: Registries) -> None:
    _token_server(faulty, token="stale")
    reference = Reference.parse(f"{faulty.host}/a/b:1")
    with pytest.raises(PullDenied, match=r"pull access denied for .*/a/b, repository does not exist or may require 'docker login'"):
        client_of(registries, faulty.host).resolve(reference)
    assert faulty.requests("GET", "/token") == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_push_that_is_refused_at_its_first_question_names_the_repository(faulty: Faulty, registries: Registries, status: int) -> None:
    faulty.fault = lambda request, response: (
        Response(status, (("WWW-Authenticate", 'Basic realm="it"'),)) if "/blobs/" in request.path else response
    )
    with pytest.raises(LaminaError, match=r"^push access denied for .*/a/b: "):
        client_of(registries, faulty.host).exists(Digest.of(b""))


@pytest.mark.parametrize(("auth", "kind"), [(None, PullDenied), (Auth("user", "wrong"), RegistryUnauthorized)])
def test_a_registry_that_asks_for_a_password_is_told_from_one_that_refuses_it(
    faulty: Faulty, registries: Registries, auth: Auth | None, kind: type[LaminaError]
) -> None:
    faulty.fault = lambda request, response: Response(401, (("WWW-Authenticate", 'Basic realm="it"'),))
    with pytest.raises(kind):
        client_of(registries, faulty.host, auth=auth).resolve(Reference.parse(f"{faulty.host}/a/b:1"))


def test_a_token_that_is_refused_to_two_requests_at_once_is_renewed_for_both(
    faulty: Faulty, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, both, dropped = Digest.of(b"1"), Digest.of(b"2"), Barrier(2, timeout=20), Event()

    def fault(request: Request, response: Response) -> Response:
        if request.path == "/token":
            return Response(200, (), json.dumps({"token": "new" if dropped.is_set() else "old"}).encode())
        if request.headers.get("authorization") == "Bearer new":
            return response
        if request.headers.get("authorization") == "Bearer old":
            both.wait()
            if str(second) in request.path:
                dropped.wait(20)
        return Response(401, (("WWW-Authenticate", f'Bearer realm="http://{faulty.host}/token"'),))

    def discarding(response: BaseHTTPResponse) -> None:
        if not dropped.is_set():  # the first has dropped the token, and not asked for another yet
            dropped.set()
            asked[0].result(20)
        transport.discard(response)

    faulty.fault = fault
    client = client_of(registries, faulty.host)
    registries.endpoints.find(faulty.host)
    asked: list[Future[int | None]] = []
    monkeypatch.setattr(session, "discard", discarding)
    with ThreadPoolExecutor(2) as threads:
        asked.append(threads.submit(client.exists, second))
        assert threads.submit(client.exists, first).result(20) is None
        assert asked[0].result(20) is None


@pytest.mark.parametrize("realm", ["", "ftp://x", "http://", "no address", "http://["])
def test_an_unusable_realm_is_said(faulty: Faulty, registries: Registries, realm: str) -> None:
    faulty.fault = lambda request, response: Response(401, (("WWW-Authenticate", f'Bearer realm="{realm}"'),))
    with pytest.raises(LaminaError, match="unusable address"):
        client_of(registries, faulty.host).exists(Digest.of(b""))


@pytest.mark.parametrize("address", ["http://[", "http://x:99999/", "file:///etc/passwd"])
def test_an_unusable_address_is_said_wherever_a_registry_names_it(
    faulty: Faulty, registries: Registries, pauses: list[float], address: str
) -> None:
    client = client_of(registries, faulty.host)
    row, layer = put_image(client)
    faulty.fault = lambda request, response: (
        Response(307, (("Location", address),))
        if request.method == "GET" and "/blobs/" in request.path
        else Response(202, (("Location", address),))
        if request.method == "POST"
        else Response(200, (("Link", f'<{address}>; rel="next"'),), b'{"tags":["a"]}')
        if "/tags/" in request.path
        else response
    )
    for ask in (
        lambda: fetched(client, row),
        lambda: client.upload(row, io.BytesIO(layer)),
        lambda: list(client.tags()),
        lambda: log_in(registries.session("[")),
    ):
        with pytest.raises(RegistryFailed, match="unusable address of a registry"):
            ask()
    assert pauses == []


def test_a_length_of_thousands_of_digits_is_none(faulty: Faulty, registries: Registries) -> None:
    client = client_of(registries, faulty.host)
    row, _ = put_image(client)
    endless = (("Content-Length", "9" * 5000), ("Docker-Content-Digest", str(row.digest)), ("Content-Type", mediatype.OCI_MANIFEST))
    faulty.fault = lambda request, response: Response(200, endless) if request.method == "HEAD" else response
    assert client.exists(row.digest) == 0
    found = client.head(Reference.parse(f"{faulty.host}/a/b:1"))
    assert found is not None and found.size == 0


def test_login_gives_the_identity_token(faulty: Faulty, registries: Registries) -> None:
    _token_server(faulty)
    assert log_in(registries.session(faulty.host, Auth("user", "pw"))) == "identity"
    with pytest.raises(TokenRefused):
        log_in(registries.session(faulty.host, Auth("user", "no")))


def test_a_login_that_is_refused_is_not_advised_to_log_in(faulty: Faulty, registries: Registries) -> None:
    _token_server(faulty)
    with pytest.raises(TokenRefused) as by_token:
        log_in(registries.session(faulty.host, Auth("user", "no")))
    faulty.fault = lambda request, response: Response(401, (("WWW-Authenticate", 'Basic realm="x"'),))
    with pytest.raises(RegistryUnauthorized) as directly:
        log_in(registries.session(faulty.host, Auth("user", "no")))
    assert by_token.value.hint == directly.value.hint == ""


def test_login_answers_what_the_registry_asks_for_now(faulty: Faulty, registries: Registries) -> None:
    assert client_of(registries, faulty.host).exists(Digest.of(b"")) is None
    _token_server(faulty)
    assert log_in(registries.session(faulty.host, Auth("user", "pw"))) == "identity"


def test_credentials_do_not_follow_a_redirect_to_another_host(faulty: Faulty, registries: Registries) -> None:
    row, layer = put_image(client_of(registries, faulty.host))
    elsewhere = Faulty(faulty.server)
    faulty.fault = lambda request, response: (
        Response(307, (("Location", f"http://{elsewhere.host}{request.path}"),))
        if "/blobs/" in request.path
        else Response(401, (("WWW-Authenticate", 'Basic realm="x"'),))
    )
    registries.endpoints.forget(faulty.host)
    client = client_of(registries, faulty.host, auth=Auth("user", "pw"))
    assert fetched(client, row) == layer
    elsewhere.close()
    assert any("authorization" in headers for headers in faulty.headers)
    assert not any("authorization" in headers for headers in elsewhere.headers)


def test_a_mirror_serves_dockers_images_and_the_registry_what_it_lacks(faulty: Faulty, registries: Registries) -> None:
    put_image(client_of(registries, faulty.host, "library/web"))
    origin = client_of(registries, faulty.host, "library/web").origin
    mirror = registries.session(f"http://{faulty.host}")
    nobody = registries.session("http://127.0.0.1:1")
    reference = Reference.parse("web:1")
    through_mirror = RegistryClient(reference, nobody, (mirror,))
    descriptor, _ = through_mirror.resolve(reference)
    assert RegistryClient(reference, origin, (nobody,)).resolve(reference)[0] == descriptor
    with pytest.raises(LaminaError):
        RegistryClient(reference, nobody, (mirror,)).resolve(replace(reference, tag="2"))


@pytest.mark.parametrize("document", [False, True], ids=["a layer", "a manifest"])
@pytest.mark.parametrize("good", [0, 100_000])
def test_a_mirror_that_gets_no_further_is_passed_over(faulty: Faulty, registries: Registries, good: int, document: bool) -> None:
    row, layer = put_image(client_of(registries, host(faulty.server), "library/web"))
    asked = 0

    def cut(request: Request, response: Response) -> Response:
        nonlocal asked
        if request.method != "GET" or not request.path.startswith("/v2/library/web/"):
            return response
        asked += 1
        data, request.headers = in_memory(response), {"connection": "close"}
        return Response(200, (*response.headers, ("Content-Length", str(len(data)))), data[: 0 if document else good])

    faulty.fault = cut
    origin, mirror = registries.session(f"http://{host(faulty.server)}"), registries.session(f"http://{faulty.host}")
    client = RegistryClient(Reference.parse("web:1"), origin, (mirror,))
    if document:
        assert client.resolve(client.repository)[0].size
    else:
        assert fetched(client, row) == layer
    before = asked
    assert before <= 5  # four attempts, and one that got somewhere
    assert fetched(client, row) == layer and asked == before


def test_search_asks_the_registry_or_looks_through_its_catalog(faulty: Faulty, registries: Registries) -> None:
    for name in ("one/web", "two"):
        put_image(client_of(registries, faulty.host, name))
    session = registries.session(faulty.host)
    assert [hit.name for hit in search(session, "web", 25, {})] == ["one/web"]
    faulty.fault = lambda request, response: Response(404) if request.path == "/v1/search" else response
    assert [hit.name for hit in search(session, "web", 25, {})] == ["one/web"]
    assert list(catalog(session)) == ["one/web", "two"]
    assert search(session, "", 25, {"stars": ["3"]}) == []
    for bad in ({"stars": ["x"]}, {"stars": ["9" * 5000]}, {"odd": ["1"]}, {"is-official": ["maybe"]}):
        with pytest.raises(InvalidArgument):
            search(session, "", 25, bad)
    with pytest.raises(InvalidArgument, match=r"outside the range of \[1, 100\]"):
        search(session, "", 0, {})


@pytest.mark.parametrize("size", [0, 1, 3_500_000])
def test_a_stream_goes_through_tls_too(tmp_path: Path, registries: Registries, size: int) -> None:
    server = started(tmp_path, tls_certificate=str(CERTIFICATES / "engine.pem"), tls_key=str(CERTIFICATES / "engine-key.pem"))
    try:
        client, made = client_of(registries, host(server)), Made(os.urandom(size))
        assert client.upload_stream(made) == blob(made.data)
        assert client.exists(Digest.of(made.data)) == size
        with pytest.raises(LayerDamaged, match="damaged layer"):
            client.upload_stream(Made(os.urandom(350_000), fail_after=2))
    finally:
        server.close()


def test_a_registry_that_takes_nothing_more_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Made(bytes(30_000_000)).piped() as body:
        connection = MovingPool.ConnectionCls("127.0.0.1", silent.getsockname()[1], timeout=0.05)
        with pytest.raises(TimeoutError):
            connection.request("PATCH", "/", body)
        connection.close()


def test_a_cut_manifest_is_asked_for_again_and_told_as_cut(faulty: Faulty, registries: Registries, pauses: list[float]) -> None:
    client = client_of(registries, faulty.host)
    put_image(client)
    reference, cuts = Reference.parse(f"{faulty.host}/a/b:1"), 2

    def cut(request: Request, response: Response) -> Response:
        nonlocal cuts
        if cuts and request.method == "GET" and "/manifests/" in request.path:
            cuts -= 1
            data, request.headers = in_memory(response), {"connection": "close"}
            return Response(200, (*response.headers, ("Content-Length", str(len(data)))), data[:-1])
        return response

    faulty.fault = cut
    assert client.resolve(reference)[0].size
    assert len(pauses) == 2
    cuts = 1000
    with pytest.raises(RegistryUnreachable, match="was lost"):
        client.resolve(reference)


def test_lists_without_an_end_are_given_up(faulty: Faulty, registries: Registries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.distribution.client.PAGES_LIMIT", 20)
    monkeypatch.setattr("lamina.distribution.search.PAGES_LIMIT", 20)
    asked = 0

    def endless(request: Request, response: Response) -> Response:
        nonlocal asked
        asked += 1
        empty = json.dumps({"name": "a/b", "tags": [], "repositories": []}).encode()
        return Response(200, (("Link", f'<{request.path}?last={asked}>; rel="next"'),), empty)

    faulty.fault = endless
    with pytest.raises(RegistryFailed, match="more than 20 pages of tags of"):
        list(client_of(registries, faulty.host).tags())
    assert list(catalog(registries.session(faulty.host))) == []
