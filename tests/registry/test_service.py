"""The registry as the distribution specification's conformance tests see it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import socket
import threading
from pathlib import Path

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import LaminaError
from lamina.registry.__main__ import main as registry
from lamina.registry.access import Gate, InvalidUsers, hashed, read_users, verify
from lamina.registry.documents import read_needs
from lamina.registry.errors import BlobUploadUnknown, ManifestInvalid, NameInvalid
from lamina.registry.filesystem import FileStorage
from lamina.registry.routes import Route, route
from lamina.registry.server import AddressUnusable, InvalidAddress, RegistryServer, ServeOptions
from lamina.spec import mediatype
from lamina.spec.digest import Digest
from lamina.tls.contexts import InvalidCertificates
from tests.harness import eventually
from tests.registry.servers import started

Pool = urllib3.HTTPConnectionPool


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def code(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    return answer.status, answer.json()["errors"][0]["code"]


def push_blob(http: Pool, data: bytes, name: str = "a/b") -> str:
    answer = http.request("POST", f"/v2/{name}/blobs/uploads/?digest={sha(data)}", body=data)
    assert answer.status == 201, answer.data
    return sha(data)


def manifest_of(http: Pool, name: str = "a/b", **more: object) -> bytes:
    config, layer = b"{}", b"layer"
    for data in (config, layer):
        push_blob(http, data, name)
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": {"mediaType": mediatype.OCI_CONFIG, "digest": sha(config), "size": len(config)},
        "layers": [{"mediaType": mediatype.OCI_LAYER, "digest": sha(layer), "size": len(layer)}],
    }
    return json.dumps({**document, **more}).encode()


def put(http: Pool, data: bytes, reference: str, name: str = "a/b", media_type: str = mediatype.OCI_MANIFEST) -> urllib3.BaseHTTPResponse:
    return http.request("PUT", f"/v2/{name}/manifests/{reference}", body=data, headers={"Content-Type": media_type})


def test_the_root_says_that_this_is_a_registry(http: Pool) -> None:
    answer = http.request("GET", "/v2/")
    assert (answer.status, answer.headers["Docker-Distribution-API-Version"]) == (200, "registry/2.0")


def test_a_query_of_too_many_fields_and_a_manifest_that_lacks_one_are_told_in_a_sentence(http: Pool) -> None:
    answer = http.request("GET", "/v2/?" + "&".join(f"field{number}=1" for number in range(65)))
    assert (answer.status, answer.data) == (400, b"query has more than 64 fields\n")
    answer = put(http, b'{"schemaVersion":2,"config":{}}', "1")
    assert (answer.status, answer.json()["errors"][0]["message"]) == (400, "manifest invalid: it lacks 'digest'")


def test_a_blob_goes_in_at_once_by_post_and_put_and_in_pieces(http: Pool) -> None:
    data = os.urandom(3_000_000)
    push_blob(http, data)
    for pieces in ([], [data[:1_000_000], data[1_000_000:]]):
        name = f"pieces{len(pieces)}"
        location, offset = http.request("POST", f"/v2/{name}/blobs/uploads/").headers["Location"], 0
        for piece in pieces:
            answer = http.request("PATCH", location, body=piece, headers={"Content-Range": f"{offset}-{offset + len(piece) - 1}"})
            offset += len(piece)
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{offset - 1}")
            location = answer.headers["Location"]
        answer = http.request("PUT", f"{location}?digest={sha(data)}", body=b"" if pieces else data)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, sha(data))
        assert http.request("GET", answer.headers["Location"]).data == data


def test_a_piece_out_of_order_is_refused_and_the_state_can_be_asked(http: Pool) -> None:
    location = http.request("POST", "/v2/a/blobs/uploads/").headers["Location"]
    http.request("PATCH", location, body=b"12345", headers={"Content-Range": "0-4"})
    assert code(http.request("PATCH", location, body=b"1", headers={"Content-Range": "7-7"})) == (416, "BLOB_UPLOAD_INVALID")
    answer = http.request("GET", location)
    assert (answer.status, answer.headers["Range"]) == (204, "0-4")
    assert code(http.request("PATCH", location, body=b"12", headers={"Content-Range": "5-5"})) == (400, "SIZE_INVALID")
    assert http.request("DELETE", location).status == 204
    assert code(http.request("GET", location)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_a_wrong_digest_stores_nothing(http: Pool) -> None:
    assert code(http.request("POST", f"/v2/a/blobs/uploads/?digest={sha(b'x')}", body=b"y")) == (400, "DIGEST_INVALID")
    assert http.request("HEAD", f"/v2/a/blobs/{sha(b'x')}").status == 404
    location = http.request("POST", "/v2/a/blobs/uploads/").headers["Location"]
    assert code(http.request("PUT", f"{location}?digest={sha(b'x')}", body=b"y")) == (400, "DIGEST_INVALID")
    assert http.request("GET", location).status == 404
    assert code(http.request("PUT", f"{location}?digest=nonsense")) == (400, "DIGEST_INVALID")


def test_a_chunked_body_is_taken(http: Pool) -> None:
    location = http.request("POST", "/v2/a/blobs/uploads/").headers["Location"]
    pieces = [os.urandom(70_000) for _ in range(5)]
    answer = http.request("PATCH", location, body=iter(pieces), headers={"Transfer-Encoding": "chunked"}, chunked=True)
    assert answer.headers["Range"] == "0-349999"
    assert http.request("PUT", f"{location}?digest={sha(b''.join(pieces))}").status == 201


def test_ranges_of_a_blob(http: Pool) -> None:
    digest = push_blob(http, b"0123456789")

    def part(value: str) -> tuple[int, bytes, str]:
        answer = http.request("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": value})
        return answer.status, answer.data, answer.headers.get("Content-Range", "")

    assert part("bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert part("bytes=8-") == (206, b"89", "bytes 8-9/10")
    assert part("bytes=x")[:2] == (200, b"0123456789")
    assert part("bytes=10-")[0] == 416
    head = http.request("HEAD", f"/v2/a/b/blobs/{digest}")
    assert (head.status, head.headers["Content-Length"], head.data) == (200, "10", b"")


def test_a_blob_is_mounted_where_its_source_has_it(http: Pool) -> None:
    digest = push_blob(http, b"data")
    assert http.request("POST", f"/v2/other/blobs/uploads/?mount={digest}&from=a/b").status == 201
    assert http.request("GET", f"/v2/other/blobs/{digest}").data == b"data"
    assert http.request("POST", f"/v2/third/blobs/uploads/?mount={sha(b'none')}&from=a/b").status == 202
    assert http.request("POST", f"/v2/third/blobs/uploads/?mount={digest}&from=../../x").status == 202
    assert code(http.request("GET", f"/v2/third/blobs/{digest}")) == (404, "BLOB_UNKNOWN")


def test_a_manifest_by_tag_and_digest(http: Pool) -> None:
    data = manifest_of(http)
    answer = put(http, data, "v1")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, sha(data))
    for reference in ("v1", sha(data)):
        answer = http.request("GET", f"/v2/a/b/manifests/{reference}")
        assert (answer.data, answer.headers["Content-Type"]) == (data, mediatype.OCI_MANIFEST)
        head = http.request("HEAD", f"/v2/a/b/manifests/{reference}")
        assert (head.headers["Content-Length"], head.headers["Docker-Content-Digest"]) == (str(len(data)), sha(data))
    assert code(http.request("GET", "/v2/a/b/manifests/v2")) == (404, "MANIFEST_UNKNOWN")
    assert code(http.request("GET", "/v2/nobody/manifests/v2")) == (404, "NAME_UNKNOWN")


def test_a_manifest_needs_its_parts(http: Pool) -> None:
    data = manifest_of(http, "elsewhere")
    assert code(put(http, data, "v1")) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert code(put(http, b"{", "v1")) == (400, "MANIFEST_INVALID")
    assert code(put(http, data, "v1", "elsewhere", "text/plain")) == (400, "MANIFEST_INVALID")
    assert code(put(http, data, sha(b"other"), "elsewhere")) == (400, "DIGEST_INVALID")
    assert code(put(http, data, ".bad", "elsewhere")) == (400, "MANIFEST_INVALID")
    assert code(put(http, b" " * (5 << 20), "v1", "elsewhere")) == (413, "MANIFEST_INVALID")


def test_an_index_and_dockers_media_types(http: Pool) -> None:
    data = manifest_of(http, mediaType=mediatype.DOCKER_MANIFEST)
    assert put(http, data, sha(data), media_type=mediatype.DOCKER_MANIFEST).status == 201
    row = {"mediaType": mediatype.DOCKER_MANIFEST, "digest": sha(data), "size": len(data)}
    for kind in (mediatype.OCI_INDEX, mediatype.DOCKER_INDEX):
        index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [row]}).encode()
        assert put(http, index, "list", media_type=kind).status == 201
        assert http.request("GET", "/v2/a/b/manifests/list").headers["Content-Type"] == kind


def test_tags_come_sorted_and_in_pages(http: Pool) -> None:
    data = manifest_of(http)
    for tag in ("c", "a", "B", "d"):
        put(http, data, tag)
    assert http.request("GET", "/v2/a/b/tags/list").json() == {"name": "a/b", "tags": ["B", "a", "c", "d"]}
    first = http.request("GET", "/v2/a/b/tags/list?n=2")
    assert (first.json()["tags"], first.headers["Link"]) == (["B", "a"], '</v2/a/b/tags/list?last=a&n=2>; rel="next"')
    rest = http.request("GET", "/v2/a/b/tags/list?last=a&n=2")
    assert (rest.json()["tags"], "Link" in rest.headers) == (["c", "d"], False)
    assert code(http.request("GET", "/v2/none/tags/list")) == (404, "NAME_UNKNOWN")
    assert http.request("GET", "/v2/a/b/tags/list?n=x").status == 400


def test_the_catalog_holds_repositories_with_manifests(http: Pool) -> None:
    for name in ("b", "a/x", "a"):
        put(http, manifest_of(http, name), "1", name)
    push_blob(http, b"x", "only-blobs")
    assert http.request("GET", "/v2/_catalog").json() == {"repositories": ["a", "a/x", "b"]}
    page = http.request("GET", "/v2/_catalog?n=1")
    assert page.headers["Link"] == '</v2/_catalog?last=a&n=1>; rel="next"'


def test_deleting_tags_manifests_and_blobs(http: Pool) -> None:
    data = manifest_of(http)
    for tag in ("1", "2"):
        put(http, data, tag)
    assert http.request("DELETE", "/v2/a/b/manifests/1").status == 202
    assert http.request("GET", f"/v2/a/b/manifests/{sha(data)}").status == 200
    assert http.request("DELETE", f"/v2/a/b/manifests/{sha(data)}").status == 202
    assert http.request("GET", "/v2/a/b/manifests/2").status == 404
    assert http.request("GET", f"/v2/a/b/manifests/{sha(data)}").status == 404
    assert http.request("DELETE", f"/v2/a/b/manifests/{sha(data)}").status == 404
    assert http.request("DELETE", f"/v2/a/b/blobs/{sha(b'layer')}").status == 202
    assert http.request("HEAD", f"/v2/a/b/blobs/{sha(b'layer')}").status == 404


def test_referrers_are_what_names_a_subject(http: Pool) -> None:
    base = manifest_of(http)
    subject = {"mediaType": mediatype.OCI_MANIFEST, "digest": sha(base), "size": len(base)}
    signature = manifest_of(http, subject=subject, artifactType="application/signature", annotations={"k": "v"})
    answer = put(http, signature, sha(signature))
    assert answer.headers["OCI-Subject"] == sha(base)
    put(http, manifest_of(http, subject=subject, artifactType="application/sbom"), "sbom")
    rows = http.request("GET", f"/v2/a/b/referrers/{sha(base)}").json()["manifests"]
    assert {row["artifactType"] for row in rows} == {"application/signature", "application/sbom"}
    some = http.request("GET", f"/v2/a/b/referrers/{sha(base)}?artifactType=application/signature")
    assert some.headers["OCI-Filters-Applied"] == "artifactType"
    assert [(row["digest"], row["annotations"]) for row in some.json()["manifests"]] == [(sha(signature), {"k": "v"})]
    assert http.request("DELETE", f"/v2/a/b/manifests/{sha(signature)}").status == 202
    assert len(http.request("GET", f"/v2/a/b/referrers/{sha(base)}").json()["manifests"]) == 1
    assert http.request("GET", f"/v2/a/b/referrers/{sha(b'none')}").json()["manifests"] == []


@pytest.mark.parametrize("name", ["A/b", "../x", "a//b", "a/_tags", "-a", "a/" * 130 + "a"])
def test_a_repository_cannot_have_that_name(http: Pool, name: str) -> None:
    assert code(http.request("GET", f"/v2/{name}/tags/list")) in ((400, "NAME_INVALID"), (404, "NAME_UNKNOWN"))
    with pytest.raises(NameInvalid):
        route(f"/v2/{name}/tags/list")


def test_unknown_paths_and_methods_are_refused(http: Pool) -> None:
    assert http.request("GET", "/").status == 404
    assert code(http.request("PUT", "/v2/a/tags/list")) == (405, "UNSUPPORTED")


@given(st.text())
def test_any_path_is_read_or_refused(path: str) -> None:
    try:
        assert isinstance(route(path), Route)
    except NameInvalid:
        pass


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["schemaVersion", "config", "layers", "manifests", "digest", "subject", "annotations"]), inner
        ),
    ).map(lambda x: json.dumps(x).encode())
)
def test_any_manifest_is_read_or_refused(data: bytes) -> None:
    for media_type in (mediatype.OCI_MANIFEST, mediatype.OCI_INDEX, "x"):
        try:
            read_needs(data, media_type)
        except ManifestInvalid:
            pass


def test_a_registry_without_room_for_a_thread_turns_the_client_away_and_goes_on(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with socket.create_connection(server.address, 120) as refused:
            assert refused.recv(1) == b""
    with socket.create_connection(server.address, 120) as served:
        served.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert served.recv(8) == b"HTTP/1.1"


def test_what_is_no_http_is_refused(server: RegistryServer) -> None:
    for request in (
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"PATCH /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        with socket.create_connection(server.address, timeout=60) as client:
            client.sendall(request)
            assert client.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))


def test_a_client_that_expects_a_continue_gets_it(server: RegistryServer) -> None:
    with socket.create_connection(server.address, timeout=60) as client:
        client.sendall(
            f"POST /v2/a/blobs/uploads/?digest={sha(b'x')} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        client.sendall(b"x")
        assert client.recv(100).startswith(b"HTTP/1.1 201")


def test_the_same_bytes_fed_one_by_one_give_the_same_answer(server: RegistryServer) -> None:
    request = f"POST /v2/a/blobs/uploads/?digest={sha(b'hello')} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for step in (1, 7, 10_000):
        with socket.create_connection(server.address, timeout=60) as client:
            for start in range(0, len(request), step):
                client.sendall(request[start : start + step].encode())
            answer = b""
            while data := client.recv(65536):
                answer += data
            assert answer.startswith(b"HTTP/1.1 201") and b"HTTP/1.1 200" in answer


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    first = started(tmp_path)
    http = urllib3.HTTPConnectionPool(*first.address)
    location = http.request("POST", "/v2/a/blobs/uploads/").headers["Location"]
    http.request("PATCH", location, body=b"first ")
    http.close()
    first.close()
    second = started(tmp_path)
    http = urllib3.HTTPConnectionPool(*second.address)
    assert http.request("PUT", f"{location}?digest={sha(b'first second')}", body=b"second").status == 201
    http.close()
    second.close()


def test_an_upload_that_another_request_has_finished_is_unknown_and_its_blob_stays(tmp_path: Path) -> None:
    storage, told = FileStorage(str(tmp_path)), list[LaminaError]()
    name = storage.begin("a")

    def comes_late() -> None:
        try:
            with storage.upload("a", name) as upload:
                upload.write(memoryview(b"more"))
        except LaminaError as error:
            told.append(error)

    def opened() -> int:
        return sum(os.path.basename(os.path.realpath(f"/proc/self/fd/{fd}")).startswith(name) for fd in os.listdir("/proc/self/fd"))

    late = threading.Thread(target=comes_late)
    with storage.upload("a", name) as upload:
        upload.write(memoryview(b"blob"))
        late.start()
        eventually(lambda: opened() == 2, "it does not wait for the first")
        upload.commit(Digest.parse(sha(b"blob")))
    late.join(30)
    assert [type(error) for error in told] == [BlobUploadUnknown]
    with storage.open_blob("a", Digest.parse(sha(b"blob"))) as blob:
        assert blob.read() == b"blob"


def test_a_full_disk_is_told_to_who_uploads(http: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.registry.filesystem.FileUpload.write", full)
    answer = http.request("POST", f"/v2/a/blobs/uploads/?digest={sha(b'x')}", body=b"x")
    assert code(answer) == (507, "UNKNOWN") and "no space left" in answer.json()["errors"][0]["message"]


def test_users_are_asked_for_their_password(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"# users\nanna:{hashed('right')}\nold:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    server = started(tmp_path / "r", users=str(users))
    http = urllib3.HTTPConnectionPool(*server.address)
    refused = http.request("GET", "/v2/")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="lamina registry"')
    for name, word, status in (
        ("anna", "right", 200),
        ("anna", "right", 200),
        ("anna", "wrong", 401),
        ("nobody", "", 401),
        ("old", "password", 200),
    ):
        headers = urllib3.make_headers(basic_auth=f"{name}:{word}")
        assert http.request("GET", "/v2/", headers=headers).status == status
    assert http.request("GET", "/v2/", headers={"Authorization": "Basic ???"}).status == 401
    http.close()
    server.close()


def test_a_file_of_users_that_names_nobody_lets_nobody_in(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("# nobody yet\n")
    server = started(tmp_path / "r", users=str(users))
    with urllib3.HTTPConnectionPool(*server.address) as http:
        assert code(http.request("POST", "/v2/a/blobs/uploads/")) == (401, "UNAUTHORIZED")
    server.close()


def test_a_password_that_cannot_be_written_leaves_the_file_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "users"
    users.write_text("# ours\nanna:{SHA}x\n")
    users.chmod(0o640)
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert registry(["passwd", "--users", str(users), "--password-stdin", "ada"]) == 0
    kept = users.read_text()
    assert kept.startswith("# ours\nanna:{SHA}x\nada:{scrypt}") and users.stat().st_mode & 0o777 == 0o640
    monkeypatch.setattr("os.replace", full)
    assert registry(["passwd", "--users", str(users), "--password-stdin", "eve"]) == 1
    assert users.read_text() == kept and os.listdir(tmp_path) == ["users"]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@given(st.text(), st.text())
def test_any_stored_hash_is_checked_without_a_crash(password: str, stored: str) -> None:
    verify(password, stored)


@given(st.text())
def test_any_authorization_is_accepted_or_refused(header: str) -> None:
    try:
        Gate({"a": "{SHA}x"}).check(header)
        raise AssertionError("let in")
    except LaminaError:
        pass


def test_a_file_of_users_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("name:$2y$05$bcrypt")
    with pytest.raises(InvalidUsers, match="line 1"):
        read_users(str(path))


def test_a_read_only_registry_takes_nothing(tmp_path: Path) -> None:
    server = started(tmp_path, read_only=True)
    http = urllib3.HTTPConnectionPool(*server.address)
    assert code(http.request("POST", "/v2/a/blobs/uploads/")) == (403, "DENIED")
    http.close()
    server.close()


def test_the_sweep_keeps_what_manifests_need(http: Pool, tmp_path: Path) -> None:
    put(http, manifest_of(http), "1")
    lost = push_blob(http, b"nobody needs this")
    storage = FileStorage(str(tmp_path / "registry"))
    assert storage.sweep(older_than=3600).blobs == 0
    swept = storage.sweep(older_than=-1)
    assert (swept.blobs, swept.freed) == (1, len(b"nobody needs this"))
    assert http.request("HEAD", f"/v2/a/b/blobs/{lost}").status == 404
    assert http.request("GET", f"/v2/a/b/blobs/{sha(b'layer')}").data == b"layer"


def test_an_address_that_cannot_be_used_is_one_sentence(server: RegistryServer, tmp_path: Path) -> None:
    with pytest.raises(AddressUnusable, match=r"cannot listen on .*: address already in use$"):
        RegistryServer(ServeOptions(str(tmp_path / "x"), "{}:{}".format(*server.address)))
    with pytest.raises(InvalidAddress):
        RegistryServer(ServeOptions(str(tmp_path / "x"), "nonsense"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("files", [{"tls_certificate": "none.pem"}, {"tls_key": "none.pem"}])
def test_certificates_that_cannot_be_used_are_one_sentence(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidCertificates, match=r"^TLS cannot be set up with none\.pem: "):
        RegistryServer(ServeOptions(str(tmp_path / "x"), "127.0.0.1:0", **files))  # type: ignore[arg-type]


def test_what_makes_no_sense_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert registry(["passwd", "--users", str(tmp_path / "users"), "--password-stdin", "ada"]) == 1
    assert capsys.readouterr().err == "lamina registry: the password is empty\n"
    (tmp_path / "repositories").mkdir()
    assert registry(["gc", "--root", str(tmp_path), "--older-than", "-5"]) == 1
    assert capsys.readouterr().err == "lamina registry: invalid age -5: it is seconds, not negative\n"
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(InvalidCertificates, match=r": no certificate in PEM with its key$"):
        RegistryServer(ServeOptions(str(tmp_path / "x"), "127.0.0.1:0", tls_certificate=str(tmp_path / "key.pem")))


def test_collecting_where_no_registry_is_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert registry(["gc", "--root", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"lamina registry: {tmp_path}/none holds no registry\n"
    assert list(tmp_path.iterdir()) == []
