"""Ports of the host that containers have. A socket holds each, so that no other program takes it meanwhile."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lamina.network.bindings import Wanted
from lamina.network.interfaces import read_switch
from lamina.network.model import PortTaken, Published

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_SCTP = 132
_BACKLOG = 128
_EPHEMERAL = (32768, 60999)


@dataclass(frozen=True, slots=True)
class Held:
    """A port that was taken; `socket` is bound to it (TCP: listens), None where this kernel does not know the protocol."""

    published: Published
    socket: socket.socket | None

    def close(self) -> None:
        """Let go of the socket."""
        if self.socket is not None:
            self.socket.close()


class HostPorts:
    """Which ports containers have. Thread-safe. The sockets are the caller's; what is noted here is who has what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[tuple[str, str, int]] = set()
        self._next = 0

    def take(self, wanted: Sequence[Wanted], address4: str, address6: str) -> list[Held]:
        """Take ports that lead to a container with these addresses ("": it has none of that version).

        Raises:
            PortTaken: in Docker's words; nothing was taken.
        """
        held: list[Held] = []
        try:
            for port in wanted:
                held += self._take(port, address4, address6)
            return held
        except BaseException:
            for one in held:
                one.close()
            self.give_back(one.published for one in held)
            raise

    def note(self, published: Iterable[Published]) -> None:
        """Ports that a container found running has."""
        with self._lock:
            self._taken.update(_key(port) for port in published)

    def give_back(self, published: Iterable[Published]) -> None:
        """Let others have them; repeating does nothing."""
        with self._lock:
            self._taken.difference_update(_key(port) for port in published)

    def _take(self, wanted: Wanted, address4: str, address6: str) -> list[Held]:
        targets = list(_targets(wanted, address4, address6))
        failure: PortTaken | None = None
        for number in self._candidates(wanted):
            try:
                return self._bind([Published(wanted.protocol, host, number, inside, wanted.port) for host, inside in targets])
            except PortTaken as error:
                failure = error
        raise failure or PortTaken("all ports are allocated")

    def _candidates(self, wanted: Wanted) -> Iterator[int]:
        if wanted.low:
            yield from range(wanted.low, wanted.high + 1)
            return
        low, high = ephemeral_range()
        for _ in range(low, high + 1):
            with self._lock:
                number = low + self._next % (high - low + 1)
                self._next += 1
            yield number

    def _bind(self, ports: Sequence[Published]) -> list[Held]:
        held: list[Held] = []
        try:
            for port in ports:
                self._reserve(port)
                held.append(Held(port, None))
                held[-1] = Held(port, _socket(port))
            return held
        except BaseException:
            for one in held:
                one.close()
            self.give_back(one.published for one in held)
            raise

    def _reserve(self, port: Published) -> None:
        every = {"0.0.0.0", "::"}
        with self._lock:
            for protocol, address, number in self._taken:
                clash = address == port.host_address or (
                    every & {address, port.host_address} and (":" in address) == (":" in port.host_address)
                )
                if (protocol, number) == (port.protocol, port.host_port) and clash:
                    raise PortTaken(f"Bind for {_shown(port)} failed: port is already allocated")
            self._taken.add(_key(port))


def hold(port: Published) -> Held:
    """A socket on a port that is the caller's already. Raises PortTaken."""
    return Held(port, _socket(port))


def ephemeral_range() -> tuple[int, int]:
    """The ports that the kernel gives where none is asked for."""
    words = read_switch("ipv4/ip_local_port_range").split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else _EPHEMERAL


def _key(port: Published) -> tuple[str, str, int]:
    return port.protocol, port.host_address, port.host_port


def _shown(port: Published) -> str:
    address = f"[{port.host_address}]" if ":" in port.host_address else port.host_address
    return f"{address}:{port.host_port}"


def _targets(wanted: Wanted, address4: str, address6: str) -> Iterator[tuple[str, str]]:
    """Addresses of the host, each with the container's that it leads to."""
    hosts = [wanted.host_address] if wanted.host_address else ["0.0.0.0", "::"]
    for host in hosts:
        if ":" not in host:
            if address4:
                yield host, address4
        elif has_ipv6() and (address6 or address4):
            yield host, address6 or address4


def has_ipv6() -> bool:
    """Whether this host speaks IPv6."""
    return read_switch("ipv6/conf/all/disable_ipv6") == "0"


def _socket(port: Published) -> socket.socket | None:
    """A socket on the port.

    Raises:
        PortTaken: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in port.host_address else socket.AF_INET
    try:
        sock = socket.socket(family, _TYPES[port.protocol] | socket.SOCK_CLOEXEC, _SCTP if port.protocol == "sctp" else 0)
    except OSError:
        return None
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if port.protocol != "udp":
            # Connections that ended a moment ago are no reason to refuse.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((port.host_address, port.host_port))
        if port.protocol != "udp":
            sock.listen(_BACKLOG)
        return sock
    except OSError as error:
        sock.close()
        words = {errno.EADDRINUSE: "address already in use", errno.EADDRNOTAVAIL: "cannot assign requested address"}
        text = words.get(error.errno or 0, str(error.strerror or error).lower())
        target = f"[{port.address}]" if ":" in port.address else port.address
        raise PortTaken(f"failed to bind host port for {_shown(port)}:{target}:{port.inside}: {text}") from None
