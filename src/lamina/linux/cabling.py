"""Connects a process's network namespace: a pair of interfaces for each network, addresses, routes.

Values are plain data, since they cross to launchers as JSON. One interface is

    {"name": inside, "host": its other end, "bridge": index, "mac": "02:42:…", "mtu": bytes, "hairpin": bool, "ipv6": bool,
     "addresses": [[text, prefix length], …], "sysctls": [[path below /proc/sys, value], …]}

Only builtin modules are imported.
"""

from __future__ import annotations

import _socket
import os

from lamina.linux import links, namespace
from lamina.linux.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Interface = Mapping[str, Any]


def connect(pid: int, interfaces: Sequence[Interface], gateways: Sequence[str], inside: Callable[[], None] = lambda: None) -> None:
    """Connect the network namespace of a process that this thread may enter, and call `inside` there.

    Only for a thread that nothing else depends on: it comes back to its own namespace, or dies with an error.

    Raises:
        OSError: what was made goes with the namespace.
    """
    with Netlink() as host:
        host.perform([_pair(interface, pid) for interface in interfaces])
        looping = [links.index_of(interface["host"]) for interface in interfaces if interface["hairpin"]]
        host.perform([links.hairpin(index) for index in looping])
    within(pid, lambda: _configure(interfaces, gateways, inside))


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
    return links.new_pair(interface["host"], interface["bridge"], interface["name"], pid, mac=mac, mtu=interface["mtu"])


def _configure(interfaces: Sequence[Interface], gateways: Sequence[str], inside: Callable[[], None]) -> None:
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
    inside()


def _switch(path: str, value: str) -> None:
    try:
        with open(f"/proc/sys/{path}", "wb", buffering=0) as file:
            file.write(value.encode())
    except FileNotFoundError:
        pass  # a kernel without IPv6


def packed(address: str) -> bytes:
    """An address as the kernel wants it."""
    return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
