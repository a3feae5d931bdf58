"""What clients insist on, over fakes of the rooms."""

from __future__ import annotations

import base64
import itertools
import json
from urllib.parse import quote

import pytest

from lamina.apitypes.events import Event
from lamina.distribution.auth import Auth
from lamina.image.archive.outline import OutlinedLayer
from lamina.image.model import LayerNote
from lamina.spec.reference import Reference
from tests.api.conftest import Client, FakeEngine


@pytest.mark.covers("api:GET /_ping", "api:HEAD /_ping")
@pytest.mark.parametrize(("method", "body"), [("HEAD", b""), ("GET", b"OK")])
def test_ping_carries_what_clients_read_first(api: Client, method: str, body: bytes) -> None:
    response = api.open(method, "/_ping")
    assert response.status == 200
    assert response.read() == body
    wanted = {"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false", "Builder-Version": "1", "Swarm": "inactive"}
    assert {name: response.headers[name] for name in wanted} == wanted


def test_the_head_of_wait_comes_before_the_end(api: Client, engine: FakeEngine) -> None:
    response = api.open("POST", "/containers/c/wait?condition=next-exit")
    assert response.status == 200
    engine.containers.waiter.ended.set()
    assert json.loads(response.read()) == {"StatusCode": 7}


def test_an_unknown_container_is_404_before_anything_is_hijacked(api: Client) -> None:
    status, body = api.ask("POST", "/containers/x/attach?stream=1", headers={"Connection": "Upgrade", "Upgrade": "tcp"})
    assert (status, json.loads(body)["message"]) == (404, "no such container: x")


def test_attach_hands_the_connection_over_with_what_was_read(api: Client, engine: FakeEngine) -> None:
    with api.connect() as sock:
        sock.sendall(
            b"POST /v1.51/containers/c/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhi"
        )
        data = b""
        while b"<hi>" not in data:
            data += sock.recv(4096)
    assert data.startswith(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n")
    asked = engine.containers.attached[0]
    assert (asked.stdin, asked.stdout, asked.stderr, asked.stream) == (True, True, False, True)


def test_what_an_exec_cannot_start_is_told_in_its_stream(api: Client) -> None:
    with api.connect() as sock:
        body = b'{"Detach":false,"Tty":false}'
        sock.sendall(
            b"POST /exec/e/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        data = b""
        while more := sock.recv(4096):
            data += more
    assert data.endswith(b"\x02\x00\x00\x00\x00\x00\x00\x24executable file not found in $PATH\r\n")


def test_a_plan_of_a_prune_that_there_is_not_is_refused(api: Client) -> None:
    status, body = api.ask("GET", "/lamina/prune?kind=images&kind=image")
    assert (status, json.loads(body)["message"]) == (
        400,
        "unknown kind: 'image' (there are containers, networks, volumes, images, build)",
    )


def test_already_so_is_304_without_a_body(api: Client) -> None:
    assert api.ask("POST", "/containers/c/start") == (304, b"")


def test_create_checks_types_and_passes_the_document_on(api: Client, engine: FakeEngine) -> None:
    document = {"Image": "x", "Cmd": ["true"], "Env": None, "Unknown": 1, "HostConfig": {"AutoRemove": True}, "NetworkingConfig": {}}
    status, body = api.ask("POST", "/containers/create?name=n", json.dumps(document))
    assert (status, json.loads(body)) == (201, {"Id": "c", "Warnings": ["a warning"]})
    config = {"Image": "x", "Cmd": ["true"], "Env": None, "Unknown": 1}
    assert engine.containers.created == [(config, {"AutoRemove": True}, {}, "n", "")]


def test_a_container_of_an_old_client_shares_its_ipc_as_it_expects(api: Client, engine: FakeEngine) -> None:
    for version in ("1.39", "1.40"):
        with api.connect() as sock:
            head = f"POST /v{version}/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n"
            sock.sendall(head.encode() + b'{"Image":"x"}')
            assert sock.recv(100).startswith(b"HTTP/1.1 201 ")
    assert [created[1] for created in engine.containers.created] == [{"IpcMode": "shareable"}, {}]


_WRONG_HOSTS = (
    '"ReadonlyRootfs": 1', '"PortBindings": {"80/tcp": [{"HostPort": 80}]}', '"ConsoleSize": [-1, 5]', '"Memory": "5"', '"Devices": ["/dev/x"]',
    '"CpuCount": "x"', '"BlkioWeight": 70000', '"Binds": "a:b"',
)  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        '{"Image": 5}',
        "[]",
        "{",
        '{"Env": [1]}',
        '{"Tty": "true"}',
        *(f'{{"Image": "x", "HostConfig": {{{wrong}}}}}' for wrong in _WRONG_HOSTS),
    ],
)
def test_a_malformed_create_is_400(api: Client, engine: FakeEngine, body: str) -> None:
    status, answer = api.ask("POST", "/containers/create", body)
    assert status == 400
    assert json.loads(answer)["message"].startswith("invalid request body")
    assert not engine.containers.created


def test_logs_are_sent_as_they_come(api: Client, engine: FakeEngine) -> None:
    assert api.ask("GET", "/containers/c/logs?stdout=1&tail=3&since=1700000000.5") == (200, b"onetwo")
    query = engine.containers.queries[0]
    assert (query.tail, query.since_ns, query.stdout, query.stderr) == (3, 1_700_000_000_500_000_000, True, False)


def test_a_log_is_open_before_the_head_is_sent(api: Client) -> None:
    """Who has the head may remove the container: docker-py reads only then."""
    status, body = api.ask("GET", "/containers/c/logs?stdout=1&tail=13")
    assert (status, json.loads(body)["message"]) == (400, "it cannot be opened")


@pytest.mark.parametrize(("tail", "lines"), [("all", None), ("\u00b2", None), ("9" * 5000, None), ("12", 12)])
def test_a_tail_that_is_no_number_of_lines_is_all(api: Client, engine: FakeEngine, tail: str, lines: int | None) -> None:
    assert api.ask("GET", f"/containers/c/logs?stdout=1&tail={quote(tail)}")[0] == 200
    assert engine.containers.queries[0].tail == lines


def test_a_name_may_begin_with_the_slash_it_has_in_answers(api: Client) -> None:
    status, body = api.ask("POST", "/containers//x/wait")
    assert (status, json.loads(body)["message"]) == (404, "no such container: /x")
    assert api.ask("GET", "/containers//json")[0] == 405


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/containers/c/stats?one-shot=1", "cannot have stream=true and one-shot=true"),
        ("/system/df?type=image&type=layer", "unknown object type: layer"),
        (f"/images/x@sha256:{'a' * 64}/push", "cannot push a digest reference"),
        (f"/images/x/push?tag=sha256:{'a' * 64}&push", "cannot push a digest reference"),
        (f"/images/create?fromSrc=-&repo=x&tag=sha256:{'a' * 64}&push", "refusing to create a tag with a digest reference"),
        ("/containers/c/resize?push", "missing parameter: h and w are a terminal's height and width"),
        ("/exec/e/resize?h=1&push", "missing parameter: h and w are a terminal's height and width"),
        ("/containers/c/logs?follow=1", "Bad parameters: you must choose at least one stream"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_in_dockers_words(api: Client, path: str, words: str) -> None:
    status, body = api.ask("POST" if path.endswith("push") else "GET", path)
    assert (status, json.loads(body)["message"]) == (400, words)


def test_files_carry_their_stat_in_a_header(api: Client) -> None:
    response = api.open("GET", "/containers/c/archive?path=/etc/x")
    stat = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
    assert (stat["name"], stat["linkTarget"], response.read()) == ("x", "", b"tar bytes")
    assert api.open("HEAD", "/containers/c/archive?path=/etc/x").headers["X-Docker-Container-Path-Stat"]


def test_a_tar_that_fails_before_its_first_byte_is_a_plain_error(api: Client) -> None:
    assert api.ask("GET", "/containers/c/archive?path=/broken")[0] == 400


def test_an_uploaded_tar_arrives_whole(api: Client, engine: FakeEngine) -> None:
    data = b"x" * 3_000_000
    assert api.ask("PUT", "/containers/c/archive?path=/", iter([data[:100], data[100:]]))[0] == 200
    assert engine.containers.created == [data]


@pytest.mark.parametrize(
    ("query", "reference", "every"),
    [
        ("fromImage=docker.io/library/x&tag=latest", "docker.io/library/x:latest", False),
        ("fromImage=x", "docker.io/library/x", True),
        ("fromImage=x:1", "docker.io/library/x:1", False),
        (f"fromImage=x&tag=sha256:{'a' * 64}", f"docker.io/library/x@sha256:{'a' * 64}", False),
        (f"fromImage=x@sha256:{'a' * 64}&tag=latest", f"docker.io/library/x@sha256:{'a' * 64}", False),
        ("fromImage=x:", "docker.io/library/x", True),
    ],
)
def test_a_pull_fails_within_its_stream(api: Client, engine: FakeEngine, query: str, reference: str, every: bool) -> None:
    status, body = api.ask("POST", f"/images/create?{query}", headers={"X-Registry-Auth": "e30="})
    lines = [json.loads(line) for line in body.splitlines()]
    assert status == 200
    assert lines[0] == {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "abc"}
    assert lines[1] == {"errorDetail": {"message": "a blob is gone"}, "error": "a blob is gone"}
    assert engine.registry.pulled == [(reference, every, "")]


def test_a_pull_that_fails_at_once_is_a_plain_error(api: Client) -> None:
    assert api.ask("POST", "/images/create?fromImage=absent&tag=1")[0] == 404


def test_credentials_that_cannot_be_read_are_none(api: Client, engine: FakeEngine) -> None:
    assert api.ask("POST", "/images/create?fromImage=x:1", headers={"X-Registry-Auth": "{}"})[0] == 200
    assert engine.registry.pulled == [("docker.io/library/x:1", False, "")]


def test_a_load_gets_the_body(api: Client, engine: FakeEngine) -> None:
    status, _ = api.ask("POST", "/images/load?quiet=1", b"archive", {"Content-Type": "application/x-tar"})
    assert (status, engine.images.loaded) == (200, [b"archive"])


@pytest.mark.parametrize("extra", ["", "&cachefrom=[]&ulimits=null&buildargs={}&labels=", "&cachefrom=&buildargs=null"])
def test_a_build_tolerates_every_spelling_of_nothing(api: Client, engine: FakeEngine, extra: str) -> None:
    status, body = api.ask("POST", f"/build?t=a&t=b:1&version=1&nocache=1{extra}", b"context")
    assert status == 200
    assert [json.loads(line) for line in body.splitlines()] == [{"stream": "Step 1/1 : FROM scratch\n"}, {"aux": {"ID": "sha256:1"}}]
    request, context = engine.builder.asked[0]
    assert ([tag.familiar for tag in request.tags], request.no_cache, context) == (["a:latest", "b:1"], True, b"context")


@pytest.mark.parametrize("config", [b"null", b"{}", b'{"r:1":null}', b""], ids=["null", "empty", "null for one", "nothing"])
def test_a_build_without_credentials_is_no_error_however_that_is_said(api: Client, engine: FakeEngine, config: bytes) -> None:
    """Go's client sends null."""
    assert api.ask("POST", "/build", b"", {"X-Registry-Config": base64.urlsafe_b64encode(config).decode()})[0] == 200
    assert (engine.builder.asked[0][0].credentials(Reference.parse("r:1/x")) or Auth()).anonymous


def test_detach_keys_that_are_none_are_refused_before_the_connection_is_taken_over(api: Client) -> None:
    for method, path in (("POST", "/containers/c/attach?detachKeys=ctrl-A,a"), ("GET", "/containers/c/attach/ws?detachKeys=ctrl-A,a")):
        status, body = api.ask(method, path, b"", {"Connection": "Upgrade", "Upgrade": "tcp"})
        assert status == 400 and b"Invalid detach keys" in body


def test_networks_are_listed_with_and_without_a_slash(api: Client) -> None:
    assert api.ask("GET", "/networks/") == api.ask("GET", "/networks")


def test_build_arguments_and_credentials_are_read(api: Client, engine: FakeEngine) -> None:
    arguments = quote('{"A":"1","B":null}')
    config = base64.urlsafe_b64encode(b'{"r:1":{"username":"u","password":"p"}}').decode()
    assert api.ask("POST", f"/build?buildargs={arguments}", b"", {"X-Registry-Config": config})[0] == 200
    request = engine.builder.asked[0][0]
    assert dict(request.build_args) == {"A": "1", "B": None}
    assert request.credentials(Reference.parse("r:1/x")).username == "u"
    assert request.credentials(Reference.parse("busybox")) is None


def test_what_the_builder_has_not_yet_is_refused_in_a_sentence(api: Client) -> None:
    status, body = api.ask("POST", "/build?version=2&session=absent", b"")
    assert status == 501
    assert "DOCKER_BUILDKIT=0" in json.loads(body)["message"]


def test_events_are_sent_at_once_and_end_at_until(api: Client, engine: FakeEngine) -> None:
    engine.events.emit(Event("container", "die", "c1", {"image": "x", "exitCode": "3"}, 1_500_000_000))
    status, body = api.ask("GET", "/events?since=1&until=2")
    event = json.loads(body)
    assert status == 200
    assert (event["Type"], event["Action"], event["Actor"]["ID"], event["time"], event["timeNano"]) == (
        "container",
        "die",
        "c1",
        1,
        1_500_000_000,
    )
    assert (event["status"], event["from"]) == ("die", "x")


def test_a_tree_may_be_higher_than_documents_can_be_deep(api: Client, engine: FakeEngine) -> None:
    layers = [OutlinedLayer(f"l{number}", "", 1, LayerNote()) for number in range(3000)]
    for below, above in itertools.pairwise(layers):
        below.children.append(above)
    layers[0].children.append(OutlinedLayer("other", "", 1, LayerNote()))
    engine.images.roots = layers[:1]
    status, body = api.ask("GET", "/lamina/images/tree")
    told = [(row["parent"], row["layer"]) for row in json.loads(body)["layers"]]
    assert status == 200
    assert told == [(None, "l0"), *((f"l{number - 1}", f"l{number}") for number in range(1, 3000)), ("l0", "other")]


def test_images_that_were_made_are_told_to_clients_that_know_of_it(api: Client, engine: FakeEngine) -> None:
    engine.events.emit(Event("image", "create", "i1", {}, 1_500_000_000))
    for version, told in (("1.45", 0), ("1.46", 1)):
        with api.connect() as sock:
            sock.sendall(f"GET /v{version}/events?since=1&until=2 HTTP/1.0\r\n\r\n".encode())
            assert sock.makefile("rb").read().count(b'"Action":"create"') == told


def test_a_head_of_events_listens_to_none(api: Client, engine: FakeEngine) -> None:
    assert api.ask("HEAD", "/events")[0] == 200
    assert engine.events.listeners == 0


def test_events_of_no_time_at_all_are_refused(api: Client) -> None:
    status, body = api.ask("GET", "/events?since=2&until=1")
    assert (status, json.loads(body)["message"]) == (400, "`since` time (2) cannot be after `until` time (1)")


def test_an_unknown_image_is_404(api: Client) -> None:
    status, body = api.ask("GET", "/images/docker.io/library/x:1/json")
    assert (status, json.loads(body)["message"]) == (404, "no such image: docker.io/library/x:1")


def test_networks_are_the_engines(api: Client, engine: FakeEngine) -> None:
    status, body = api.ask("GET", "/networks")
    assert (status, json.loads(body)) == (200, [{"Name": "bridge"}])
    assert api.ask("GET", "/networks/bridge")[0] == 200
    status, body = api.ask("GET", "/networks/web")
    assert (status, json.loads(body)["message"]) == (404, "network web not found")
    asked = {"Name": "web", "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}, "ConfigFrom": {"Network": ""}}
    status, body = api.ask("POST", "/networks/create", json.dumps(asked).encode())
    assert (status, json.loads(body)) == (201, {"Id": "1" * 64, "Warning": "careful"})
    (_, request), *_ = engine.networks.asked
    assert (request.name, request.ipv6, request.ipv4, list(request.ipam)) == ("web", True, None, [{"Subnet": "10.0.0.0/24"}])  # type: ignore[attr-defined]
    assert api.ask("POST", "/networks/web/connect", b'{"Container": "c", "EndpointConfig": null}')[0] == 200
    assert engine.networks.asked[-1] == ("connect", ("web", "c", None))
    assert api.ask("POST", "/networks/a/b/connect", b'{"container": "c", "endpointConfig": {"aliases": ["x"]}}')[0] == 200
    assert engine.networks.asked[-1] == ("connect", ("a/b", "c", {"Aliases": ["x"]}))
    assert json.loads(api.ask("GET", "/networks/a/b")[1])["message"] == "network a/b not found"


@pytest.mark.covers("api:GET /containers/{id}/attach/ws")
def test_a_websocket_carries_output_without_frames_and_input(api: Client, engine: FakeEngine) -> None:
    from tests.api.websocket import Websocket

    with api.connect() as sock:
        client = Websocket(sock, "/v1.51/containers/c/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
        assert client.head.startswith("HTTP/1.1 101 ")
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in client.head  # RFC 6455 1.3's example
        # The fake container echoes what it was given before; it answers in no frames of Docker's: its end is told all the same.
        assert client.receive()[0] == 8
    assert api.ask("GET", "/containers/c/attach/ws?stream=1")[0] == 400
    assert api.ask("GET", "/containers/x/attach/ws?stream=1")[0] == 404


def test_web_pages_of_other_sites_are_refused(api: Client) -> None:
    for method, path in (("POST", "/containers/create"), ("GET", "/containers/json"), ("GET", "/containers/c/attach/ws?stream=1")):
        status, body = api.ask(method, path, headers={"Origin": "https://elsewhere.example"})
        assert status == 403 and b"elsewhere.example" in body
    assert api.ask("GET", "/_ping", headers={"Origin": "http://lamina"})[0] == 200
