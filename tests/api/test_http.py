"""The server: framing, keep-alive, streams, upgrades, as a client sees them on a socket."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.api.errors import failure, message_of
from lamina.api.http import Server
from lamina.api.message import FileReply, Hijacked, InvalidParameter, Query, Reply, Request, Response, Streamed, Writer, decode
from lamina.apitypes.requests import CreateContainer
from lamina.errors import NotFound
from lamina.spec.framing import BadFraming, Chunked, Sized


def _handle(request: Request) -> Response:
    if request.path == "/echo":
        return Reply(body=request.body.document())
    if request.path == "/early":
        raise NotFound("no such thing: early")
    if request.path == "/stream":
        return Streamed(lambda out: [out.write(part) for part in (b"one", b"two")] and None)
    if request.path == "/late":
        return Streamed(_fail_late, failed=lambda error: f"<{error}>".encode())
    if request.path == "/hijack":
        return Hijacked(_take)
    if request.path == "/file":
        fd = os.memfd_create("x")
        os.write(fd, b"0123456789")
        return FileReply(fd, 5, 2)
    if request.path == "/pipe":
        with request.body.piped() as fd, os.fdopen(os.dup(fd), "rb") as file:
            return Reply(body=str(len(file.read())).encode())
    return Reply(body=b"hello")


def _take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
    accept()
    os.write(fd, b"got " + pending)


def _fail_late(out: Writer) -> None:
    out.write(b"begun")
    raise NotFound("no such thing: late")


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A connection to a server of its own."""
    here, there = socket.socketpair()
    server = Server(_handle, failure, (("Api-Version", "1.51"),))
    thread = threading.Thread(target=server.serve, args=(there,))
    thread.start()
    here.settimeout(120)
    with here:
        yield here
    thread.join(60)
    assert not thread.is_alive()


def _receive(sock: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        more = sock.recv(65536)
        if not more:
            break
        data += more
    return data


def test_one_connection_carries_many_requests_even_pipelined(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    answer = _receive(client, b"abc")
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"Api-Version: 1.51") == 3


def test_lines_of_a_head_may_end_without_a_carriage_return(client: socket.socket) -> None:
    """RFC 9112, 2.2; dockerd takes them too."""
    head = b"POST /echo HTTP/1.1\nHost: x\nContent-Length: 3\n\n"
    client.sendall(head + b"abc" + head.replace(b"\n\n", b"\n\r\n") + b"def")
    assert _receive(client, b"def").count(b"HTTP/1.1 200 OK") == 2
    for byte in head + b"ghi":
        client.sendall(bytes([byte]))
    assert _receive(client, b"ghi").endswith(b"ghi")


def test_a_target_may_be_a_whole_address(client: socket.socket) -> None:
    """RFC 9112, 3.2.2."""
    for address in (b"http://x", b"HTTP://x/", b"http://[::1]:80/?a=b"):
        client.sendall(b"GET " + address + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in _receive(client, b"hello")


def test_a_chunked_body_is_read_whatever_way_it_arrives(client: socket.socket) -> None:
    for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: r\r\n\r\n":
        client.sendall(bytes([byte]))
    assert _receive(client, b"abcde").endswith(b"abcde")


def test_head_gives_the_length_without_a_body(client: socket.socket) -> None:
    client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /file HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = _receive(client, b"23456")
    assert b"Content-Length: 5\r\n" in answer
    assert b"hello" not in answer


def test_a_client_that_waits_for_100_continue_is_told_to_send(client: socket.socket) -> None:
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert _receive(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"abc")
    assert _receive(client, b"abc").endswith(b"abc")


def test_an_error_is_a_message_and_the_connection_goes_on(client: socket.socket) -> None:
    client.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = _receive(client, b"hello")
    assert b"404 Not Found" in answer
    assert b'{"message":"no such thing: early","code":"not_found"}' in answer


def test_an_early_answer_to_a_long_body_is_still_read(client: socket.socket) -> None:
    client.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
    sender = threading.Thread(target=client.sendall, args=(b"x" * 9_000_000,))
    sender.start()
    assert b"404 Not Found" in _receive(client, b"not_found")
    sender.join(60)
    assert not sender.is_alive()


@pytest.mark.parametrize(
    ("path", "said"), [("/early", b"404 Not Found"), ("/echo", b"499 Client Closed Request"), ("/pipe", b"499 Client Closed Request")]
)
def test_a_client_that_sends_no_more_within_a_body_is_answered(client: socket.socket, path: str, said: bytes) -> None:
    client.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc" % path.encode())
    client.shutdown(socket.SHUT_WR)
    assert said in _receive(client, b"message")


def test_a_stream_is_sent_in_chunks(client: socket.socket) -> None:
    client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert _receive(client, b"0\r\n\r\n").endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_a_failure_within_a_stream_is_rendered_into_it(client: socket.socket) -> None:
    client.sendall(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = _receive(client, b"0\r\n\r\n")
    assert b"200 OK" in answer
    assert b"<no such thing: late>" in answer


def test_an_upgrade_gives_the_socket_away_with_what_was_read(client: socket.socket) -> None:
    client.sendall(b"POST /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\ntyped early")
    answer = _receive(client, b"typed early")
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert answer.endswith(b"\r\n\r\ngot typed early")


def test_a_body_reaches_a_descriptor_whole(client: socket.socket) -> None:
    client.sendall(b"POST /pipe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(50):
        client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    client.sendall(b"0\r\n\r\n")
    assert _receive(client, b"3276800").endswith(b"3276800")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"GET\r\n\r\n", b"illegal request line"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno field\r\n\r\n", b"illegal header line"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"both Transfer-Encoding and Content-Length",
        ),
    ],
)
def test_what_is_no_request_is_refused(client: socket.socket, head: bytes, said: bytes) -> None:
    client.sendall(head)
    answer = _receive(client, b"}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"message":"malformed request: %b","code"' % said in answer


def _render(parts: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


def test_a_broken_body_is_answered_at_once_and_ends_the_connection(client: socket.socket) -> None:
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = _receive(client, b"names no size")
    assert answer.startswith(b"HTTP/1.1 400") and b"Connection: close" in answer
    assert b"HTTP/1.1" not in _receive(client, b"HTTP/1.1"), "what followed was taken for a request"


def test_a_head_that_is_too_long_is_answered(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (1 << 18) + b"b" * (1 << 16))
    client.shutdown(socket.SHUT_WR)
    assert _receive(client, b"too long").startswith(b"HTTP/1.1 431")


def test_trailers_without_end_are_refused() -> None:
    machine = Chunked()
    data = bytearray(b"0\r\n" + b"a: b\r\n" * (1 << 15))
    with pytest.raises(BadFraming):
        machine.feed(data, 0, len(data))


def test_a_query_of_very_many_parts_or_depth_is_refused(client: socket.socket) -> None:
    client.sendall(b"GET /?" + b"a=b&" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert _receive(client, b"parts").startswith(b"HTTP/1.1 400")
    with pytest.raises(InvalidParameter):
        Query.parse("filters=" + "[" * 100_000).filters()


def test_a_client_that_finds_no_room_for_a_thread_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(_handle, failure, ())
    server.listen(listener)
    real, refusals = threading.Thread.start, [True]

    def start(thread: threading.Thread) -> None:
        if thread.name == "connection" and refusals:
            refusals.pop()
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    try:
        with socket.create_connection(listener.getsockname(), 120) as refused:
            assert refused.recv(1) == b""
        with socket.create_connection(listener.getsockname(), 120) as served:
            served.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert _receive(served, b"hello").endswith(b"hello")
    finally:
        server.close()


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_chunks_are_found_at_any_split(parts: list[bytes], step: int) -> None:
    data = _render(parts) + b"next"
    machine, body, at = Chunked(), b"", 0
    while not machine.done:
        buffer = bytearray(data[at : at + step])
        found, stop = machine.feed(buffer, 0, len(buffer))
        body += b"".join(bytes(buffer[start:end]) for start, end in found)
        at += stop
    assert (body, data[at:]) == (b"".join(parts), b"next")


@given(st.binary(max_size=200))
def test_any_bytes_are_chunks_or_refused(data: bytes) -> None:
    machine = Chunked()
    try:
        machine.feed(bytearray(data), 0, len(data))
    except BadFraming:
        pass


def test_a_sized_body_ends_where_it_says() -> None:
    machine = Sized(3)
    assert machine.feed(bytearray(b"abcdef"), 0, 6) == ([(0, 3)], 3)
    assert machine.done


def test_filters_are_read_in_both_spellings() -> None:
    go = Query.parse('filters={"label":{"a=b":true},"dangling":{"true":true}}')
    py = Query.parse('filters={"label":["a=b"],"dangling":true}')
    assert go.filters() == py.filters() == {"label": ["a=b"], "dangling": ["true"]}


def test_a_filter_is_not_passed_over_because_it_is_said_to_be_false() -> None:
    assert Query.parse('filters={"label":{"a":false,"b":true},"label!":{},"name":null}').filters() == {
        "label": ["a", "b"],
        "label!": [],
        "name": [],
    }
    with pytest.raises(InvalidParameter, match=r"invalid filter 'dangling=\[true\]'"):
        Query.parse('filters={"dangling":{"true":false}}').filters()


@pytest.mark.parametrize(
    ("text", "expected"), [("q", False), ("q=1", True), ("q=True", True), ("q=0", False), ("q=none", False), ("", False)]
)
def test_flags_are_read_as_dockerd_reads_them(text: str, expected: bool) -> None:
    assert Query.parse(text).flag("q") is expected


def test_names_of_files_keep_their_bytes_and_texts_are_utf_8() -> None:
    asked = Query.parse("path=/d%FF/%C3%BC&message=%FF")
    assert os.fsencode(asked.path("path")) == b"/d\xff/\xc3\xbc"
    assert (asked.text("path"), asked.all("message")) == ("/d\ufffd/\u00fc", ("\ufffd",))


def test_a_full_disk_is_no_fault_of_ours_wherever_it_shows() -> None:
    told = failure(OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert told.status == 507 and b"no space left on the disk of /data/x (free some, or run `lamina system prune`)" in told.body
    assert "no space left on the disk of the data root" in message_of(OSError(errno.EDQUOT, "Quota exceeded"))


@pytest.mark.parametrize("body", [b'{"StopTimeout": 9223372036854775808}', b'{"HostConfig": {"Memory": -9999999999999999999}}'])
def test_numbers_that_clients_cannot_read_back_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidParameter, match="number out of range"):
        decode(body, CreateContainer)
    assert decode(b'{"Image": "1234567890123456789012345", "StopTimeout": 9223372036854775807}', CreateContainer)
