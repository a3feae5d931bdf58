"""HTTP to an engine, as it comes over a real socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.client.stdcopy import Demultiplexer
from lamina.client.transport import Address, Connection, EngineUnreachable, Transport
from lamina.errors import Conflict, Corrupt, InvalidArgument, LaminaError, NotFound
from tests.client.fake_engine import FakeEngine, Request, chunked, frame, reply


@pytest.fixture
def transport(engine: FakeEngine) -> Transport:
    return Transport(Address.parse(engine.host))


def answer_of(data: bytes, *, at_once: int) -> Connection:
    """A connection on which `data` has arrived, cut into pieces of that many bytes."""
    ours, theirs = socket.socketpair()

    class Dripping:
        def __init__(self) -> None:
            self.rest = data

        def recv(self, size: int) -> bytes:
            piece, self.rest = self.rest[: min(at_once, size)], self.rest[min(at_once, size) :]
            return piece

        def close(self) -> None:
            ours.close()
            theirs.close()

    return Connection(Dripping())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("/run/x.sock", "unix:///run/x.sock"),
        ("tcp://h:1", "tcp://h:1"),
        ("tcp://h", "tcp://h:2375"),
        ("tcp://[::1]:1", "tcp://[::1]:1"),
    ],
)
def test_addresses_are_read_as_dockers(text: str, shown: str) -> None:
    assert str(Address.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "nonsense", "ssh://host", "tcp://h:0", "tcp://h:x", "tcp://h:²", "unix://"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Address.parse(text)


def test_an_absent_engine_is_one_sentence(tmp_path: object) -> None:
    with pytest.raises(EngineUnreachable, match="cannot connect to the engine at unix:///nowhere"):
        Transport(Address.parse("unix:///nowhere")).connect()
    for host in ("a..b", "a" * 80):
        with pytest.raises(EngineUnreachable, match="is no name of a host"):
            Transport(Address.parse(f"tcp://{host}:1")).connect()


def test_a_document_is_sent_and_answered(engine: FakeEngine, transport: Transport) -> None:
    engine.routes["POST /x"] = reply({"a": [1, 2]})
    assert transport.post("/x", {"b": "ü"}) == {"a": [1, 2]}
    assert engine.requests[0].json() == {"b": "ü"}


def test_requests_on_a_connection_follow_each_other(engine: FakeEngine, transport: Transport) -> None:
    engine.routes |= {"GET /a": reply("a"), "GET /b": chunked(b'"', b'b"'), "POST /c": reply(status=204)}
    connection = transport.connect()
    assert connection.request("GET", "/a").json() == "a"
    assert connection.request("GET", "/b").json() == "b"
    assert connection.request("POST", "/c").read() == b""


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (400, InvalidArgument), (500, LaminaError)])
def test_a_status_becomes_the_error_of_its_kind(engine: FakeEngine, transport: Transport, status: int, kind: type[LaminaError]) -> None:
    engine.routes["GET /x"] = reply({"message": "no such thing: x"}, status=status)
    with pytest.raises(kind, match="no such thing: x"):
        transport.get("/x")


def test_an_error_without_json_keeps_its_text(engine: FakeEngine, transport: Transport) -> None:
    engine.routes["GET /x"] = reply(raw=b"it broke\n", status=502, type="text/plain")
    with pytest.raises(LaminaError, match="it broke"):
        transport.get("/x")


def test_an_upload_of_known_length_is_sent_bare(engine: FakeEngine, transport: Transport) -> None:
    engine.routes["POST /up"] = reply({})
    transport.connect().upload("POST", "/up", [b"abc", b"de"], length=5).read()
    assert engine.requests[0].body == b"abcde"
    assert "transfer-encoding" not in engine.requests[0].headers


def test_an_upload_of_unknown_length_is_chunked(engine: FakeEngine, transport: Transport) -> None:
    engine.routes["POST /up"] = reply({})
    transport.connect().upload("POST", "/up", [b"abc", b"", b"de"]).read()
    assert engine.requests[0].body == b"abcde"


def test_an_early_answer_ends_an_upload(engine: FakeEngine, transport: Transport) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(reply({"message": "disk full"}, status=507))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    engine.serve = refuse  # type: ignore[method-assign]

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 16)

    with pytest.raises(LaminaError):
        transport.connect().upload("POST", "/up", endless())


def test_json_lines_come_one_by_one(engine: FakeEngine, transport: Transport) -> None:
    engine.routes["GET /l"] = chunked(b'{"a":1}\r\n{"a"', b":2}\r\n\r\n", b'{"a":3}')
    assert [line["a"] for line in transport.request("GET", "/l").lines()] == [1, 2, 3]


def test_a_hijacked_socket_keeps_what_came_with_the_head(engine: FakeEngine, transport: Transport) -> None:
    def hijack(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\n\r\nfirst")

    engine.routes["POST /h"] = hijack
    response = transport.request("POST", "/h")
    assert response.status == 101
    link, pending = response.connection.detach()
    while piece := link.recv(10):
        pending += piece
    assert pending == b"first"


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 10_000])
def test_an_answer_is_the_same_however_it_is_cut(at_once: int) -> None:
    body = b"0123456789" * 30
    for data in (reply(raw=body), chunked(body[:7], body[7:]), b"HTTP/1.1 200 OK\r\n\r\n" + body):
        assert answer_of(data, at_once=at_once).response().read() == body


@pytest.mark.parametrize("data", [reply(raw=b"0123456789")[:-1], chunked(b"0123")[:-3], chunked(b"0123")[:-9], b"HTTP/1.1 200"])
def test_a_cut_off_answer_is_told(data: bytes) -> None:
    with pytest.raises(EngineUnreachable):
        answer_of(data, at_once=100).response().read()


def test_an_interim_answer_is_passed_over() -> None:
    assert answer_of(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(raw=b"x"), at_once=9).response().read() == b"x"


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    for lead in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            answer_of(lead + data, at_once=5).response().read()
        except (EngineUnreachable, Corrupt):
            pass


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30))), st.integers(1, 20))
def test_frames_are_the_same_however_they_are_cut(frames: list[tuple[int, bytes]], at_once: int) -> None:
    data = b"".join(frame(kind, payload) for kind, payload in frames)
    reader, found = Demultiplexer(), {1: b"", 2: b""}
    for at in range(0, len(data), at_once):
        for kind, piece in reader.feed(data[at : at + at_once]):
            found[kind] += piece
    assert found == {wanted: b"".join(payload for kind, payload in frames if kind == wanted) for wanted in (1, 2)}
