"""What a container is to have on its networks, as values: interfaces, names, gateways. Nothing here is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from lamina.linux import links
from lamina.network.bindings import Wanted
from lamina.network.mode import NetworkMode
from lamina.network.model import OPTION, Document, Endpoint, InvalidNetwork, Network, Sandbox

_MTU = 1500
_SEGMENTS = 524_280
"""What veth takes at most. Only where nothing leads outside: an interface that takes less, as nearly all do, has larger packets cut up by
the processor, down to the MTU."""


@dataclass(frozen=True, slots=True)
class Member:
    """A container that is about to run, as networks see it. `networks` are the API's EndpointSettings by network name or ID, the one of
    its NetworkMode first; `servers` are asked for names that no network has."""

    id: str
    name: str
    hostname: str
    mode: NetworkMode
    networks: Mapping[str, Document] = field(default_factory=dict)
    ports: Sequence[Wanted] = ()
    mac: str = ""
    servers: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a launcher does in the container's network namespace: see linux.cabling."""

    interfaces: Sequence[dict[str, Any]] = ()
    gateways: Sequence[str] = ()
    resolver: dict[str, str] | None = None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {"interfaces": list(self.interfaces), "gateways": list(self.gateways), "resolver": self.resolver}


def aliases(asked: Iterable[object]) -> dict[str, str]:
    """The API's links, `NAME:ALIAS` or `NAME`, as alias to name."""
    pairs = (str(link).partition(":") for link in asked)
    return {(alias or name).rpartition("/")[2]: name.removeprefix("/") for name, _, alias in pairs}


def gateway_of(box: Sandbox, networks: Mapping[str, Network]) -> str:
    """The ID of the endpoint that leads outside: of those not on an internal network that of the highest priority, then the first by
    name; "" where none does."""
    outer = [endpoint for endpoint in box.endpoints if not networks[endpoint.network].internal]
    outer.sort(key=lambda endpoint: (-int(endpoint.settings.get("GwPriority") or 0), endpoint.network_name))
    return outer[0].id if outer else ""


def way_in(box: Sandbox) -> tuple[str, str]:
    """Where published IPv4 and IPv6 ports lead: to the endpoint that is the way outside, nowhere ("") where there is none."""
    endpoint = next((endpoint for endpoint in box.endpoints if endpoint.id == box.gateway), None)
    return (endpoint.address4, endpoint.address6 or endpoint.address4) if endpoint else ("", "")


def led(box: Sandbox) -> Sandbox:
    """The same with its ports leading there."""
    to4, to6 = way_in(box)
    return replace(box, published=tuple(replace(port, address=to6 if ":" in port.host_address else to4) for port in box.published))


def dns_names(member: Member, settings: Document) -> tuple[str, ...]:
    """What a network's DNS answers to for a container: its name, its aliases, the short ID, the host name."""
    names = [member.name, *(str(alias) for alias in settings.get("Aliases") or ()), member.id[:12], member.hostname]
    return tuple(dict.fromkeys(name for name in names if name))


def mac_of(endpoint: Endpoint) -> str:
    """Made of the address, so that a neighbour that remembers it is right for whoever has the address next."""
    tail = ip_address(endpoint.address4).packed if endpoint.address4 else bytes.fromhex(endpoint.id[-8:])
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + tail)


def interface_name(box: Sandbox, network: Network, settings: Document) -> str:
    """eth0 and on, or as the network's or the endpoint's options say."""
    asked = str((settings.get("DriverOpts") or {}).get(f"{OPTION}endpoint.ifname") or "")
    taken = {endpoint.interface for endpoint in box.endpoints}
    if asked:
        if asked in taken or not links.is_name(asked) or asked == "lo":
            raise InvalidNetwork(f"error setting interface name {asked!r}: it is taken, or no name of an interface")
        return asked
    prefix = network.option("container_iface_prefix") or "eth"
    return next(f"{prefix}{number}" for number in range(len(taken) + 1) if f"{prefix}{number}" not in taken)


def needs_switchboard(box: Sandbox) -> bool:
    """Whether it has ports or names."""
    return bool(box.published) or any(endpoint.names for endpoint in box.endpoints)


def wiring(box: Sandbox, networks: Sequence[Network], indexes: Sequence[int], resolver: dict[str, str] | None) -> Wiring:
    """What is to be done in the container's namespace; `networks` and their bridges' `indexes` in the order of the endpoints."""
    interfaces = [
        interface(endpoint, network, index, hairpin=bool(box.published))
        for endpoint, network, index in zip(box.endpoints, networks, indexes, strict=True)
    ]
    return Wiring(interfaces, gateways(box), resolver)


def gateways(box: Sandbox) -> list[str]:
    """Addresses of the default gateways."""
    endpoint = next((endpoint for endpoint in box.endpoints if endpoint.id == box.gateway), None)
    return [address for address in (endpoint.gateway4, endpoint.gateway6) if address] if endpoint else []


def interface(endpoint: Endpoint, network: Network, index: int, *, hairpin: bool) -> dict[str, Any]:
    """One interface in linux.cabling's words."""
    pairs = ((endpoint.address4, endpoint.prefix4), (endpoint.address6, endpoint.prefix6))
    return {
        "name": endpoint.interface,
        "host": endpoint.host,
        "bridge": index,
        "mac": endpoint.mac,
        "mtu": network.mtu or _MTU,
        "segments": _SEGMENTS if network.internal else 0,
        "hairpin": hairpin and endpoint.network == network.id,
        "ipv6": bool(endpoint.address6),
        "addresses": [[address, prefix] for address, prefix in pairs if address] + _link_local(endpoint.settings),
        "sysctls": [[path, value] for path, value in _sysctls(endpoint)],
    }


def _link_local(settings: Document) -> list[list[Any]]:
    addresses = (settings.get("IPAMConfig") or {}).get("LinkLocalIPs") or ()
    return [[str(address), 64 if ":" in str(address) else 16] for address in addresses]


def _sysctls(endpoint: Endpoint) -> Iterable[tuple[str, str]]:
    """Docker's driver option endpoint.sysctls: `net.ipv4.conf.IFNAME.log_martians=1`, several by commas."""
    text = str((endpoint.settings.get("DriverOpts") or {}).get(f"{OPTION}endpoint.sysctls") or "")
    for word in filter(None, text.split(",")):
        name, _, value = word.partition("=")
        parts = name.split(".")
        if len(parts) != 5 or parts[0] != "net" or parts[1] not in ("ipv4", "ipv6", "mpls") or parts[3].lower() != "ifname" or "/" in word:
            raise InvalidNetwork(f"unrecognised network interface sysctl '{word}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V'")
        yield f"net/{parts[1]}/{parts[2]}/{endpoint.interface}/{parts[4]}", value
