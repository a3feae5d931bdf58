"""The requests of run and exec: which wait for which, and on which connections."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from lamina.client.running import Program, Run
from lamina.client.transport import Address, Connection, EngineUnreachable, Transport
from lamina.errors import Conflict
from tests.client.fake_engine import UPGRADED, FakeEngine, Request, chunked, reply


def transport(engine: FakeEngine) -> Transport:
    return Transport(Address.parse(engine.host))


def test_a_start_is_asked_for_when_both_are_listened_to(engine: FakeEngine) -> None:
    released = threading.Event()

    def wait(_request: Request, _connection: socket.socket) -> bytes:
        released.wait(60)
        return chunked(b'{"StatusCode": 3}')

    engine.routes = {"POST /containers/create": reply({"Id": "i"}, status=201), "POST /containers/i/start": reply(status=204)}
    engine.routes |= {"POST /containers/i/attach": UPGRADED, "POST /containers/i/wait": wait}
    run = Run(transport(engine), connections=2)
    assert run.create({"Image": "x"}) == {"Id": "i"}
    threading.Timer(0.3, released.set).start()
    _, waiting = run.follow("i", stdin=False, stdout=True, stderr=True, condition="removed")
    assert released.is_set()
    assert waiting.json() == {"StatusCode": 3}
    run.start("i")
    assert sorted(engine.asked()[1:3]) == ["POST /containers/i/attach", "POST /containers/i/wait"]
    assert engine.asked()[3:] == ["POST /containers/i/start"]


def test_what_is_to_be_done_meanwhile_is_done_while_the_engine_creates(engine: FakeEngine) -> None:
    done = threading.Event()

    def create(_request: Request, _connection: socket.socket) -> bytes:
        assert done.wait(60)
        return reply({"Id": "i"}, status=201)

    engine.routes = {"POST /containers/create": create}
    assert Run(transport(engine), meanwhile=done.set).create({}) == {"Id": "i"}


@pytest.mark.parametrize("status", [409, 404])
def test_streams_that_are_refused_end_the_wait_too(engine: FakeEngine, status: int) -> None:
    ended = threading.Event()

    def wait(_request: Request, connection: socket.socket) -> None:
        assert connection.recv(1) == b""
        ended.set()

    engine.routes = {"POST /containers/i/attach": reply({"message": "no"}, status=status), "POST /containers/i/wait": wait}
    with pytest.raises(Exception, match="no"):
        Run(transport(engine)).follow("i", stdin=False, stdout=True, stderr=True)
    assert ended.wait(60)


def test_a_connection_that_is_said_to_end_is_not_used_again(engine: FakeEngine) -> None:
    def create(_request: Request, connection: socket.socket) -> None:
        connection.sendall(reply({"Id": "i"}, headers="Connection: close\r\n"))

    engine.routes = {"POST /containers/create": create, "POST /containers/i/start": reply(status=204)}
    run = Run(transport(engine))
    run.create({})
    run.start("i")


def test_a_second_create_has_connections_of_its_own(engine: FakeEngine) -> None:
    """Between the two an image was pulled: who knows what became of the first."""

    def refuse(_request: Request, connection: socket.socket) -> None:
        connection.sendall(reply({"message": "no"}, status=409))

    engine.routes = {"POST /containers/create": refuse}
    run = Run(transport(engine), connections=2)
    with pytest.raises(Conflict):
        run.create({})
    time.sleep(0.1)
    engine.routes = {"POST /containers/create": reply({"Id": "i"}, status=201), "POST /containers/i/start": reply(status=204)}
    run.create({})
    run.start("i")


def test_no_connection_is_kept_while_a_program_or_container_runs(engine: FakeEngine) -> None:
    engine.routes = {"POST /containers/c/exec": reply({"Id": "e"}, status=201), "POST /exec/e/start": UPGRADED}
    engine.routes |= {"POST /containers/create": reply({"Id": "c"}, status=201), "POST /containers/c/start": reply(status=204)}
    engine.routes |= {"GET /exec/e/json": reply({"ExitCode": 7})}
    program, run = Program(transport(engine), connections=1), Run(transport(engine))
    assert program.create("c", {}) == "e"
    program.start("e", tty=False, detach=False)
    assert program.exit_code("e") == 7
    run.create({})
    run.start("c")
    closing_ones = [request.path for request in engine.requests if request.headers.get("connection") == "close"]
    assert closing_ones == ["/containers/c/exec", "/containers/c/start"]


def test_an_engine_on_another_machine_that_is_silent_is_waited_for_once() -> None:
    """A connection that nobody answers takes two minutes to fail."""
    tried: list[str] = []

    class Silent(Transport):
        def connect(self) -> Connection:
            tried.append(str(self.address))
            raise EngineUnreachable("connection timed out")

    run = Run(Silent(Address.parse("tcp://192.0.2.1:2375")))
    run.reach()
    with pytest.raises(EngineUnreachable):
        run.create({})
    assert tried == ["tcp://192.0.2.1:2375"]
