"""Receivers of logs: syslog (RFC 3164 and 5424), systemd's journal, fluentd's forward protocol. What is sent is made by pure functions."""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lamina.container.loglines import nanoseconds

_FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split() + [""] * 4 + [f"local{number}" for number in range(8)]
)
_SEVERITY = {"stdout": 6, "stderr": 3}
_TIMEOUT = 10.0
JOURNAL = "/run/systemd/journal/socket"
SYSLOG = ("/dev/log", "/var/run/syslog", "/var/run/log")
_FOREVER = 1 << 32
_TLS = "tcp+tls"
SYSLOG_SCHEMES = {
    "udp": (socket.SOCK_DGRAM,),
    "tcp": (socket.SOCK_STREAM,),
    _TLS: (socket.SOCK_STREAM,),
    "unix": (socket.SOCK_STREAM, socket.SOCK_DGRAM),
    "unixgram": (socket.SOCK_DGRAM,),
}
FLUENTD_SCHEMES = {"tcp": (socket.SOCK_STREAM,), "unix": (socket.SOCK_STREAM,)}
"""The kinds of socket that stand for what is before `://` in an address, in the order in which they are tried."""
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")


class Unreachable(Exception):
    """Nobody listens, or not any more."""


class Piece(msgspec.Struct, frozen=True):
    """Which part of a long line an entry is: the first has the `ordinal` 1."""

    id: str
    ordinal: int
    last: bool


class Line(msgspec.Struct, frozen=True):
    """One entry of the log. `time` is RFC 3339. `piece` is told by `Pieces`."""

    log: str
    stream: str
    time: str
    attrs: dict[str, str] = {}
    piece: Piece | None = None


class Pieces:
    """Tells which entries are one line together, as Docker does to who can put them together again."""

    def __init__(self, new_id: Callable[[], str] = lambda: os.urandom(32).hex()) -> None:
        self._new_id = new_id
        self._begun: dict[str, Piece] = {}

    def told(self, line: Line) -> Line:
        """The next entry, with its piece."""
        before, whole = self._begun.pop(line.stream, None), line.log.endswith("\n")
        if before is None and whole:
            return line
        piece = Piece(before.id, before.ordinal + 1, whole) if before else Piece(self._new_id(), 1, whole)
        if not whole:
            self._begun[line.stream] = piece
        return msgspec.structs.replace(line, piece=piece)


class Destination(Protocol):
    """Who takes lines. `tries`: how often a receiver that went away is asked again before a batch is given up."""

    tries: int

    def open(self) -> None:
        """Connect, unless it is. Raises Unreachable."""

    def send(self, lines: Sequence[Line]) -> int:
        """Send some of the lines, from the first on; how many. Raises Unreachable."""

    def close(self) -> None:
        """Let go; repeating does nothing."""


def destination(about: Mapping[str, Any], ended: Callable[[], bool]) -> Destination:
    """The receiver that a container's options name. `ended`: whether nothing more will be written, so that one that takes nothing need not
    be waited for. Raises Unreachable: they name none."""
    kinds: dict[str, Callable[[Mapping[str, Any]], _Socket]] = {"syslog": Syslog, "journald": Journal, "fluentd": Fluentd}
    made = kinds[about["driver"]](about)
    made.ended = ended
    return made


class _Socket(ABC):
    """A connection that is made again when it is lost."""

    tries = 1

    def __init__(self, addresses: Sequence[tuple[int, int, Any]], shown: str) -> None:
        self._addresses, self._shown = addresses, shown
        self._socket: socket.socket | None = None
        self.ended: Callable[[], bool] = lambda: False

    def open(self) -> None:
        """See Destination.open."""
        error: OSError = FileNotFoundError(2, "no such file or directory")
        for family, kind, address in () if self._socket else self._addresses:
            made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
            made.settimeout(_TIMEOUT)
            try:
                made.connect(address)
                self._socket = self._secured(made)
                return
            except OSError as failed:
                made.close()
                error = failed
        if self._socket is None:
            reason = str(error.strerror or error).lower()
            raise Unreachable(f"dial {self._shown}: connect: {reason}")

    def close(self) -> None:
        """See Destination.close."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    @abstractmethod
    def send(self, lines: Sequence[Line]) -> int:
        """See Destination.send."""

    def _secured(self, connected: socket.socket) -> socket.socket:
        """What is spoken over: the connection itself, unless it is to be by TLS. Raises OSError, Unreachable."""
        return connected

    def _write(self, data: bytes) -> None:
        """All of it, however slow the receiver is."""
        assert self._socket is not None
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except OSError as error:
                if (isinstance(error, TimeoutError) and not self.ended()) or self._told_of_another(error):
                    continue
                self.close()
                raise Unreachable(str(error)) from None

    def _told_of_another(self, error: OSError) -> bool:
        """Whether it is of an earlier datagram: nobody listened, as who sends by UDP hears with the next one."""
        ours = self._socket
        udp = ours is not None and ours.family != socket.AF_UNIX and ours.type == socket.SOCK_DGRAM
        return udp and isinstance(error, ConnectionRefusedError)

    def _write_each(self, messages: Iterable[bytes]) -> int:
        """A datagram for each; how many went. Raises Unreachable: none did."""
        number = 0
        for message in messages:
            try:
                self._write(message)
            except Unreachable:
                if not number:
                    raise
                break
            number += 1
        return number


def parsed(address: str, port: int, *, schemes: Mapping[str, tuple[int, ...]]) -> tuple[list[tuple[int, int, Any]], str]:
    """Where to connect for `scheme://place`, and how errors call it; without a scheme it is TCP. Raises Unreachable."""
    scheme, separator, place = address.rpartition("://")
    scheme = scheme if separator else "tcp"
    if scheme not in schemes:
        raise Unreachable(f"unsupported scheme: '{scheme[:50]}'")
    kinds = schemes[scheme]
    if scheme.startswith("unix"):
        return [(socket.AF_UNIX, kind, place) for kind in kinds], f"{scheme} {place}"
    said = place.rpartition(":")[2]
    host, number = _host_of(place), int(said) if said.isdecimal() else port
    if number > 65535:
        raise Unreachable(f"dial {scheme}: address {number}: invalid port")
    try:
        found = socket.getaddrinfo(host, number, type=kinds[0])
    except OSError as error:
        raise Unreachable(f"dial {scheme}: lookup {host[:200]}: {str(error.strerror or error).lower()}") from None
    return [(family, kind, where) for family, kind, _, _, where in found], f"{scheme} {host}:{number}"


def _host_of(place: str) -> str:
    """The host of `host:port` or `host`."""
    host, _, port = place.rpartition(":")
    return (host if port.isdecimal() else place).strip("[]") or "127.0.0.1"


# ── syslog ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Syslog(_Socket):
    """A syslog daemon: the host's own where no address is given."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        options = about["options"]
        address = options.get("syslog-address", "")
        if address:
            addresses, shown = parsed(address, 514, schemes=SYSLOG_SCHEMES)
        else:
            addresses = [(socket.AF_UNIX, kind, path) for path in SYSLOG for kind in SYSLOG_SCHEMES["unix"]]
            shown = "unix syslog delivery"
        super().__init__(addresses, shown)
        self._facility = facility(options.get("syslog-facility") or "daemon")
        self._format = options.get("syslog-format", "")
        self._tag, self._host = about["tag"], about["host"]
        self._options = options

    def _secured(self, connected: socket.socket) -> socket.socket:
        options, (scheme, _, place) = self._options, self._options.get("syslog-address", "").partition("://")
        if scheme != _TLS:
            return connected
        from lamina.tls.contexts import InvalidCertificates, client_context

        try:
            context = client_context(
                certificate=options.get("syslog-tls-cert", ""),
                key=options.get("syslog-tls-key", ""),
                authority=options.get("syslog-tls-ca-cert", ""),
                verify="syslog-tls-skip-verify" not in options,
            )
        except InvalidCertificates as error:
            connected.close()
            raise Unreachable(error.message) from None
        return context.wrap_socket(connected, server_hostname=_host_of(place))

    def send(self, lines: Sequence[Line]) -> int:
        """See Destination.send. A datagram per line. Empty lines are left out, as by Docker."""
        assert self._socket is not None
        if self._socket.type != socket.SOCK_STREAM:
            return self._write_each(map(self._message, lines))
        self._write(b"".join(map(self._message, lines)))
        return len(lines)

    def _message(self, line: Line) -> bytes:
        if line.log == "\n":
            return b""
        priority = self._facility * 8 + _SEVERITY.get(line.stream, 6)
        return syslog_message(line, priority, self._format, host=self._host, tag=self._tag, pid=os.getpid())


def facility(name: str) -> int:
    """A facility's number, by name or number. Raises Unreachable."""
    if name.isdecimal() and int(name) < len(_FACILITIES):
        return int(name)
    if name in _FACILITIES and name:
        return _FACILITIES.index(name)
    raise Unreachable("invalid syslog facility")


def syslog_message(line: Line, priority: int, kind: str, *, host: str, tag: str, pid: int) -> bytes:
    """One message, which ends with a newline. `kind` as syslog-format says it; "" is what a host's own daemon takes: as rfc3164, but for
    the host's name. Both have local time."""
    text = line.log.removesuffix("\n")
    moment = nanoseconds(line.time)
    if kind.startswith("rfc5424"):
        digits = f".{moment % 10**9 // 1000:06}" if kind == "rfc5424micro" else ""
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment // 10**9))}{digits}Z"
        return f"<{priority}>1 {stamp} {host} {tag} {pid} {tag} - {text}\n".encode()
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(moment // 10**9))
    named = f" {host}" if kind == "rfc3164" else ""
    return f"<{priority}>{stamp}{named} {tag}[{pid}]: {text}\n".encode()


# ── systemd's journal ────────────────────────────────────────────────────────────────────────────────────────────────


class Journal(_Socket):
    """The host's journal."""

    def __init__(self, about: Mapping[str, Any], path: str = JOURNAL) -> None:
        super().__init__([(socket.AF_UNIX, socket.SOCK_DGRAM, path)], f"unixgram {path}")
        self._about = about

    def send(self, lines: Sequence[Line]) -> int:
        """See Destination.send."""
        return self._write_each(journal_message(line, self._about) for line in lines)


def journal_message(line: Line, about: Mapping[str, Any]) -> bytes:
    """One entry in the journal's native protocol, with Docker's fields."""
    fields = {
        "MESSAGE": line.log.removesuffix("\n"),
        "PRIORITY": str(_SEVERITY.get(line.stream, 6)),
        "CONTAINER_ID": about["id"][:12],
        "CONTAINER_ID_FULL": about["id"],
        "CONTAINER_NAME": about["name"],
        "CONTAINER_TAG": about["tag"],
        "IMAGE_NAME": about["image"],
        "SYSLOG_IDENTIFIER": about["tag"],
        "SYSLOG_TIMESTAMP": line.time,
        **{_field(key): value for key, value in line.attrs.items()},
        **({"CONTAINER_PARTIAL_MESSAGE": "true"} if line.piece and not line.piece.last else {}),
        **{f"CONTAINER_PARTIAL_{key.upper()}": value for key, value in _piece(line).items()},
    }
    return b"".join(_journal_field(key, value.encode()) for key, value in fields.items())


def _piece(line: Line) -> dict[str, str]:
    piece = line.piece
    return {"id": piece.id, "ordinal": str(piece.ordinal), "last": "true" if piece.last else "false"} if piece else {}


def _field(name: str) -> str:
    """A label's or variable's name as the journal takes it: capitals, digits and underscores, no underscore first."""
    return "".join(character if character.isascii() and character.isalnum() else "_" for character in name.upper()).lstrip("_0123456789")


def _journal_field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


# ── fluentd ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Fluentd(_Socket):
    """A fluentd, by its forward protocol (v1, forward mode)."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        options = about["options"]
        super().__init__(*parsed(options.get("fluentd-address") or "tcp://127.0.0.1:24224", 24224, schemes=FLUENTD_SCHEMES))
        self.tries = int(options.get("fluentd-max-retries") or _FOREVER)
        self._precise = options.get("fluentd-sub-second-precision", "").lower() in ("true", "1", "t")
        self._acknowledged = options.get("fluentd-request-ack", "").lower() in ("true", "1", "t")
        self._about, self._number = about, 0

    def send(self, lines: Sequence[Line]) -> int:
        """See Destination.send. With acknowledgements, lines are sent when the receiver has said so."""
        self._number += 1
        chunk = f"{self._about['id'][:16]}{self._number:016x}" if self._acknowledged else ""
        self._write(forward_message(lines, self._about, chunk=chunk, precise=self._precise))
        if chunk:
            self._await(chunk)
        return len(lines)

    def _await(self, chunk: str) -> None:
        assert self._socket is not None
        try:
            answer = msgspec.msgpack.decode(self._socket.recv(4096))
        except (OSError, msgspec.DecodeError) as error:
            self.close()
            raise Unreachable(str(error)) from None
        if answer != {"ack": chunk}:
            self.close()
            raise Unreachable("the receiver acknowledged something else")


def forward_message(lines: Sequence[Line], about: Mapping[str, Any], *, chunk: str, precise: bool) -> bytes:
    """[tag, [[time, record], …], option] in MessagePack, with Docker's records."""
    who = {"container_id": about["id"], "container_name": f"/{about['name']}"}
    entries = []
    for line in lines:
        partial = {"partial_message": "true", **{f"partial_{key}": value for key, value in _piece(line).items()}} if line.piece else {}
        record = {**who, "source": line.stream, "log": line.log.removesuffix("\n"), **partial, **line.attrs}
        entries.append([_event_time(nanoseconds(line.time), precise=precise), record])
    return msgspec.msgpack.encode([about["tag"], entries, {"chunk": chunk} if chunk else {"size": len(entries)}])


def _event_time(moment: int, *, precise: bool) -> int | msgspec.msgpack.Ext:
    """Seconds, or EventTime: ext type 0 of seconds and nanoseconds."""
    seconds, rest = divmod(moment, 10**9)
    return msgspec.msgpack.Ext(0, seconds.to_bytes(4, "big") + rest.to_bytes(4, "big")) if precise else seconds
