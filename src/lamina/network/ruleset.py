"""The packet filter of one engine as data: a table of its own, made whole from what networks and ports there are. Pure.

    raw       first of all: nothing from a container may pass for the host's own loopback
    dnat      packets for a published port get the container as their destination (`dnat-local` for those the host itself sends)
    forward   decides what may pass to and from containers, and on nothing else
    snat      what leaves a network comes from the host's address

Ports are elements of four maps, so that publishing one changes no rule.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from lamina.linux import nftables as nft
from lamina.linux.netlink import Request
from lamina.network.model import Network, Published, Subnet

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_DESTINATION = {4: (16, 4), 6: (24, 16)}  # offset and length in the IP header
_SOURCE = {4: (12, 4), 6: (8, 16)}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
"""The kernel's number of a version of IP."""
_ADDRESS = {4: nft.ADDRESS4, 6: nft.ADDRESS6}
_ANY = {"0.0.0.0", "::"}
_LOOPBACK, _LOOPBACK_MASK = b"\x7f\0\0\0", b"\xff\0\0\0"
_LOOPBACK6 = bytes(15) + b"\1"


@dataclass(frozen=True, slots=True)
class Rules:
    """One network as the filter sees it. `talk`: its containers may reach each other; `masqueraded` subnets leave under the host's
    address, or under that of `sources` where there is one for their version; `open` versions of IP are reached from outside by any port,
    `routed` ones by published ports under the container's own address."""

    bridge: str
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    talk: bool = True
    masqueraded: tuple[Subnet, ...] = ()
    sources: tuple[str, ...] = ()
    open: frozenset[int] = frozenset()
    routed: frozenset[int] = frozenset()


def rules_of(network: Network) -> Rules:
    """What the packet filter has to know of a network."""
    subnets = tuple(ip_network(pool.subnet) for pool in network.pools)
    modes = {version: network.gateway_mode(version) for version in (4, 6)}
    leaving = network.switch("bridge.enable_ip_masquerade", default=True) and not network.internal
    sources = (network.option("host_ipv4"), network.option("host_ipv6"))
    return Rules(
        bridge=network.bridge,
        subnets=subnets,
        internal=network.internal,
        talk=network.switch("bridge.enable_icc", default=True),
        masqueraded=tuple(subnet for subnet in subnets if leaving and modes[subnet.version].startswith("nat")),
        sources=tuple(source for source in sources if source),
        open=frozenset(version for version, mode in modes.items() if mode == "nat-unprotected"),
    )


def table(name: str, networks: Sequence[Rules], published: Iterable[Published], *, loopback: bool) -> list[Request]:
    """Everything, for one transaction: what the table held before is gone, and connections that are known go on.

    `loopback`: ports are reached by 127.0.0.1 through the kernel (the bridges have route_localnet set), not through a forwarder.
    """
    requests = [nft.new_table(name), nft.delete_table(name), nft.new_table(name)]
    requests += _sets(name, networks)
    requests += [nft.new_base_chain(name, chain, *place) for chain, place in _CHAINS.items()]
    requests += [nft.new_rule(name, "raw", expressions, words) for words, expressions in _raw()]
    requests += [nft.new_rule(name, "dnat", expressions, words) for words, expressions in _translations(outside=True, loopback=loopback)]
    local = _translations(outside=False, loopback=loopback)
    requests += [nft.new_rule(name, "dnat-local", expressions, words) for words, expressions in local]
    requests += [nft.new_rule(name, "forward", expressions, words) for words, expressions in _forward()]
    requests += [nft.new_rule(name, "snat", expressions, words) for words, expressions in _sources(networks)]
    return [*requests, *publish(name, published)]


_CHAINS: dict[str, tuple[str, int, int]] = {
    "raw": ("filter", nft.PREROUTING, -300),
    "dnat": ("nat", nft.PREROUTING, -100),
    "dnat-local": ("nat", nft.OUTPUT, -100),
    "forward": ("filter", nft.FORWARD, 0),
    "snat": ("nat", nft.POSTROUTING, 100),
}


def _sets(name: str, networks: Sequence[Rules]) -> Iterator[Request]:
    pair = (nft.INTERFACE, nft.INTERFACE)
    names = [nft.interface(network.bridge) for network in networks]
    yield from _set(name, "bridges", (nft.INTERFACE,), names)
    yield from _set(name, "internal", (nft.INTERFACE,), (nft.interface(network.bridge) for network in networks if network.internal))
    yield from _set(name, "talking", pair, (nft.joined(nft.interface(n.bridge), nft.interface(n.bridge)) for n in networks if n.talk))
    for version in (4, 6):
        members = (nft.interface(network.bridge) for network in networks if version in network.open)
        yield from _set(name, f"open{version}", (nft.INTERFACE,), members)
        address = _ADDRESS[version]
        yield nft.new_set(name, f"any{version}", (nft.PROTOCOL, nft.PORT), (address, nft.PORT))
        yield nft.new_set(name, f"host{version}", (nft.PROTOCOL, address, nft.PORT), (address, nft.PORT))
        yield nft.new_set(name, f"routed{version}", (nft.PROTOCOL, address, nft.PORT))


def _set(table_name: str, name: str, key: Sequence[tuple[int, int]], members: Iterable[bytes]) -> Iterator[Request]:
    yield nft.new_set(table_name, name, key)
    elements = [(member, b"") for member in members]
    if elements:
        yield nft.add_elements(table_name, name, elements)


Rule = tuple[str, list[bytes]]
"""A remark that nft(8) shows, and what the rule does."""


def _version(version: int) -> list[bytes]:
    return [nft.load_meta(nft.NETWORK_PROTOCOL), nft.equal(bytes((FAMILY[version],)))]


def _in(name: str, *, invert: bool = False) -> list[bytes]:
    return [nft.load_meta(nft.IN_NAME), nft.within(name, invert=invert)]


def _out(name: str, *, invert: bool = False) -> list[bytes]:
    return [nft.load_meta(nft.OUT_NAME), nft.within(name, invert=invert)]


def _to_loopback(compare: bytes) -> list[bytes]:
    return [*_version(4), nft.load_network(*_DESTINATION[4]), nft.masked(_LOOPBACK_MASK), compare]


def _raw() -> Iterator[Rule]:
    # Every packet comes by here: where it goes to is seen sooner than where it comes from.
    yield "the host's loopback is not for containers", [*_to_loopback(nft.equal(_LOOPBACK)), *_in("bridges"), nft.verdict(nft.DROP)]


def _translations(*, outside: bool, loopback: bool) -> Iterator[Rule]:
    if outside or not loopback:
        words = "nobody outside speaks to 127.0.0.1" if outside else "127.0.0.1 has a forwarder"
        yield words, [*_to_loopback(nft.equal(_LOOPBACK)), nft.verdict(nft.RETURN)]
    if not outside:  # the kernel leads nothing from ::1 to a bridge
        yield "::1 has a forwarder", [*_version(6), nft.load_network(*_DESTINATION[6]), nft.equal(_LOOPBACK6), nft.verdict(nft.RETURN)]
    for version in (4, 6):
        address = _DESTINATION[version]
        registers = 1 + address[1] // 4
        known = [nft.load_meta(nft.TRANSPORT_PROTOCOL), nft.load_network(*address, register=nft.KEY + 1)]
        known += [nft.load_transport(2, 2, register=nft.KEY + registers), nft.mapped(f"host{version}")]
        target = nft.translate_destination(FAMILY[version], nft.DATA, nft.DATA + address[1] // 4)
        yield "ports of one address", [*_version(version), *known, target]
        local = [nft.load_address_type(), nft.equal(nft.LOCAL)]
        known = [nft.load_meta(nft.TRANSPORT_PROTOCOL), nft.load_transport(2, 2, register=nft.KEY + 1), nft.mapped(f"any{version}")]
        yield "ports of every address", [*_version(version), *local, *known, target]


def _tracked(key: int, bits: int) -> list[bytes]:
    """Whether one of the bits is set."""
    mask = bits.to_bytes(4, "little")
    return [nft.load_tracking(key), nft.masked(mask), nft.unequal(bytes(4))]


def _forward() -> Iterator[Rule]:
    accept, drop = nft.verdict(nft.ACCEPT), nft.verdict(nft.DROP)
    # What passed once goes on, both ways, before anything else is looked at. Not where a network is internal: who is on it may once have
    # been on another, and send under the address it had there.
    known = [*_tracked(nft.STATE, nft.ESTABLISHED_RELATED), *_in("internal", invert=True), *_out("internal", invert=True)]
    yield "of connections to containers", [*known, *_out("bridges"), accept]
    yield "of connections from containers", [*known, *_in("bridges"), accept]
    both = [nft.load_meta(nft.IN_NAME), nft.load_meta(nft.OUT_NAME, nft.KEY + 4)]
    yield "within a network", [*both, nft.within("talking"), accept]
    yield "nothing else into or out of an internal network", [*_out("internal"), drop]
    yield "", [*_in("internal"), drop]
    yield "published ports", [*_out("bridges"), *_tracked(nft.STATUS, nft.DESTINATION_CHANGED), accept]
    for version in (4, 6):
        yield "networks that are open", [*_version(version), *_out(f"open{version}"), accept]
        address = _DESTINATION[version]
        known = [nft.load_meta(nft.TRANSPORT_PROTOCOL), nft.load_network(*address, register=nft.KEY + 1)]
        known += [nft.load_transport(2, 2, register=nft.KEY + 1 + address[1] // 4), nft.within(f"routed{version}")]
        yield "published ports of networks without translation", [*_version(version), *known, accept]
    yield "nothing else from outside or from another network", [*_out("bridges"), drop]
    yield "from containers to the outside", [*_in("bridges"), accept]


def _sources(networks: Sequence[Rules]) -> Iterator[Rule]:
    yield (
        "from 127.0.0.1 to a container",
        [*_version(4), nft.load_network(*_SOURCE[4]), nft.masked(_LOOPBACK_MASK), nft.equal(_LOOPBACK), *_out("bridges"), nft.masquerade()],
    )
    for network in networks:
        for subnet in network.subnets:
            here = _subnet(_DESTINATION, subnet)
            known = _tracked(nft.STATUS, nft.DESTINATION_CHANGED)
            yield f"{network.bridge}: to its own published ports", [*_subnet(_SOURCE, subnet), *here, *known, nft.masquerade()]
        for subnet in network.masqueraded:
            leaving = [nft.load_meta(nft.OUT_NAME), nft.unequal(nft.interface(network.bridge))]
            yield f"{network.bridge}: to the outside", [*_subnet(_SOURCE, subnet), *leaving, *_new_source(network, subnet)]


def _subnet(fields: dict[int, tuple[int, int]], subnet: Subnet) -> list[bytes]:
    """Whether an address of the IP header is in a subnet."""
    return [
        *_version(subnet.version),
        nft.load_network(*fields[subnet.version]),
        nft.masked(subnet.netmask.packed),
        nft.equal(subnet.network_address.packed),
    ]


def _new_source(network: Rules, subnet: Subnet) -> list[bytes]:
    for source in network.sources:
        address = ip_address(source)
        if address.version == subnet.version:
            return [nft.load(address.packed), nft.translate_source(FAMILY[address.version])]
    return [nft.masquerade()]


# --- ports


def publish(name: str, published: Iterable[Published]) -> list[Request]:
    """Put ports into the maps."""
    return [nft.add_elements(name, map_name, elements) for map_name, elements in sorted(_elements(published).items())]


def withdraw(name: str, published: Iterable[Published]) -> list[Request]:
    """Take them out."""
    elements = _elements(published)
    return [nft.delete_elements(name, map_name, (key for key, _ in pairs)) for map_name, pairs in sorted(elements.items())]


def _elements(published: Iterable[Published]) -> dict[str, list[tuple[bytes, bytes]]]:
    """Keys and values by map. A port whose target speaks the other version of IP is in none: it is forwarded, not translated; nor is one
    that leads nowhere, of a container that was taken off its networks."""
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for port in published:
        if not port.address:
            continue
        host, target = ip_address(port.host_address), ip_address(port.address)
        if host.version != target.version:
            continue
        protocol, number = bytes((_PROTOCOLS[port.protocol],)), port.host_port.to_bytes(2, "big")
        value = nft.joined(target.packed, port.port.to_bytes(2, "big"))
        if port.host_address in _ANY:
            found.setdefault(f"any{host.version}", []).append((nft.joined(protocol, number), value))
        else:
            found.setdefault(f"host{host.version}", []).append((nft.joined(protocol, host.packed, number), value))
    return found
