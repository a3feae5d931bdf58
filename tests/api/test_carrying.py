"""Long bodies are moved by another process, and nobody sees a difference."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from lamina.api import carrying
from lamina.api.carrying import Carriers
from lamina.api.errors import failure
from lamina.api.http import Server
from lamina.api.message import Reply, Request, Response, Writer
from lamina.api.streams import progress
from lamina.spec.framing import Chunked, Framing, Sized, restored
from lamina.spec.progress import Sink, Update
from lamina.worker import WorkerPool
from lamina.worker.incoming import BodyCut
from tests.harness import eventually

PIECE = b"x" * 65536
LONG = 64


class Noted:
    """A pool that notes its jobs: begun, then ended."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool, self.begun, self.ended = pool, list[str](), list[str]()

    def run(
        self, job: str, params: Mapping[str, Any], fds: Sequence[int] = (), on_update: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        name = job.partition(":")[2]
        self.begun.append(name)
        try:
            return self.pool.run(job, params, fds, on_update)
        finally:
            self.ended.append(name)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    found = WorkerPool(carrying.MOST)
    yield found
    found.close()


@pytest.fixture
def noted(pool: WorkerPool) -> Noted:
    return Noted(pool)


class Handler:
    """Counts a body's bytes as they come out of the pipe, at most `wanted` of them."""

    def __init__(self) -> None:
        self.cut: list[str] = []
        self.wanted = 1 << 40

    def __call__(self, request: Request) -> Response:
        if request.method == "GET":
            return Reply(body=b"hello")
        if request.path == "/stream":
            return progress(lambda sink, writer: self._stream(request, sink, writer))
        return Reply(body=b"<%d>" % self._count(request))

    def _stream(self, request: Request, sink: Sink, writer: Writer) -> None:
        writer.start()
        sink(Update(status=f"<{self._count(request)}>"))

    def _count(self, request: Request) -> int:
        count = 0
        try:
            with request.body.piped() as fd:
                while count < self.wanted and (data := os.read(fd, 65536)):
                    assert set(data) == {ord("x")}
                    count += len(data)
        except BodyCut as error:
            self.cut.append(str(error))
            raise
        return count


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def client(noted: Noted, handler: Handler) -> Iterator[socket.socket]:
    """A connection to a server with carriers."""
    here, there = socket.socketpair()
    server = Server(handler, failure, (), Carriers(noted))
    thread = threading.Thread(target=server.serve, args=(there,))
    thread.start()
    here.settimeout(120)
    with here:
        yield here
    thread.join(120)
    assert not thread.is_alive()


def received(sock: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data and (more := sock.recv(65536)):
        data += more
    return data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain(data: bytes) -> bytes:
    return data


def begun(client: socket.socket, noted: Noted, head: bytes, frame: Callable[[bytes], bytes]) -> int:
    """Send a head and so much of its body that a process moves the rest; how many pieces went."""
    client.sendall(head)
    for _ in range(LONG // 2):
        client.sendall(frame(PIECE))
    eventually(lambda: "ready" in noted.ended)
    sent = LONG // 2
    while "body" not in noted.begun:
        client.sendall(frame(PIECE))
        sent += 1
    return sent


SIZED = b"POST /%%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * 4 * LONG)
CHUNKED = b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", [b"plain", b"stream"])
@pytest.mark.parametrize(("head", "frame", "end"), [(SIZED, plain, b""), (CHUNKED, chunk, b"0\r\n\r\n")])
def test_a_long_body_arrives_whole_and_the_connection_goes_on(
    client: socket.socket, noted: Noted, head: bytes, frame: Callable[[bytes], bytes], end: bytes, path: bytes
) -> None:
    sent = begun(client, noted, head % path, frame)
    for _ in range(4 * LONG - sent):
        client.sendall(frame(PIECE))
    client.sendall(end + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = received(client, b"hello")
    assert b"<%d>" % (4 * LONG * len(PIECE)) in answer
    assert answer.endswith(b"hello")
    assert noted.ended == ["ready", "body"]


def test_chunks_that_are_cut_anywhere_are_put_together_by_the_other_process(client: socket.socket, noted: Noted) -> None:
    sent = begun(client, noted, CHUNKED % b"plain", chunk)
    for byte in chunk(b"x" * 17) + b"0;a=b\r\nTrailer: t\r\n\r\n":
        client.sendall(bytes([byte]))
    assert b"<%d>" % (sent * len(PIECE) + 17) in received(client, b">")


def test_a_short_body_needs_no_process(client: socket.socket, noted: Noted) -> None:
    client.sendall(CHUNKED % b"plain" + chunk(PIECE) + b"0\r\n\r\n")
    assert b"<65536>" in received(client, b">")
    assert noted.begun == []


def test_a_client_that_leaves_within_a_long_body_is_noticed(client: socket.socket, noted: Noted, handler: Handler) -> None:
    begun(client, noted, CHUNKED % b"plain", chunk)
    client.shutdown(socket.SHUT_WR)
    received(client, b"never")
    assert handler.cut == ["the client closed the connection within a body"]


def test_an_answer_before_the_end_of_a_long_body_is_read(client: socket.socket, noted: Noted, handler: Handler) -> None:
    handler.wanted = 3 * LONG * len(PIECE)
    begun(client, noted, CHUNKED % b"stream", chunk)

    def send() -> None:
        for _ in range(20 * LONG):
            client.sendall(chunk(PIECE))
        client.sendall(b"0\r\n\r\n")

    sender = threading.Thread(target=send)
    sender.start()
    assert b"<%d>" % handler.wanted in received(client, b"0\r\n\r\n")
    sender.join(120)
    assert not sender.is_alive()


def test_broken_framing_that_the_other_process_meets_is_answered_and_ends_the_connection(client: socket.socket, noted: Noted) -> None:
    begun(client, noted, CHUNKED % b"plain", chunk)
    client.sendall(b"-5\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = received(client, b"names no size")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"HTTP/1.1" not in received(client, b"HTTP/1.1"), "what followed was taken for a request"


def test_a_process_that_is_killed_ends_its_body_alone(client: socket.socket, noted: Noted) -> None:
    begun(client, noted, CHUNKED % b"plain", chunk)
    for pid in noted.pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert received(client, b"}").startswith(b"HTTP/1.1 500")
    assert received(client, b"never") == b""


def test_whose_body_finds_no_process_free_is_served_all_the_same(
    client: socket.socket, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Carriers, "begin", lambda _: None)
    client.sendall(CHUNKED % b"plain")
    for _ in range(LONG):
        client.sendall(chunk(PIECE))
    client.sendall(b"0\r\n\r\n")
    assert b"<%d>" % (LONG * len(PIECE)) in received(client, b">")
    assert noted.begun == []


def test_only_so_many_bodies_have_a_process_at_once(noted: Noted) -> None:
    carriers = Carriers(noted)
    taken = [carriers.begin() for _ in range(carrying.MOST)]
    assert None not in taken
    assert carriers.begin() is None
    assert taken[0] is not None
    with taken[0]:
        pass
    assert carriers.begin() is not None
    eventually(lambda: len(noted.ended) == carrying.MOST + 1)


@pytest.mark.parametrize("framing", [Sized(7), Chunked(), Chunked(5, 0, b"", "data"), Chunked(0, 3, b"\xff1", "trailer")])
def test_where_a_body_is_can_be_told_to_another_process(framing: Framing) -> None:
    assert restored(framing.state()).state() == framing.state()
