"""Networks, and containers on them, as values; the errors that only networks have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Protocol

from lamina.errors import Conflict, Forbidden, Internal, InvalidArgument, NotFound, Unsupported

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network
Document = Mapping[str, Any]
"""A JSON object as the API spells it."""

OPTION = "com.docker.network."
"""What Docker's names of options begin with."""


class NetworkNotFound(NotFound):
    """No network has that name or ID."""


class AmbiguousNetwork(InvalidArgument):
    """Several networks' IDs start so."""


class InvalidNetwork(InvalidArgument):
    """What was asked of a network contradicts itself."""


class NetworkExists(Conflict):
    """Another network has that name."""


class NetworkForbidden(Forbidden):
    """It is not for users to do, or stands against what is there."""


class NetworkInUse(Forbidden):
    """Containers are connected to it."""


class PortTaken(Internal):
    """A port of the host's is somebody else's."""


class NoAddress(Internal):
    """Every address of the network is in use."""


class NetworkUnavailable(Unsupported):
    """This kernel cannot do it, or does not let the engine."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of a network, as text. `chosen` says that the user asked for it; `range` is where addresses are taken from ("": the
    whole).

    `auxiliary` are addresses that the network leaves alone, by their names.
    """

    subnet: str
    gateway: str = ""
    range: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = True

    def document(self) -> dict[str, Any]:
        """The API's IPAMConfig."""
        found: dict[str, Any] = {"Subnet": self.subnet}
        if self.range:
            found["IPRange"] = self.range
        if self.gateway:
            found["Gateway"] = self.gateway
        if self.auxiliary:
            found["AuxiliaryAddresses"] = dict(self.auxiliary)
        return found


@dataclass(frozen=True, slots=True)
class Network:
    """One network. `driver` is bridge, host or null; `bridge` the name of its interface on the host; `created_ns` since 1970.

    A `config_only` network holds settings for others (`config_from`) and no container.
    """

    id: str
    name: str
    driver: str = "bridge"
    created_ns: int = 0
    bridge: str = ""
    pools: tuple[Pool, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def default(self) -> bool:
        """Whether it is the one that containers are on by default: no names are served there, no address can be chosen."""
        return self.name == "bridge"

    @property
    def predefined(self) -> bool:
        """Whether it cannot be removed."""
        return self.name in ("bridge", "host", "none")

    def option(self, name: str, default: str = "") -> str:
        """One of Docker's driver options by the end of its name."""
        return self.options.get(OPTION + name, default)

    def switch(self, name: str, *, default: bool) -> bool:
        """A driver option that is true or false."""
        return self.option(name, str(default)).lower() in ("1", "t", "true")

    @property
    def mtu(self) -> int:
        """The largest packet in bytes, 0 for the kernel's default."""
        return int(self.option("driver.mtu", "0") or 0)

    def gateway_mode(self, version: int) -> str:
        """How version 4 or 6 reaches the outside: nat, nat-unprotected, routed or isolated."""
        return self.option(f"bridge.gateway_mode_ipv{version}") or "nat"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container on a network while it runs. Addresses are text, "" where there is none; `prefix4` and `prefix6` are in bits.

    `host` is the interface on the host, `interface` the one inside; `names` are what the network's DNS answers to;
    `settings` what was asked for (the API's EndpointSettings).
    """

    id: str
    network: str
    network_name: str
    host: str
    interface: str
    mac: str
    address4: str = ""
    prefix4: int = 0
    gateway4: str = ""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    names: tuple[str, ...] = ()
    settings: Document = field(default_factory=dict)


class Connector(Protocol):
    """Who has the containers: connects one that runs, or notes what one that does not shall be on."""

    def connect(self, network: Network, container: str, settings: Document) -> None: ...

    def disconnect(self, network: Network, container: str, *, force: bool) -> None: ...

    def forget(self, network: str, container: str) -> bool:
        """Take one that does not run off a network that is gone, by its name; whether it was to be on it."""
        ...

    def on(self, kind: str) -> Sequence[tuple[str, str]]:
        """IDs and names of the containers that run on `none` or `host`."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """One port of the host's that leads into a container. `host_address` may be 0.0.0.0 or ::; `address` is the container's."""

    protocol: str
    host_address: str
    host_port: int
    address: str
    port: int

    @property
    def inside(self) -> str:
        """`80/tcp`."""
        return f"{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """All of a running container's network, as it is written beside the container. `gateway` is the ID of the endpoint by which it
    reaches the outside, `servers` are asked for other names, `links` are the container's own names for others."""

    container: str
    name: str
    endpoints: tuple[Endpoint, ...] = ()
    published: tuple[Published, ...] = ()
    gateway: str = ""
    servers: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """As JSON values."""
        return {"version": 1, **asdict(self)}

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Sandbox:
        """Raises KeyError, TypeError or ValueError where it is not one."""
        values = {key: value for key, value in dict(document).items() if key != "version"}
        endpoints = tuple(Endpoint(**{**entry, "names": tuple(entry["names"])}) for entry in values.pop("endpoints"))
        published = tuple(Published(**entry) for entry in values.pop("published"))
        values["servers"] = tuple(values.get("servers") or ())
        return cls(**values, endpoints=endpoints, published=published)

    def endpoint(self, network: str) -> Endpoint | None:
        """The one on the network with that ID."""
        return next((endpoint for endpoint in self.endpoints if endpoint.network == network), None)
