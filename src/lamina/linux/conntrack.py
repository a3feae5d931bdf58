"""Connection tracking (linux/netfilter/nfnetlink_conntrack.h): flows that the kernel goes on translating although their rule is gone.

A flow of datagrams lasts for as long as somebody sends, and is translated as at its beginning. Only builtin modules.
"""

from __future__ import annotations

import struct

from lamina.linux import netlink
from lamina.linux.netlink import NetlinkError, Request, attribute, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.linux.netlink import Netlink

UDP = 17
_SUBSYSTEM, _GET, _DELETE = 1 << 8, 1, 2
_GENERIC = struct.Struct("!BBH")
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_IP, _PROTOCOL = 1, 2
_NUMBER, _DESTINATION_PORT = 1, 3
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)  # of IPv4, of IPv6
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # nf_internals.h: CTA_FILTER_F_CTA_PROTO_NUM, CTA_FILTER_F_CTA_PROTO_DST_PORT


def forget(connection: Netlink, family: int, protocol: int, port: int) -> int:
    """Forget the flows to a port that are translated to another destination; how many. Their next packet is judged anew.

    Raises:
        NetlinkError: this kernel tells nobody of its flows.
    """
    gone = 0
    for flow in [flow for flow in _flows(connection, family, protocol, port) if _is_translated(flow, protocol, port)]:
        try:
            connection.perform([_request(_DELETE, family, nested(_ORIGINAL, flow[_ORIGINAL]))])
            gone += 1
        except NetlinkError:
            continue  # it has ended by itself
    return gone


def _flows(connection: Netlink, family: int, protocol: int, port: int) -> list[dict[int, bytes]]:
    """Those to the port; kernels before 5.8 give all of the family."""
    wanted = nested(_PROTOCOL, attribute(_NUMBER, bytes((protocol,))), attribute(_DESTINATION_PORT, port.to_bytes(2, "big")))
    chosen = nested(_FILTER, netlink.number(1, _BY_PROTOCOL_AND_PORT))
    asked = _request(_GET, family, nested(_ORIGINAL, wanted), chosen)
    return [netlink.attributes(body, _GENERIC.size) for _, body in connection.dump(asked)]


def _is_translated(flow: dict[int, bytes], protocol: int, port: int) -> bool:
    if _ORIGINAL not in flow or _REPLY not in flow:
        return False
    original, reply = netlink.attributes(flow[_ORIGINAL]), netlink.attributes(flow[_REPLY])
    to = netlink.attributes(original.get(_PROTOCOL, b""))
    if (to.get(_NUMBER), to.get(_DESTINATION_PORT)) != (bytes((protocol,)), port.to_bytes(2, "big")):
        return False
    asked, answering = netlink.attributes(original.get(_IP, b"")), netlink.attributes(reply.get(_IP, b""))
    return [asked.get(kind) for kind in _DESTINATIONS] != [answering.get(kind) for kind in _SOURCES]


def _request(kind: int, family: int, *parts: bytes) -> Request:
    return Request(_SUBSYSTEM | kind, 0, _GENERIC.pack(family, 0, 0) + b"".join(parts))
