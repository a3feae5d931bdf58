"""Bridges of the host: made, found, removed; and the kernel's switches that they need."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network

from lamina.linux import links
from lamina.linux.netlink import Netlink, NetlinkError, Request
from lamina.network.model import Network, NetworkForbidden, NetworkUnavailable, Subnet

_SYSCTL = "/proc/sys/net"
_RESOLVER = "/etc/resolv.conf"
_ALIAS = 255  # bytes


class Interfaces:
    """What this engine does to the host's interfaces. Thread-safe. `tag` and `root` name the engine in the remark that each bridge gets;
    `lock` is a file that engines of this machine share, so that two do not choose the same subnet at once."""

    def __init__(self, tag: str, lock: str, warn: Callable[[str], None], root: str = "") -> None:
        self._root = root
        self._tag, self._lock_path, self._warn = tag, lock, warn
        self._lock = threading.Lock()
        self._connection: Netlink | None = None
        self._forwarding: set[int] = set()

    def perform(self, *requests: Request) -> None:
        """Have the kernel do it. Raises NetlinkError."""
        with self._lock:
            self._connected().perform(requests)

    def _connected(self) -> Netlink:
        if self._connection is None:
            self._connection = Netlink()
        return self._connection

    def close(self) -> None:
        """Let go; interfaces stay."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """While a subnet is chosen and its bridge made: other engines of this machine wait."""
        fd = -1
        with suppress(OSError):
            os.makedirs(os.path.dirname(self._lock_path), exist_ok=True)
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def subnets(self, without: str = "") -> list[Subnet]:
        """What the host has routes to or addresses in (but those of interface `without`), and where its name servers are."""
        with self._lock:
            connection = self._connected()
            own = links.index_of(without) if without else 0
            own_subnets = {_subnet(address, prefix) for index, address, prefix in links.addresses(connection) if index == own}
            found = [_subnet(address, prefix) for index, address, prefix in links.addresses(connection) if index != own]
            found += [subnet for subnet in (_subnet(*route) for route in links.routes(connection)) if subnet not in own_subnets]
        return [subnet for subnet in found if subnet.prefixlen] + _name_servers()

    def ensure(self, network: Network) -> int:
        """The index of the network's bridge, which is made where it is not there, with its addresses, switched on.

        Raises:
            NetworkUnavailable: this kernel does not let us.
            NetworkForbidden: an interface of that name is something else.
        """
        with self._lock:
            try:
                return self._ensure(network)
            except NetlinkError as error:
                raise NetworkUnavailable(f"bridge {network.bridge} cannot be made: {error.strerror}", hint=_hint(error)) from None

    def _ensure(self, network: Network) -> int:
        connection = self._connected()
        link = self._link(network.bridge)
        if filtered := not network.switch("bridge.enable_icc", default=True):
            see_to_bridge_filter()
        if link is None:
            connection.perform([links.new_bridge(network.bridge, mac=_mac(), mtu=network.mtu, filtered=filtered)])
        index, ours = links.index_of(network.bridge), link is None or self._is_ours(network, link)
        self._switch(network)
        requests = [links.set_alias(index, self._remark(network))] if ours else []
        for pool in network.pools:
            if pool.gateway and network.gateway_mode(ip_network(pool.subnet).version) != "isolated":
                prefix = ip_network(pool.subnet).prefixlen
                requests.append(links.add_address(index, ip_address(pool.gateway).packed, prefix))
        connection.perform([*requests, links.set_up(index)])
        return index

    def _remark(self, network: Network) -> str:
        """The engine, the network, and the data root where there is room for all of it (see `abandoned`)."""
        remark = f"lamina {self._tag} {network.name}"
        whole = f"{remark} {self._root}"
        return whole if self._root and len(whole.encode()) <= _ALIAS else remark.encode()[:_ALIAS].decode(errors="ignore")

    def _switch(self, network: Network) -> None:
        """What the kernel must be told before packets pass, as Docker tells it."""
        set_switch(f"ipv4/conf/{network.bridge}/route_localnet", "1")
        if network.ipv6:
            set_switch(f"ipv6/conf/{network.bridge}/disable_ipv6", "0")
            set_switch(f"ipv6/conf/{network.bridge}/accept_ra", "0")
        else:
            set_switch(f"ipv6/conf/{network.bridge}/disable_ipv6", "1")
        if network.internal:
            return
        for version in (4, *((6,) if network.ipv6 else ())):
            if version not in self._forwarding and not self._forward(version):
                self._warn(f"IPv{version} forwarding is off and cannot be switched on: containers do not reach the outside")
            self._forwarding.add(version)

    def _forward(self, version: int) -> bool:
        names = ["ipv4/ip_forward"] if version == 4 else ["ipv6/conf/default/forwarding", "ipv6/conf/all/forwarding"]
        done = [set_switch(name, "1") for name in names]
        return all(done)

    def _link(self, bridge: str) -> links.Link | None:
        """The bridge of that name. Raises NetworkForbidden."""
        index = links.index_of(bridge)
        found = next((link for link in links.links(self._connected()) if link.index == index), None) if index else None
        if found is not None and found.kind != "bridge":
            raise NetworkForbidden(f"interface {bridge} is there already and is not a bridge")
        return found

    def _is_ours(self, network: Network, link: links.Link) -> bool:
        """Whether an engine on this data root made it: of a name that was chosen, somebody else may have."""
        chosen = not network.default and network.option("bridge.name")
        return not chosen or link.alias.startswith(f"lamina {self._tag} ")

    def check(self, bridge: str) -> None:
        """Raises NetworkForbidden: an interface of that name is something else."""
        with self._lock:
            self._link(bridge)

    def remove(self, network: Network) -> None:
        """Remove a network's bridge; absent is fine. One that was there before the network stays, as with Docker."""
        with self._lock, suppress(NetlinkError, NetworkForbidden):
            link = self._link(network.bridge)
            if link is not None and self._is_ours(network, link):
                self._connected().perform([links.delete_link(network.bridge)])

    def every(self) -> list[links.Link]:
        """All interfaces of this host."""
        with self._lock:
            return list(links.links(self._connected()))

    def index(self, name: str) -> int:
        """The index of an interface of this host, 0 where there is none."""
        return links.index_of(name)

    def exists(self, name: str) -> bool:
        """Whether the host has an interface of that name."""
        return links.index_of(name) != 0

    def through_loopback(self, name: str) -> bool:
        """Whether the kernel leads 127.0.0.1 to this bridge where a rule says so."""
        return read_switch(f"ipv4/conf/{name}/route_localnet") == "1"


def see_to_bridge_filter(where: str = f"{_SYSCTL}/bridge", load: Callable[[], None] | None = None) -> None:
    """Have the kernel able to filter what goes from port to port of a bridge (br_netfilter). Where that has to be loaded it filters no other
    bridge than those that ask for it.

    Raises:
        NetworkUnavailable: it cannot: containers would talk to each other that are not to.
    """
    if os.path.isdir(where):
        return
    (load or _load_bridge_filter)()
    if not os.path.isdir(where):
        raise NetworkUnavailable("cannot restrict inter-container communication: please ensure that br_netfilter kernel module is loaded")
    for name in ("iptables", "ip6tables", "arptables"):
        with suppress(OSError), open(f"{where}/bridge-nf-call-{name}", "w", encoding="ascii") as file:
            file.write("0")


def _load_bridge_filter() -> None:
    if program := shutil.which("modprobe", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([program, "br_netfilter"], capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL)


def read_switch(name: str) -> str:
    """A kernel parameter below net; "" where there is none."""
    try:
        with open(f"{_SYSCTL}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def set_switch(name: str, value: str) -> bool:
    """Set a kernel parameter below net where it is another; whether it is so now."""
    if read_switch(name) == value:
        return True
    try:
        with open(f"{_SYSCTL}/{name}", "w", encoding="ascii") as file:
            file.write(value)
        return True
    except OSError:
        return False


def _subnet(address: bytes, prefix: int) -> Subnet:
    return ip_network((address, prefix), strict=False)


def _name_servers() -> list[Subnet]:
    """A network that covered a name server's address would hide it from the host."""
    found: list[Subnet] = []
    with suppress(OSError), open(_RESOLVER, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with suppress(ValueError):
                    found.append(ip_network(words[1].partition("%")[0]))
    return found


def _mac() -> bytes:
    """Locally administered, as Docker's: a bridge without one changes it with its ports."""
    return b"\x02\x42" + os.urandom(4)


def _hint(error: NetlinkError) -> str:
    return "the kernel needs bridge and veth (CONFIG_BRIDGE, CONFIG_VETH), the engine CAP_NET_ADMIN" if error.errno in (1, 95) else ""
