"""Connects a process's network namespace: a pair of interfaces for each network, addresses, routes.

Values are plain data, since they cross to launchers as JSON. One interface is

    {"name": inside, "host": its other end, "bridge": index, "mac": "02:42:…", "mtu": bytes, "hairpin": bool, "ipv6": bool,
     "segments": bytes of IPv4 TCP that may be one packet (0: the kernel's own), "addresses": [[text, prefix length], …],
     "sysctls": [[path below /proc/sys, value], …]}

Only builtin modules are imported.
"""

from __future__ import annotations

import _socket
import errno
import os

from lamina.errors import Unavailable
from lamina.linux import channel, links, namespace
from lamina.linux import nftables as nft
from lamina.linux.netlink import NETFILTER, Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Interface = Mapping[str, Any]

_RESOLVER = "127.0.0.11"
_TABLE = "lamina-names"


def connect(pid: int, interfaces: Sequence[Interface], gateways: Sequence[str], resolver: Mapping[str, Any] | None = None) -> None:
    """Connect the network namespace of a process that this thread may enter. With a `resolver` ({"directory", "socket", "container"}) names
    are served in it: the sockets are handed to whoever listens there.

    Only for a thread that nothing else depends on: it comes back to its own namespace, or dies with an error.

    Raises:
        OSError: what was made goes with the namespace.
    """
    with Netlink() as host:
        host.perform([_pair(interface, pid) for interface in interfaces])
        looping = [links.index_of(interface["host"]) for interface in interfaces if interface["hairpin"]]
        host.perform([links.hairpin(index) for index in looping])
    sockets: list[int] = []

    def inside() -> None:
        _configure(interfaces, gateways)
        if resolver:
            sockets.extend(_name_sockets())

    within(pid, inside)
    if resolver:
        try:
            switchboard = channel.connect(resolver["directory"], resolver["socket"])
            switchboard.send({"op": "serve", "container": resolver["container"]}, sockets)
            switchboard.recv(10)
            switchboard.close()
        except Unavailable as error:
            raise OSError(errno.EPIPE, f"the switchboard does not answer: {error.message}") from None
        finally:
            channel.close_all(sockets)


def _name_sockets() -> list[int]:
    """Sockets for UDP and TCP at the address of names, and rules that lead port 53 to them: the port itself stays the container's."""
    with Netlink() as connection:
        # The container's init brings it up too, at its own pace; without it there is no such address.
        connection.perform([links.set_up(links.index_of("lo"))])
    found = []
    ports = []
    for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM):
        sock = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC)
        sock.bind((_RESOLVER, 0))
        if kind == _socket.SOCK_STREAM:
            sock.listen(16)
        ports.append(sock.getsockname()[1])
        found.append(sock.detach())
    rules = [nft.new_table(_TABLE), nft.delete_table(_TABLE), nft.new_table(_TABLE)]
    rules.append(nft.new_base_chain(_TABLE, "output", "nat", nft.OUTPUT, -100))
    address = packed(_RESOLVER)
    for protocol, port in ((17, ports[0]), (6, ports[1])):
        expressions = [
            nft.load_meta(nft.NETWORK_PROTOCOL),
            nft.equal(bytes((_socket.AF_INET,))),
            nft.load_network(16, 4),
            nft.equal(address),
        ]
        expressions += [nft.load_meta(nft.TRANSPORT_PROTOCOL), nft.equal(bytes((protocol,)))]
        expressions += [nft.load_transport(2, 2), nft.equal((53).to_bytes(2, "big"))]
        expressions += [nft.load(address), nft.load(port.to_bytes(2, "big"), nft.DATA + 1), nft.translate_destination(_socket.AF_INET)]
        rules.append(nft.new_rule(_TABLE, "output", expressions, "names"))
    with Netlink(NETFILTER) as connection:
        nft.commit(connection, rules)
    return found


def within(pid: int, action: Callable[[], None]) -> None:
    """Do something in the network namespace of a process. See `connect` about the thread."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespace.setns(target, namespace.CLONE_NEWNET)
        finally:
            os.close(target)
        try:
            action()
        finally:
            namespace.setns(home, namespace.CLONE_NEWNET)
    finally:
        os.close(home)


def _pair(interface: Interface, pid: int) -> Any:
    mac = bytes.fromhex(interface["mac"].replace(":", ""))
    sizes = {"mtu": interface["mtu"], "segments": interface["segments"]}
    return links.new_pair(interface["host"], interface["bridge"], interface["name"], pid, mac=mac, **sizes)


def _configure(interfaces: Sequence[Interface], gateways: Sequence[str]) -> None:
    requests = []
    for interface in interfaces:
        index = links.index_of(interface["name"])
        if not interface["ipv6"]:
            # No link-local address, no solicitations: as if the kernel had no IPv6 here.
            _switch(f"net/ipv6/conf/{interface['name']}/disable_ipv6", "1")
        for path, value in interface["sysctls"]:
            with open(f"/proc/sys/{path}", "wb", buffering=0) as file:
                file.write(value.encode())
        requests += [links.add_address(index, packed(address), prefix) for address, prefix in interface["addresses"]]
        requests.append(links.set_up(index))
    with Netlink() as connection:
        connection.perform(requests)
        connection.perform([links.add_route(0, packed(gateway)) for gateway in gateways])


def _switch(path: str, value: str) -> None:
    try:
        with open(f"/proc/sys/{path}", "wb", buffering=0) as file:
            file.write(value.encode())
    except FileNotFoundError:
        pass  # a kernel without IPv6


def packed(address: str) -> bytes:
    """An address as the kernel wants it."""
    return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
