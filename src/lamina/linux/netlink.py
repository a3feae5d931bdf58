"""Netlink: messages to the kernel's network code and its answers (rfc3549, linux/netlink.h).

Several requests travel in one packet, and only the last asks for an answer: the kernel works through them in
order and answers the others only where they fail. Only builtin modules are imported, since launchers use this.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

ROUTE, NETFILTER = 0, 12
"""Protocols: what a socket talks to."""

REQUEST, ACK, ECHO = 0x1, 0x4, 0x8
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP = 0x300
NESTED = 0x8000

_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _ADD_MEMBERSHIP = 270, 10, 11, 1
_ERROR, _DONE = 2, 3
_ERROR_MESSAGE = 1  # NLMSGERR_ATTR_MSG
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 256 << 10
_PATIENCE = 10_000
"""Milliseconds until an answer counts as lost."""


class NetlinkError(OSError):
    """The kernel refused a request: `errno`, its own words where it has some, and which of the packet's requests it was."""

    def __init__(self, number: int, text: str, request: int = 0) -> None:
        super().__init__(number, text)
        self.request = request


class Request:
    """One message: its kind, flags besides REQUEST and ACK, and body."""

    __slots__ = ("body", "flags", "kind")

    def __init__(self, kind: int, flags: int, body: bytes) -> None:
        self.kind, self.flags, self.body = kind, flags, body


class Netlink:
    """One socket, in the network namespace that the thread has when it is made. For one thread at a time; a context manager."""

    __slots__ = ("_sequence", "_sock")

    def __init__(self, protocol: int = ROUTE, *, groups: Sequence[int] = ()) -> None:
        """`groups` are multicast groups to listen to."""
        self._sock: Any = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            for option in (_CAP_ACK, _EXT_ACK):
                self._sock.setsockopt(_SOL_NETLINK, option, 1)
            self._sock.bind((0, 0))
            for group in groups:
                self._sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except BaseException:
            self._sock.close()
            raise

    def perform(self, requests: Sequence[Request]) -> None:
        """Send requests in one packet and wait until all are done. A request that fails does not stop those after it.

        Raises:
            NetlinkError: of the first that failed.
        """
        if not requests:
            return
        first = self._sequence + 1
        last = self._send(requests)
        failure: NetlinkError | None = None
        done = False
        while not done:
            for kind, sequence, body in self.receive():
                if kind != _ERROR or not first <= sequence <= last:
                    continue
                done = done or sequence == last
                number = -struct.unpack_from("=i", body)[0]
                if number and failure is None:
                    failure = NetlinkError(number, _explained(number, body), sequence - first)
        if failure is not None:
            raise failure

    def _send(self, requests: Sequence[Request]) -> int:
        parts = []
        for number, request in enumerate(requests, 1):
            self._sequence += 1
            flags = request.flags | REQUEST | (ACK if number == len(requests) else 0)
            parts.append(message(request.kind, flags, self._sequence, request.body))
        self._sock.send(b"".join(parts))
        return self._sequence

    def transact(self, begin: Request, requests: Sequence[Request], end: Request) -> None:
        """As `perform`, for requests that are done all or none (nfnetlink's batches): `begin` and `end` frame them and are not answered.

        Raises:
            NetlinkError: nothing was changed; `request` counts within `requests`.
        """
        self._sequence += 1
        first = self._sequence + 1
        parts = [message(begin.kind, REQUEST | begin.flags, self._sequence, begin.body)]
        for number, request in enumerate(requests, 1):
            self._sequence += 1
            # The last is always answered, the others where they fail.
            flags = request.flags | REQUEST | (ACK if number == len(requests) else 0)
            parts.append(message(request.kind, flags, self._sequence, request.body))
        last = self._sequence
        self._sequence += 1
        parts.append(message(end.kind, REQUEST | end.flags, self._sequence, end.body))
        packet = b"".join(parts)
        self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, max(212992, 2 * len(packet)))
        self._sock.send(packet)
        self._await(first, last)

    def _await(self, first: int, last: int) -> None:
        """Read answers until the last request's came, or one failed."""
        while True:
            for kind, sequence, body in self.receive():
                # A refused batch is answered once for its frame as well.
                if kind != _ERROR or not first - 1 <= sequence <= last:
                    continue
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    raise NetlinkError(number, _explained(number, body), sequence - first)
                if sequence == last:
                    return

    def dump(self, request: Request) -> list[tuple[int, bytes]]:
        """Every object the kernel lists, as (kind, body)."""
        found: list[tuple[int, bytes]] = []  # read to its end: as long as one list is under way the kernel refuses the next (EBUSY)
        self._sequence += 1
        self._sock.send(message(request.kind, request.flags | REQUEST | DUMP, self._sequence, request.body))
        while True:
            for kind, sequence, body in self.receive():
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise NetlinkError(number, _explained(number, body))
                found.append((kind, body))

    def get(self, request: Request) -> tuple[int, bytes]:
        """The one object that the kernel answers with, as (kind, body)."""
        self._sequence += 1
        self._sock.send(message(request.kind, request.flags | REQUEST, self._sequence, request.body))
        while True:
            for kind, sequence, body in self.receive():
                if sequence != self._sequence:
                    continue
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise NetlinkError(number, _explained(number, body))
                return kind, body

    def receive(self) -> list[tuple[int, int, bytes]]:
        """The messages of the next packet, as (kind, sequence, body); waits for it.

        Raises:
            NetlinkError: ETIMEDOUT. The kernel answers before a request's send returns, so no answer is one that is lost (seen with
                batches of nf_tables under load): nobody may wait for it with a lock.
        """
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        if not poll.poll(_PATIENCE):
            raise NetlinkError(errno.ETIMEDOUT, "the kernel does not answer")
        return list(messages(self._sock.recv(_RECEIVE)))

    def heard(self) -> bytes:
        """The next packet of the groups that are listened to; waits for it. Raises OSError (ENOBUFS): some were dropped."""
        return bytes(self._sock.recv(_RECEIVE))

    @property
    def address(self) -> int:
        """The socket's number: who asked for a change, where the kernel tells of it."""
        return int(self._sock.getsockname()[0])

    def fileno(self) -> int:
        """The socket's descriptor, for poll."""
        return int(self._sock.fileno())

    def close(self) -> None:
        """Close it; repeating does nothing."""
        self._sock.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message with its header, padded."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def messages(packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The messages of a packet, as (kind, sequence, body); one that is cut ends it."""
    offset = 0
    while offset + _HEADER.size <= len(packet):
        length, kind, _, sequence, _ = _HEADER.unpack_from(packet, offset)
        if not _HEADER.size <= length <= len(packet) - offset:
            return
        yield kind, sequence, packet[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def told(packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """As `messages`, for what groups are told: (kind, number of the socket that asked for it, body)."""
    offset = 0
    for kind, _, body in messages(packet):
        yield kind, _HEADER.unpack_from(packet, offset)[4], body
        offset += (_HEADER.size + len(body) + 3) & ~3


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A string, with the NUL that ends it."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An unsigned 32-bit number in this machine's order."""
    return attribute(kind, struct.pack("=I", value))


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on by kind; of several of one kind the last."""
    return dict(attribute_list(body, offset))


def attribute_list(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from `offset` on, as (kind, data); one that is cut ends them."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if not _ATTRIBUTE.size <= length <= len(body) - offset:
            return
        yield kind & 0x3FFF, body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _explained(number: int, body: bytes) -> str:
    """The kernel's own words for a failure (NETLINK_EXT_ACK), else errno's."""
    # With NETLINK_CAP_ACK an error carries the request's header only, then its attributes.
    said = attributes(body, 4 + _HEADER.size).get(_ERROR_MESSAGE, b"")
    return said.rstrip(b"\0").decode(errors="replace") or os.strerror(number)
