"""Network interfaces, their addresses and routes, as requests to rtnetlink (rtnetlink(7), linux/if_link.h).

Functions that make a `Request` do nothing yet: several go to the kernel in one packet (`Netlink.perform`).
Addresses are packed (`inet_pton`): 4 bytes are IPv4, 16 are IPv6.
"""

from __future__ import annotations

import _socket
import struct

from lamina.linux import netlink
from lamina.linux.netlink import Request, attribute, nested, number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamina.linux.netlink import Netlink

NAME_LENGTH = 15
"""The longest name of an interface, in bytes."""

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _GETROUTE = 24, 26
_ADDRESS, _NAME, _MTU, _MASTER, _LINKINFO, _NET_NS_PID, _ALIAS = 1, 3, 4, 10, 18, 19, 20
_PROTINFO, _GSO_IPV4_MAX_SIZE = 12, 63
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_BRIDGE_CALL_IPTABLES, _BRIDGE_CALL_IP6TABLES = 36, 37
_PORT_HAIRPIN = 4
_UP = 1
_LINK = struct.Struct("=BxHiII")
_ADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=8BI")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_BOOT, _UNIVERSE, _LINK_SCOPE, _UNICAST = 254, 3, 0, 253, 1


def is_name(text: str) -> bool:
    """Whether an interface can be called so (dev_valid_name in net/core/dev.c); for a % the kernel puts a number, or refuses."""
    return text not in ("", ".", "..") and len(text.encode()) <= NAME_LENGTH and not any(each in "/:%\0" or each.isspace() for each in text)


class Link:
    """An interface as the kernel lists it. `master` is the index of the bridge it is a port of, 0 for none; `segments` how many bytes of IPv4
    TCP may go through it as one packet, 0 where the kernel does not say."""

    __slots__ = ("alias", "flags", "index", "kind", "mac", "master", "mtu", "name", "segments")

    def __init__(self, index: int, flags: int, found: dict[int, bytes]) -> None:
        self.index, self.flags = index, flags
        self.name, self.alias = _string(found.get(_NAME, b"")), _string(found.get(_ALIAS, b""))
        self.kind = _string(netlink.attributes(found.get(_LINKINFO, b"")).get(_INFO_KIND, b""))
        self.master = int.from_bytes(found.get(_MASTER, b""), "little")
        self.mtu = int.from_bytes(found.get(_MTU, b""), "little")
        self.mac = found.get(_ADDRESS, b"")
        self.segments = int.from_bytes(found.get(_GSO_IPV4_MAX_SIZE, b""), "little")

    @property
    def up(self) -> bool:
        """Whether it is switched on."""
        return bool(self.flags & _UP)


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def new_bridge(name: str, *, mac: bytes = b"", mtu: int = 0, filtered: bool = False) -> Request:
    """Make a bridge. `filtered` passes what goes from port to port to netfilter, where the kernel has br_netfilter."""
    data = [attribute(_BRIDGE_CALL_IPTABLES, b"\1"), attribute(_BRIDGE_CALL_IP6TABLES, b"\1")] if filtered else []
    parts = [text(_NAME, name), nested(_LINKINFO, attribute(_INFO_KIND, b"bridge"), *([nested(_INFO_DATA, *data)] if data else []))]
    parts += [attribute(_ADDRESS, mac)] if mac else []
    parts += [number(_MTU, mtu)] if mtu else []
    return Request(_NEWLINK, netlink.CREATE | netlink.EXCL, _LINK.pack(0, 0, 0, 0, 0) + b"".join(parts))


def new_pair(name: str, bridge: int, peer: str, namespace: int, *, mac: bytes, mtu: int, segments: int = 0) -> Request:
    """Make a veth pair: `name` here, up and a port of the bridge with that index; `peer`, down, in the namespace of that process.

    `segments`: how many bytes of IPv4 TCP may go through it as one packet (gso_ipv4_max_size; 0: 64 KiB, the kernel's own). Kernels before
    6.3 know no other and pass over it.

    In one request, so that nothing remains of it half done; both go when the process's namespace does.
    """
    both = number(_MTU, mtu) + (number(_GSO_IPV4_MAX_SIZE, segments) if segments else b"")
    # The peer cannot be made up: its other end does not exist at that moment.
    other = _LINK.pack(0, 0, 0, 0, 0) + text(_NAME, peer) + number(_NET_NS_PID, namespace) + attribute(_ADDRESS, mac) + both
    info = nested(_LINKINFO, attribute(_INFO_KIND, b"veth"), nested(_INFO_DATA, attribute(_VETH_PEER, other)))
    body = _LINK.pack(0, 0, 0, _UP, _UP) + text(_NAME, name) + both + number(_MASTER, bridge) + info
    return Request(_NEWLINK, netlink.CREATE | netlink.EXCL, body)


def hairpin(index: int) -> Request:
    """Let a port of a bridge get back what came from it: how a container reaches its own published ports."""
    return Request(_SETLINK, 0, _LINK.pack(_socket.AF_BRIDGE, 0, index, 0, 0) + nested(_PROTINFO, attribute(_PORT_HAIRPIN, b"\1")))


def set_up(index: int) -> Request:
    """Switch an interface on."""
    return Request(_SETLINK, 0, _LINK.pack(0, 0, index, _UP, _UP))


def set_alias(index: int, alias: str) -> Request:
    """Give an interface a remark, which `ip link` shows."""
    return Request(_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attribute(_ALIAS, alias.encode()))


def delete_link(name: str) -> Request:
    """Remove an interface, and the other end of a pair."""
    return Request(_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_NAME, name))


def add_address(index: int, address: bytes, prefix: int) -> Request:
    """Give an interface an address; an IPv6 one is usable at once, it is not asked for on the link first."""
    if len(address) == 16:
        body = _ADDR.pack(_socket.AF_INET6, prefix, _NODAD, 0, index) + attribute(_IFA_ADDRESS, address) + attribute(_IFA_LOCAL, address)
        return Request(_NEWADDR, netlink.CREATE | netlink.REPLACE, body)
    host = (1 << (32 - prefix)) - 1
    broadcast = struct.pack("!I", int.from_bytes(address, "big") | host)
    body = _ADDR.pack(_socket.AF_INET, prefix, 0, 0, index) + attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)
    return Request(_NEWADDR, netlink.CREATE | netlink.REPLACE, body + (attribute(_IFA_BROADCAST, broadcast) if prefix < 31 else b""))


def add_route(index: int, gateway: bytes, destination: bytes = b"", prefix: int = 0) -> Request:
    """A route by `gateway` (or, where that is empty, directly on the link); without a destination it is the default route.

    `index` 0 leaves the interface to the kernel, which finds it by the gateway.
    """
    family = _socket.AF_INET6 if 16 in (len(gateway), len(destination)) else _socket.AF_INET
    return Request(_NEWROUTE, netlink.CREATE | netlink.REPLACE, _route(family, index, gateway, destination, prefix))


def _route(family: int, index: int, gateway: bytes, destination: bytes, prefix: int) -> bytes:
    scope = _UNIVERSE if gateway else _LINK_SCOPE
    head = _ROUTE.pack(family, prefix, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, scope, _UNICAST, 0)
    body = head + (attribute(_RTA_DST, destination) if destination else b"") + (attribute(_RTA_GATEWAY, gateway) if gateway else b"")
    return body + (number(_RTA_OIF, index) if index else b"")


def index_of(name: str) -> int:
    """The index of an interface in this thread's namespace; 0 where there is none."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return 0


def links(connection: Netlink) -> Iterator[Link]:
    """Every interface."""
    for kind, body in connection.dump(Request(_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0))):
        if kind == _NEWLINK:
            _, _, index, flags, _ = _LINK.unpack_from(body)
            yield Link(index, flags, netlink.attributes(body, _LINK.size))


def addresses(connection: Netlink) -> Iterator[tuple[int, bytes, int]]:
    """Every address: (index of its interface, address, prefix length)."""
    for kind, body in connection.dump(Request(_GETADDR, 0, _ADDR.pack(0, 0, 0, 0, 0))):
        if kind == _NEWADDR:
            _, prefix, _, _, index = _ADDR.unpack_from(body)
            found = netlink.attributes(body, _ADDR.size)
            yield index, found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b""), prefix


def routes(connection: Netlink) -> Iterator[tuple[bytes, int]]:
    """Destinations of every route of the main table but default ones: (address, prefix length)."""
    for kind, body in connection.dump(Request(_GETROUTE, 0, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))):
        if kind == _NEWROUTE:
            _, prefix, _, _, table, _, _, _, _ = _ROUTE.unpack_from(body)
            destination = netlink.attributes(body, _ROUTE.size).get(_RTA_DST)
            if table == _TABLE_MAIN and destination:
                yield destination, prefix
