"""Which ports a container wants of the host, from the API's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.errors import InvalidArgument
from lamina.network.pools import parse_address
from lamina.spec.numeral import natural

PROTOCOLS = ("tcp", "udp", "sctp")
_LAST_PORT = 65535


class InvalidPort(InvalidArgument):
    """A port, or what it is bound to, is malformed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One port of a container that the host shall lead to. `host_address` is "" for every address; one of the host's ports from `low` to
    `high` is taken, any where both are 0."""

    protocol: str
    port: int
    host_address: str = ""
    low: int = 0
    high: int = 0


def parse_port(text: str) -> tuple[int, str]:
    """`80/tcp` or `80` as (80, "tcp").

    Raises:
        InvalidPort: in Docker's words.
    """
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidPort(f"invalid port specification: {text!r}: unknown protocol {protocol!r}")
    if not (port := natural(number, _LAST_PORT)):
        raise InvalidPort(f"invalid port specification: {text[:100]!r}")
    return port, protocol


def exposed_ports(documents: Iterable[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Every port that the keys of the documents name (`80/tcp`, `8000-8010/udp`), in order, each once."""
    found: dict[tuple[int, str], None] = {}
    for document in documents:
        for text in document:
            number, _, protocol = text.partition("/")
            low, dash, high = number.partition("-")
            first, kind = parse_port(f"{low}/{protocol}" if protocol else low)
            last = parse_port(f"{high}/{kind}")[0] if dash else first
            if last < first:
                raise InvalidPort(f"invalid port specification: {text!r}")
            found.update(dict.fromkeys((port, kind) for port in range(first, last + 1)))
    return sorted(found)


def wanted_ports(
    bindings: Mapping[str, Any], exposed: Sequence[tuple[int, str]] = (), *, publish_all: bool = False, default_address: str = ""
) -> list[Wanted]:
    """What HostConfig.PortBindings asks for; with `publish_all` a port of the host's for each exposed one that has none.

    Raises:
        InvalidPort: names what is malformed.
    """
    found: list[Wanted] = []
    bound: set[tuple[int, str]] = set()
    for text, entries in bindings.items():
        port, protocol = parse_port(text)
        if entries is not None and not isinstance(entries, list):
            raise InvalidPort(f"invalid port bindings of {text}: they must be a list")
        for entry in entries or ():
            bound.add((port, protocol))
            found.append(_wanted(port, protocol, entry or {}, default_address))
    if publish_all:
        found += [Wanted(protocol, port, default_address) for port, protocol in exposed if (port, protocol) not in bound]
    # Those that ask for one port come first, or an ephemeral one might take it.
    return sorted(found, key=lambda port: (port.low == 0, port.low != port.high, port.port, port.protocol))


def _wanted(port: int, protocol: str, entry: Mapping[str, Any], default_address: str) -> Wanted:
    address, text = str(entry.get("HostIp") or "").strip("[]"), str(entry.get("HostPort") or "")
    if address and parse_address(address) is None:
        raise InvalidPort(f"invalid IP address: {address}")
    low, dash, high = text.partition("-")
    asked = [natural(word, _LAST_PORT) for word in ([low, high] if dash else [low]) if word]
    numbers = [number for number in asked if number is not None]
    if len(numbers) < len(asked) or (dash and (len(numbers) != 2 or numbers[0] > numbers[1])):
        raise InvalidPort(f"invalid port specification: {text[:100]!r}")
    first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    return Wanted(protocol, port, address or default_address, first, last)
