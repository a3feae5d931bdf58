"""DNS messages."""

from __future__ import annotations

import resource
import select
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.linux import channel
from lamina.network import names
from lamina.network.switchboard import SOCKET, Container, Pending, Switchboard

LABEL = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)


def query(name: str, kind: int = names.A) -> bytes:
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + names.encode_name(name) + struct.pack("!HH", kind, 1)


@given(st.lists(LABEL, min_size=1, max_size=5))
def test_a_question_is_read_as_it_was_written(labels: list[str]) -> None:
    asked = names.parse_question(query(".".join(labels)))
    assert asked is not None
    assert (asked.id, asked.name, asked.kind) == (7, ".".join(labels).lower(), names.A)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_question_or_none(message: bytes) -> None:
    names.parse_question(message)


def test_answers_carry_the_question_and_the_records() -> None:
    asked = query("Web.Net")
    question = names.parse_question(asked)
    assert question is not None
    said = names.answer(asked, question, [socket.inet_aton("10.0.0.2"), socket.inet_aton("10.0.0.3")])
    number, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", said)
    assert (number, flags & 0x8000, flags & 0xF, questions, answers) == (7, 0x8000, 0, 1, 2)
    assert said.endswith(socket.inet_aton("10.0.0.3"))
    refused = names.refusal(asked, question, names.SERVER_FAILURE)
    assert struct.unpack_from("!HH", refused)[1] & 0xF == names.SERVER_FAILURE


def test_what_does_not_fit_a_datagram_is_cut_to_its_question() -> None:
    asked = query("many")
    question = names.parse_question(asked)
    assert question is not None
    said = names.fitting(names.answer(asked, question, [socket.inet_aton("10.0.0.2")] * 50))
    assert struct.unpack_from("!HHHH", said)[1] & 0x0200 and struct.unpack_from("!HHHH", said)[3] == 0
    assert len(said) == len(asked)


def test_addresses_are_asked_for_backwards() -> None:
    assert names.reversed_address("2.0.17.172.in-addr.arpa") == "172.17.0.2"
    six = ".".join(reversed("fd990001000000000000000000000077")) + ".ip6.arpa"
    assert names.reversed_address(six) == "fd99:1::77"
    assert names.reversed_address(six[2:]) == names.reversed_address("x" + six[1:]) == ""
    assert names.reversed_address("web") == names.reversed_address("1.2.3.in-addr.arpa") == ""


def test_a_container_on_internal_networks_only_asks_nobody_outside() -> None:
    """CVE-2024-29018: names are a way out for data."""
    board, asked, said = Switchboard.__new__(Switchboard), list[Pending](), list[bytes]()
    board._pending, board._containers, board._turn = {}, {}, 0
    board._pass_on = asked.append  # type: ignore[method-assign]
    container = Container()
    container.servers = ["192.0.2.1"]
    for container.outside in (True, False):
        board._ask(container, query("secret.example"), said.append, lambda: None)
    assert len(asked) == 1 and len(said) == 1 and said[0][3] & 15 == names.SERVER_FAILURE


def test_a_container_that_asks_without_end_leaves_room_for_others() -> None:
    board, said = Switchboard.__new__(Switchboard), list[bytes]()
    board._pending, board._containers, board._turn = {}, {}, 0
    board._pass_on = lambda pending: board._pending.update({len(board._pending): pending})  # type: ignore[method-assign]
    greedy, other = Container(), Container()
    greedy.servers = other.servers = ["192.0.2.1"]
    for _ in range(1000):
        board._ask(greedy, query("example"), said.append, lambda: None)
    before = len(board._pending)
    assert len(said) == 1000 - before
    board._ask(other, query("example"), said.append, lambda: None)
    assert len(board._pending) == before + 1


def test_a_container_that_opens_connections_without_end_has_some_of_them_answered(tmp_path: Path) -> None:
    board, tcp, _ = serving(tmp_path)
    clients = [socket.create_connection(tcp.getsockname(), 120) for _ in range(100)]
    for _ in clients:
        accept(board, tcp)
    assert clients[-1].recv(1) == b""
    asked = query("web")
    clients[0].sendall(len(asked).to_bytes(2, "big") + asked)
    for fd, events in board._poll.poll(120):
        board._handlers[fd](events)
    assert clients[0].recv(2)
    clients.append(socket.create_connection(tcp.getsockname(), 120))
    accept(board, tcp)
    clients[-1].settimeout(0.05)
    with pytest.raises(TimeoutError):  # its place was free again
        clients[-1].recv(1)
    for client in clients:
        client.close()


def test_questions_and_connections_for_which_no_descriptor_is_left_end_nothing(tmp_path: Path) -> None:
    board, tcp, udp = serving(tmp_path)
    engine = channel.connect(str(tmp_path), "socket")
    published = Container()
    published.targets[tcp.fileno()] = "127.0.0.1"
    with socket.socket(type=socket.SOCK_DGRAM) as asking, socket.create_connection(tcp.getsockname()):
        asking.sendto(query("web"), udp.getsockname())
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(6):
            free = [fd for fd in range(3, 4096) if not Path(f"/proc/self/fd/{fd}").is_symlink()]
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[room], allowed[1]))
            try:
                if not room:
                    board._accept()
                board._handlers[udp.fileno()](select.EPOLLIN)
                board._handlers[tcp.fileno()](select.EPOLLIN)
                board._forwarder(published, tcp.fileno(), 9)(select.EPOLLIN)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    board._accept()
    assert len(board._handlers) > 3
    engine.close()


def accept(board: Switchboard, listener: socket.socket) -> None:
    """Have the next connection accepted, which its client has sooner than the listener."""
    assert select.select([listener], [], [], 120)[0]
    board._handlers[listener.fileno()](select.EPOLLIN)


def serving(directory: Path) -> tuple[Switchboard, socket.socket, socket.socket]:
    """A switchboard that answers a container on these sockets, of TCP and UDP."""
    board = Switchboard(channel.listen(str(directory), "socket"), str(directory))
    tcp, udp = socket.create_server(("127.0.0.1", 0), backlog=200), socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    board._perform({"op": "serve", "container": "it"}, [udp.fileno(), tcp.fileno()])
    return board, tcp, udp


@given(st.binary(max_size=100), st.integers(0, 600))
def test_any_response_of_a_server_fits_or_is_cut(start: bytes, padding: int) -> None:
    response = bytes(12) + start + b"\xc0" * padding
    said = names.fitting(response)
    assert said == response if len(response) <= 512 else len(said) <= 512 and said[2] & 2


def test_what_one_container_sends_does_not_end_the_switchboard(tmp_path: Path) -> None:
    board = Switchboard(channel.listen(str(tmp_path), SOCKET), str(tmp_path))
    reader, writer = socket.socketpair()

    def fail(events: int) -> None:
        reader.recv(1)
        if events & select.EPOLLIN:
            writer.send(b"y")
            board.watch(reader.fileno(), lambda _: board._end())
        raise IndexError("index out of range")

    with reader, writer:
        board.watch(reader.fileno(), fail)
        writer.send(b"x")
        board.serve()


def test_what_always_fails_is_heard_no_more(tmp_path: Path) -> None:
    board = Switchboard(channel.listen(str(tmp_path), SOCKET), str(tmp_path))
    (failing, one), (ending, other) = socket.socketpair(), socket.socketpair()
    called, rounds = [], []

    def fail(events: int) -> None:
        called.append(events)
        if len(called) == 10:
            other.send(b"x")
        raise IndexError("index out of range")

    def end(_: int) -> None:
        rounds.append(len(called))
        if len(rounds) == 3:
            board._end()

    with failing, one, ending, other:
        board.watch(failing.fileno(), fail)
        board.watch(ending.fileno(), end)
        one.send(b"x")
        board.serve()
    assert len(called) == 10
