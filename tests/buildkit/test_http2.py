"""gRPC's transport: calls over a socket pair, either side first, with more than fits at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from lamina.buildkit.failure import Refused
from lamina.buildkit.http2 import Gone, Stream, Transport
from lamina.buildkit.messages import BytesMessage
from lamina.buildkit.session import Session
from lamina.buildkit.wire import encode


@contextmanager
def _connected(serve: Callable[[Stream], None]) -> Iterator[tuple[Transport, Callable[[], None]]]:
    """A calling side, and what begins to read on both; nothing is read before."""
    near, far = socket.socketpair()
    caller, server = Transport(near), Transport(far, serve)
    threads = [threading.Thread(target=side.run, daemon=True) for side in (caller, server)]
    with near, far:
        yield caller, lambda: [thread.start() for thread in threads] and None
        caller.close()
        for thread in threads:
            thread.join(120)


def _echo(stream: Stream) -> None:
    stream.headers_once()
    while (message := stream.receive()) is not None:
        stream.send(message[::-1])
    stream.trailers([("grpc-status", "0")])


def test_a_call_may_begin_before_anything_was_read() -> None:
    with _connected(_echo) as (caller, begin):
        stream = caller.call("/s/M")
        stream.send(b"abc")
        begin()
        assert stream.receive() == b"cba"
        stream.finish()
        assert stream.receive() is None


def test_messages_larger_than_the_windows_arrive_whole() -> None:
    with _connected(_echo) as (caller, begin):
        begin()
        stream = caller.call("/s/M")
        for size in (0, 1, 70_000, 9_000_000):
            stream.send(bytes(size - 1) + b"x" if size else b"")
            assert stream.receive() == (b"x" + bytes(size - 1) if size else b"")


def test_a_refusal_carries_its_sentence_and_code() -> None:
    def serve(stream: Stream) -> None:
        stream.trailers(Refused("100% no: é\n", code=9).trailers())

    with _connected(serve) as (caller, begin):
        begin()
        with pytest.raises(Refused) as told:
            caller.call("/s/M").receive()
    assert (told.value.message, told.value.number) == ("100% no: é\n", 9)


def test_who_waits_is_told_when_the_other_side_gives_up_or_goes() -> None:
    gone = threading.Event()

    def serve(stream: Stream) -> None:
        stream.on_gone(gone.set)
        _echo(stream)

    with _connected(serve) as (caller, begin):
        begin()
        given_up = caller.call("/s/M")
        given_up.send(b"")
        given_up.receive()
        given_up.cancel()
        assert gone.wait(120)
        stream = caller.call("/s/M")
        caller.close()
        with pytest.raises(Gone):
            stream.receive()
        with pytest.raises(Gone):
            caller.call("/s/M").send(b"late")


def test_a_message_that_says_it_is_too_long_is_refused_before_it_comes() -> None:
    told: list[str] = []

    def serve(stream: Stream) -> None:
        with pytest.raises(Refused) as refusal:
            stream.receive()
        told.append(refusal.value.message)
        stream.trailers([("grpc-status", "0")])

    with _connected(serve) as (caller, begin):
        begin()
        stream = caller.call("/s/M")
        caller.send(stream, b"\0" + (1 << 31).to_bytes(4))
        assert stream.receive() is None
    assert told == ["a message is compressed or too long"]


def test_a_question_says_at_once_that_no_more_comes() -> None:
    near, far = socket.socketpair()
    together: list[bool] = []
    secret = encode(BytesMessage(b"hidden"))

    def answer() -> None:
        """As grpc-go: the whole answer once the message is here, and the call is closed."""
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        server.initiate_connection()
        while data := far.recv(1 << 16):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.DataReceived) and not together:
                    together.append(event.stream_ended is not None)
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    server.send_data(event.stream_id, b"\0" + len(secret).to_bytes(4) + secret)
                    server.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            far.sendall(server.data_to_send())

    session = Session(near)
    threads = [threading.Thread(target=work, daemon=True) for work in (answer, session.run)]
    with near, far:
        for thread in threads:
            thread.start()
        assert session.secret("mine") == b"hidden"
        session.close()
        for thread in threads:
            thread.join(120)
    assert together == [True]
