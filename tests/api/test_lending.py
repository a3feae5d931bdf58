"""A body that a job wants, or makes, is read and written by that job, on the connection itself, and the client sees no difference."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import lamina
from lamina.api.errors import failure
from lamina.api.http import Server
from lamina.api.message import Reply, Request, Response, Streamed, Writer
from lamina.errors import InvalidArgument
from lamina.worker import WorkerPool
from tests.harness import eventually

JOBS = "lamina.lending_jobs_for_tests"
SOURCE = """
import os
from contextlib import closing
from lamina.errors import InvalidArgument
from lamina.layer.stream import ahead
from lamina.worker.incoming import arriving
from lamina.worker.outgoing import departing

def count(params, fds, report):
    size = 0
    with arriving(params, fds[-1], report) as body:
        for piece in body.pieces:
            assert set(piece) == {ord("x")}
            size += len(piece)
            if size > params["wanted"]:
                raise InvalidArgument("that is enough")
    return {"size": size}

def refuse(params, fds, report):
    with arriving(params, fds[-1], report) as body, closing(ahead(body.pieces, body.interrupt)) as pieces:
        next(pieces)
        raise InvalidArgument("that is enough")

def keep(params, fds, report):
    copied = 0
    with open(params["file"], "wb", buffering=0) as file, arriving(params, fds[-1], report, gather=params["gather"]) as body:
        for size, piece in zip(params["sizes"], body.pieces):
            file.write(piece)
            copied += body.copy(file.fileno(), size)
        for piece in body.pieces:
            file.write(piece)
    return {"size": copied}

def crash(params, fds, report):
    with arriving(params, fds[-1], report) as body:
        next(body.pieces)
        os.kill(os.getpid(), 9)

def tell(params, fds, report):
    out = departing(params, fds[-1], report)
    if params["fails"] == "before":
        raise InvalidArgument("nothing to tell")
    for number in range(3):
        out.write(b"small %d " % number)
    with open(params["file"], "rb") as file:
        out.copy(file.fileno(), params["size"])
    if params["fails"] == "after":
        raise InvalidArgument("no more to tell")
    out.write(b" end")
    out.finish()
    return {}
"""
PIECE = b"x" * 65536
CHUNKED = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """Workers that have the jobs above besides the project's own."""
    room = tmp_path_factory.mktemp("jobs") / "lamina"
    room.mkdir()
    (room / "lending_jobs_for_tests.py").write_text(SOURCE)
    real = Path(lamina.__file__).parent
    (room / "__init__.py").write_text(f"__path__ = [{str(room)!r}, {str(real)!r}]\n")
    found = WorkerPool(2, path=[str(room.parent), *sys.path])
    yield found
    found.close()


class Handler:
    """Lets a job have the body: it counts the bytes, `wanted` of them at most."""

    def __init__(self, pool: WorkerPool, file: Path) -> None:
        self.pool, self.job, self.wanted, self.file = pool, "count", 1 << 40, file
        self.errors: list[str] = []

    def __call__(self, request: Request) -> Response:
        if request.path == "/told":
            size = request.query.number("size")
            return Streamed(lambda writer: self._tell(writer, request.query.text("fails"), size), "text/plain")
        if request.method == "GET":
            return Reply(body=b"hello")
        if request.path == "/kept":
            return Reply(body=b"<%d>" % self._kept(request))
        if request.path == "/parts":
            return Reply(body=b"<%s>" % " ".join(map(str, self._in_parts(request))).encode())
        with request.body.lent() as loan:
            if self.job == "none":
                raise InvalidArgument("nobody wants it")
            try:
                found = self.pool.run(f"{JOBS}:{self.job}", {"wanted": self.wanted, **loan.lend()}, [loan.fileno()], loan.take_back)
            except Exception as error:
                self.errors.append(type(error).__name__)
                raise
        return Reply(body=b"<%d>" % found["size"])

    def _kept(self, request: Request) -> int:
        """A job writes the body to the file, as much of it as may be without having it as pieces: how many bytes that was."""
        most, gather = request.query.number("most"), request.query.text("gather") == "yes"
        told = {"file": str(self.file), "sizes": list(map(int, request.query.all("size"))), "gather": gather}
        with request.body.lent(most) as loan:
            found = self.pool.run(f"{JOBS}:keep", {**told, **loan.lend()}, [loan.fileno()], loan.take_back)
        with open(self.file, "ab") as file:
            while request.body.copy(file.fileno(), 70_001):
                pass
        return int(found["size"])

    def _in_parts(self, request: Request) -> Iterator[int]:
        """Jobs have parts of the body, and between them it is read here; the rest is copied."""
        body = request.body
        for size in map(int, request.query.all("size")):
            ahead = body.read(3)
            with body.lent(size, ahead) as loan:
                done = self.pool.run(f"{JOBS}:count", {"wanted": self.wanted, **loan.lend()}, [loan.fileno()], loan.take_back)
            found = loan.returned()
            assert found is not None and found.left == size - done["size"]
            yield done["size"]
        with open(self.file, "wb") as file:
            yield sum(iter(lambda: body.copy(file.fileno(), 70_001), 0))
        assert set(self.file.read_bytes()) <= {ord("x")}

    def _tell(self, writer: Writer, fails: str, size: int | None) -> None:
        outlet = writer.outlet()
        params = {"fails": fails, "file": str(self.file), "size": size, **outlet.params}
        try:
            self.pool.run(f"{JOBS}:tell", params, [outlet.fd], outlet.hear)
        except Exception as error:
            self.errors.append(type(error).__name__)
            raise


@pytest.fixture
def handler(pool: WorkerPool, tmp_path: Path) -> Handler:
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    return Handler(pool, tmp_path / "file")


@pytest.fixture
def client(handler: Handler) -> Iterator[socket.socket]:
    """A connection to a server of the handler."""
    here, there = socket.socketpair()
    thread = threading.Thread(target=Server(handler, failure, ()).serve, args=(there,))
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


def test_a_body_in_chunks_arrives_whole_and_the_connection_goes_on(client: socket.socket) -> None:
    client.sendall(CHUNKED)
    for _ in range(64):
        client.sendall(chunk(PIECE))
    client.sendall(b"0\r\n\r\n" + HELLO)
    answer = received(client, b"hello")
    assert b"<%d>" % (64 * len(PIECE)) in answer
    assert answer.endswith(b"hello")


def test_a_body_of_known_length_arrives_whole_and_the_connection_goes_on(client: socket.socket) -> None:
    client.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (64 * len(PIECE)))
    for _ in range(64):
        client.sendall(PIECE)
    client.sendall(HELLO)
    answer = received(client, b"hello")
    assert b"<%d>" % (64 * len(PIECE)) in answer
    assert answer.endswith(b"hello")


def test_a_whole_request_in_one_packet_with_the_next_behind_it_is_two_requests(client: socket.socket) -> None:
    client.sendall(CHUNKED + chunk(b"x" * 17) + b"0\r\n\r\n" + HELLO)
    answer = received(client, b"hello")
    assert b"<17>" in answer
    assert answer.endswith(b"hello")


def test_chunks_that_are_cut_anywhere_are_put_together(client: socket.socket) -> None:
    for byte in CHUNKED + chunk(b"x" * 17) + b"0;a=b\r\nTrailer: t\r\n\r\n":
        client.sendall(bytes([byte]))
    assert b"<17>" in received(client, b">")


def test_a_job_that_reads_ahead_refuses_while_the_client_pauses(client: socket.socket, handler: Handler) -> None:
    handler.job = "refuse"
    client.sendall(CHUNKED + chunk(PIECE))
    assert b"that is enough" in received(client, b"that is enough")
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("length", [1000, 32 << 10, 1 << 20])
def test_jobs_may_have_parts_of_a_body(client: socket.socket, length: int) -> None:
    sizes = (3, 4, 1000, 32_000, 65_536, 700_001, 5)
    pieces, rest = divmod(sum(sizes) + 200_000, length)
    client.sendall(CHUNKED.replace(b"PUT /", b"PUT /parts?" + b"&".join(b"size=%d" % size for size in sizes)))
    for _ in range(pieces):
        client.sendall(chunk(b"x" * length))
    client.sendall(chunk(b"x" * rest) + b"0\r\n\r\n" + HELLO)
    answer = received(client, b"hello")
    assert b"<%b>" % " ".join(map(str, (*sizes, 200_000))).encode() in answer
    assert answer.endswith(b"hello")


@pytest.mark.parametrize("most", [None, 500_000])
@pytest.mark.parametrize("gather", ["yes", "no"])
@pytest.mark.parametrize("length", [1000, 32 << 10, 1 << 20, 0], ids=["small chunks", "as docker's", "large chunks", "known length"])
def test_a_job_may_have_its_body_written_to_a_file_in_part(
    client: socket.socket, handler: Handler, length: int, gather: str, most: int | None
) -> None:
    content = b"".join(b"%07d " % number for number in range(125_000))
    sizes = (100, 70_001, 0, 300_000)
    query = "&".join([f"gather={gather}", *([] if most is None else [f"most={most}"]), *(f"size={size}" for size in sizes)])
    head = CHUNKED if length else CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(content))
    client.sendall(head.replace(b"PUT /", b"PUT /kept?" + query.encode()))
    if length:
        for begin in range(0, len(content), length):
            client.sendall(chunk(content[begin : begin + length]))
        client.sendall(b"0\r\n\r\n")
    else:
        client.sendall(content)
    client.sendall(HELLO)
    answer = received(client, b"hello")
    assert answer.endswith(b"hello")
    assert handler.file.read_bytes() == content
    copied = int(answer.partition(b"<")[2].partition(b">")[0])
    assert copied <= sum(sizes)
    assert copied or gather == "yes"


def test_a_part_that_is_longer_than_the_body_says_what_is_left(client: socket.socket) -> None:
    client.sendall(CHUNKED.replace(b"PUT /", b"PUT /parts?size=100") + chunk(b"x" * 60) + b"0\r\n\r\n" + HELLO)
    answer = received(client, b"hello")
    assert b"<60 0>" in answer
    assert answer.endswith(b"hello")


def test_a_client_that_waits_for_a_continue_gets_one(client: socket.socket) -> None:
    client.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert received(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue")
    client.sendall(b"xxx")
    assert b"<3>" in received(client, b">")


def test_a_client_that_leaves_within_a_body_is_noticed(client: socket.socket, handler: Handler) -> None:
    client.sendall(CHUNKED + chunk(PIECE))
    client.shutdown(socket.SHUT_WR)
    received(client, b"never")
    assert handler.errors == ["BodyCut"]


def test_broken_framing_is_answered_and_ends_the_connection(client: socket.socket, handler: Handler) -> None:
    client.sendall(CHUNKED + chunk(PIECE) + b"-5\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = received(client, b"names no size")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"HTTP/1.1" not in received(client, b"HTTP/1.1"), "what followed was taken for a request"
    assert handler.errors == ["BadFraming"]


def test_a_body_that_is_refused_in_the_middle_is_read_over_and_the_connection_goes_on(client: socket.socket, handler: Handler) -> None:
    handler.wanted = len(PIECE)
    client.sendall(CHUNKED)
    for _ in range(8):
        client.sendall(chunk(PIECE))
    client.sendall(b"0\r\n\r\n" + HELLO)
    answer = received(client, b"hello")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"that is enough" in answer
    assert answer.endswith(b"hello")


def test_the_answer_before_the_end_of_a_long_body_is_read(client: socket.socket, handler: Handler) -> None:
    handler.wanted = len(PIECE)

    def send() -> None:
        client.sendall(CHUNKED)
        for _ in range(400):
            client.sendall(chunk(PIECE))
        client.sendall(b"0\r\n\r\n")

    sender = threading.Thread(target=send)
    sender.start()
    assert b"that is enough" in received(client, b"}")
    sender.join(120)
    assert not sender.is_alive()


def test_a_body_that_no_job_gets_is_read_over_and_the_connection_goes_on(client: socket.socket, handler: Handler) -> None:
    handler.job = "none"
    client.sendall(CHUNKED + chunk(PIECE) + b"0\r\n\r\n" + HELLO)
    answer = received(client, b"hello")
    assert b"nobody wants it" in answer
    assert answer.endswith(b"hello")


def test_a_job_that_crashes_ends_its_connection_alone(client: socket.socket, handler: Handler) -> None:
    handler.job = "crash"
    client.sendall(CHUNKED + chunk(PIECE) + b"0\r\n\r\n" + HELLO)
    answer = received(client, b"never")
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"hello" not in answer


def test_a_job_has_what_came_when_the_client_pauses(client: socket.socket, handler: Handler) -> None:
    handler.job = "crash"  # When it has a piece.
    client.sendall(CHUNKED + chunk(b"xx"))
    assert received(client, b"never").startswith(b"HTTP/1.1 500")


def told(client: socket.socket, size: int, fails: str = "") -> bytes:
    """The request for what a job tells, with a small one behind it."""
    client.sendall(b"GET /told?size=%d&fails=%b HTTP/1.1\r\nHost: x\r\n\r\n" % (size, fails.encode()) + HELLO)
    return received(client, b"hello")


@pytest.mark.parametrize("size", [0, 3, 1_000_000, 1_000_003], ids=["empty", "small", "large", "shorter than it was"])
def test_what_a_job_writes_arrives_whole_and_the_connection_goes_on(client: socket.socket, size: int) -> None:
    head, _, rest = told(client, size).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    body = b""
    while (length := int(rest.partition(b"\r\n")[0], 16)) > 0:
        rest = rest.partition(b"\r\n")[2]
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    assert body == b"small 0 small 1 small 2 " + (b"x" * size)[:1_000_000] + bytes(max(0, size - 1_000_000)) + b" end"
    assert rest.startswith(b"0\r\n\r\nHTTP/1.1 200")


def test_a_job_that_fails_before_it_writes_is_an_ordinary_error(client: socket.socket) -> None:
    answer = told(client, 0, "before")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"nothing to tell" in answer
    assert answer.endswith(b"hello")


def test_a_job_that_fails_in_the_middle_cuts_the_answer_off(client: socket.socket) -> None:
    answer = told(client, 1_000_000, "after")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\n0\r\n" not in answer
    assert b"hello" not in answer


def test_a_client_that_leaves_while_a_job_writes_is_noticed(client: socket.socket, handler: Handler) -> None:
    client.sendall(b"GET /told?size=100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    received(client, b"small 0")
    client.close()
    eventually(lambda: handler.errors == ["ClientGone"])
