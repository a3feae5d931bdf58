"""What is sent to receivers of logs, and what happens when they go away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from lamina.container import destinations
from lamina.container.destinations import (
    Journal,
    Line,
    Piece,
    Pieces,
    Syslog,
    Unreachable,
    destination,
    facility,
    forward_message,
    journal_message,
    parsed,
    syslog_message,
)
from lamina.container.shipper import ship
from lamina.tls.contexts import server_context

CERTIFICATES = Path(__file__).parent.parent / "tls" / "certificates"

ABOUT = {"id": "a" * 64, "name": "web", "image": "img", "host": "machine", "tag": "tagged", "options": {}}
LINE = Line("said\n", "stdout", "2024-05-01T12:00:00.123456789Z", {"some.label": "x"})
ENTRY = b'{"log":"%d\\n","stream":"stdout","time":"2024-05-01T12:00:00Z"}'


def test_syslog_in_its_three_ways() -> None:
    arguments = {"host": "machine", "tag": "tagged", "pid": 7}
    assert syslog_message(LINE, 30, "rfc5424", **arguments) == b"<30>1 2024-05-01T12:00:00Z machine tagged 7 tagged - said\n"  # type: ignore[arg-type]
    assert b"12:00:00.123456Z machine" in syslog_message(LINE, 30, "rfc5424micro", **arguments)  # type: ignore[arg-type]
    assert syslog_message(LINE, 30, "rfc3164", **arguments).endswith(b":00 machine tagged[7]: said\n")  # type: ignore[arg-type]
    assert syslog_message(LINE, 30, "", **arguments).endswith(b":00 tagged[7]: said\n")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_syslog_daemon_gets_no_empty_lines(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_UNIX, kind) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        if kind == socket.SOCK_STREAM:
            receiver.listen()
        syslog = Syslog({**ABOUT, "options": {"syslog-address": f"unix://{tmp_path}/socket"}})
        syslog.open()
        empty = Line("\n", "stdout", LINE.time)
        assert syslog.send([empty, LINE, empty, LINE]) == 4
        syslog.close()
        (taken, _), count = (receiver.accept(), 1) if kind == socket.SOCK_STREAM else ((receiver, ""), 2)
        assert b"".join(taken.recv(4096) for _ in range(count)).count(b"\n") == 2
        taken.close()


def tls_options(port: int, **more: str) -> dict[str, str]:
    return {
        "syslog-address": f"tcp+tls://127.0.0.1:{port}",
        **{f"syslog-tls-{name.replace('_', '-')}": value for name, value in more.items()},
    }


@pytest.mark.parametrize("verified", [True, False])
def test_a_syslog_daemon_is_reached_by_tls(verified: bool) -> None:
    """Both sides show their certificates; the daemon's is not looked at where that was asked for."""
    files = {name: str(CERTIFICATES / f"{name}.pem") for name in ("ca", "client", "client-key", "engine", "engine-key")}
    context = server_context(certificate=files["engine"], key=files["engine-key"], authority=files["ca"])
    more = {"ca_cert": files["ca"]} if verified else {"skip_verify": "true"}
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        syslog = Syslog(
            {**ABOUT, "options": tls_options(listening.getsockname()[1], cert=files["client"], key=files["client-key"], **more)}
        )

        def taken() -> bytes:
            with context.wrap_socket(listening.accept()[0], server_side=True) as receiver:
                return b"".join(iter(lambda: receiver.recv(1 << 16), b""))

        read = thread.submit(taken)
        syslog.open()
        assert syslog.send([LINE] * 1000) == 1000
        assert syslog._socket is not None
        syslog._socket.shutdown(socket.SHUT_WR)
        assert read.result(60).count(b": said\n") == 1000
        syslog.close()


def test_a_syslog_daemon_that_is_somebody_else_gets_nothing() -> None:
    context = server_context(certificate=str(CERTIFICATES / "stranger.pem"), key=str(CERTIFICATES / "stranger-key.pem"), authority="")
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        port = listening.getsockname()[1]

        def refused() -> None:
            with listening.accept()[0] as connection, pytest.raises(OSError):
                context.wrap_socket(connection, server_side=True).recv(1)

        done = thread.submit(refused)
        with pytest.raises(Unreachable, match="certificate verify failed"):
            Syslog({**ABOUT, "options": tls_options(port, ca_cert=str(CERTIFICATES / "ca.pem"))}).open()
        done.result(60)
        with pytest.raises(Unreachable, match=r"TLS cannot be set up with /none\.pem: no such file"):
            Syslog({**ABOUT, "options": tls_options(port, ca_cert="/none.pem")}).open()


@pytest.mark.parametrize(("name", "number"), [("kern", 0), ("daemon", 3), ("local7", 23), ("16", 16)])
def test_facilities_by_name_and_number(name: str, number: int) -> None:
    assert facility(name) == number


@pytest.mark.parametrize("name", ["", "nobody", "24"])
def test_what_is_no_facility_is_refused(name: str) -> None:
    with pytest.raises(Unreachable):
        facility(name)


def test_a_journal_entry_with_newlines_has_its_length() -> None:
    message = journal_message(Line("a\nb", "stderr", "2024-05-01T12:00:00Z", piece=Piece("p", 1, last=False)), ABOUT)
    assert b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n" in message
    assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in message and b"PRIORITY=3\n" in message
    assert b"SOME_LABEL=x\n" in journal_message(LINE, ABOUT)


def test_the_journal_gets_a_datagram_a_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        journal = Journal(ABOUT, str(tmp_path / "socket"))
        journal.open()
        assert journal.send([LINE, LINE]) == 2
        journal.close()
        assert receiver.recv(4096) == receiver.recv(4096) == journal_message(LINE, ABOUT)


def test_pieces_of_a_line_say_which_they_are() -> None:
    pieces = Pieces(iter("abc").__next__)
    said = [("x", "stdout"), ("e\n", "stderr"), ("y", "stdout"), ("z\n", "stdout"), ("whole\n", "stdout"), ("end", "stdout")]
    lines = [pieces.told(Line(log, stream, LINE.time)) for log, stream in said]
    assert [line.piece and (line.piece.id, line.piece.ordinal, line.piece.last) for line in lines] == [
        ("a", 1, False), None, ("a", 2, False), ("a", 3, True), None, ("b", 1, False),
    ]  # fmt: skip
    _, entries, _ = msgspec.msgpack.decode(forward_message(lines, ABOUT, chunk="", precise=False))
    told = [{key: value for key, value in record.items() if key.startswith("partial")} for _, record in entries]
    assert told[3] == {"partial_message": "true", "partial_id": "a", "partial_ordinal": "3", "partial_last": "true"}
    assert told[1] == told[4] == {}
    fields = [journal_message(line, ABOUT) for line in lines]
    assert (
        b"CONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_PARTIAL_ID=a\nCONTAINER_PARTIAL_ORDINAL=2\nCONTAINER_PARTIAL_LAST=false\n" in fields[2]
    )
    assert b"CONTAINER_PARTIAL_LAST=true\n" in fields[3] and b"PARTIAL_MESSAGE" not in fields[3]
    assert b"PARTIAL" not in fields[4]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_slow_receiver_is_waited_for_and_gets_every_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: socket.SocketKind
) -> None:
    monkeypatch.setattr(destinations, "_TIMEOUT", 0.01)
    lines = [Line(f"{number}\n", "stdout", LINE.time) for number in range(20_000)]
    taken: list[bytes] = []
    asked: list[bool] = []
    with socket.socket(socket.AF_UNIX, kind) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(60)

        def read() -> None:
            if kind == socket.SOCK_DGRAM:
                taken.extend(receiver.recv(4096) for _ in lines)
                return
            with receiver.accept()[0] as connection, connection.makefile("rb") as file:
                taken.extend(file)

        reader = threading.Thread(target=read)
        if kind == socket.SOCK_STREAM:
            receiver.listen()

        def ended() -> bool:
            asked.append(False)
            if len(asked) == 3:
                reader.start()
            return False

        syslog = destination({**ABOUT, "driver": "syslog", "options": {"syslog-address": f"unix://{tmp_path}/socket"}}, ended)
        syslog.open()
        assert syslog.send(lines) == len(lines)
        syslog.close()
        reader.join()
    assert [line.rpartition(b": ")[2] for line in taken] == [line.log.encode() for line in lines]


def test_a_receiver_that_takes_nothing_is_given_up_when_the_container_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "_TIMEOUT", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        syslog = destination({**ABOUT, "driver": "syslog", "options": {"syslog-address": f"unix://{tmp_path}/socket"}}, lambda: True)
        syslog.open()
        # What went is not sent once more.
        assert 0 < syslog.send([LINE] * 20_000) < 20_000
        syslog.open()
        with pytest.raises(Unreachable):
            syslog.send([LINE])


def test_fluentd_times_with_and_without_nanoseconds() -> None:
    _, [[seconds, _]], option = msgspec.msgpack.decode(forward_message([LINE], ABOUT, chunk="", precise=False))
    assert (seconds, option) == (1714564800, {"size": 1})
    _, [[precise, record]], option = msgspec.msgpack.decode(forward_message([LINE], ABOUT, chunk="c", precise=True))
    assert precise.data == (1714564800).to_bytes(4, "big") + (123456789).to_bytes(4, "big")
    assert (record["some.label"], option) == ("x", {"chunk": "c"})


@pytest.mark.parametrize(
    ("address", "shown"), [("tcp://127.0.0.1:5", "tcp 127.0.0.1:5"), ("127.0.0.1", "tcp 127.0.0.1:99"), ("unix:///x", "unix /x")]
)
def test_addresses_as_docker_takes_them(address: str, shown: str) -> None:
    assert parsed(address, 99, schemes={"tcp": (socket.SOCK_STREAM,), "unix": (socket.SOCK_STREAM,)})[1] == shown


def test_a_port_that_is_none_is_not_taken_for_another() -> None:
    with pytest.raises(Unreachable, match="dial udp: address 99999: invalid port"):
        parsed("udp://127.0.0.1:99999", 514, schemes=destinations.SYSLOG_SCHEMES)


class Flaky:
    """A receiver that takes one line at a time, and goes away before each."""

    tries = 3

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.connected = False

    def open(self) -> None:
        self.connected = not self.connected
        if not self.connected:
            raise Unreachable("away")

    def send(self, lines: Sequence[Line]) -> int:
        self.taken.append(lines[0].log)
        return 1

    def close(self) -> None:
        return


def test_a_receiver_that_comes_back_gets_every_line_once() -> None:
    receiver = Flaky()
    waited: list[float] = []
    ship(receiver, iter([[ENTRY % 1, ENTRY % 2], [ENTRY % 3]]), waited.append)
    assert (receiver.taken, waited) == (["1\n", "2\n", "3\n"], [1.0, 1.0])


class Gone(Flaky):
    """A receiver that is away, but for one moment."""

    tries = 1
    back = 3

    def open(self) -> None:
        self.back -= 1
        if self.back:
            raise Unreachable("away")


def test_who_has_not_come_back_is_not_waited_for_at_each_batch() -> None:
    receiver = Gone()
    waited: list[float] = []
    ship(receiver, iter([[ENTRY % number] for number in range(5)]), waited.append)
    assert (receiver.taken, waited) == (["1\n"], [1.0, 1.0])


def test_nobody_waits_for_who_gets_datagrams_and_is_not_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
    syslog = Syslog({**ABOUT, "options": {"syslog-address": f"udp://127.0.0.1:{port}"}})
    syslog.open()
    assert syslog.send([LINE] * 100) == 100
    syslog.close()
