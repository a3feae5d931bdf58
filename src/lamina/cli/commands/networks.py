"""network create, rm, prune, connect and disconnect; network ls is in `volumes`."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import filters
from lamina.cli.prompt import agreed
from lamina.cli.session import Session
from lamina.client.system import System
from lamina.errors import NotFound

TABLE = {
    "network create": (
        1,
        1,
        True,
        "NETWORK",
        """\
- attachable bool|Enable manual container attachment
- aux-address map|Auxiliary IPv4 or IPv6 addresses used by Network driver
- config-from string|The network from which to copy the configuration
- config-only bool|Create a configuration only network
d driver string|Driver to manage the Network (default "bridge")
- gateway strings|IPv4 or IPv6 Gateway for the master subnet
- ingress bool|Create swarm routing-mesh network
- internal bool|Restrict external access to the network
- ip-range strings|Allocate container ip from a sub-range
- ipam-driver string|IP Address Management Driver (default "default")
- ipam-opt map|Set IPAM driver specific options
- ipv4 bool|Enable or disable IPv4 address assignment
- ipv6 bool|Enable or disable IPv6 address assignment
- label list|Set metadata on a network
o opt map|Set driver specific options
- scope string|Control the network's scope
- subnet strings|Subnet in CIDR format that represents a network segment
""",
    ),
    "network rm": (
        1,
        -1,
        True,
        "NETWORK [NETWORK...]",
        """\
f force bool|Do not error if the network does not exist
""",
    ),
    "network prune": (
        0,
        0,
        True,
        "",
        """\
- filter filter|Provide filter values (e.g. "until=<timestamp>")
f force bool|Do not prompt for confirmation
""",
    ),
    "network connect": (
        2,
        2,
        True,
        "NETWORK CONTAINER",
        """\
- alias strings|Add network-scoped alias for the container
- driver-opt strings|driver options for the network
- gw-priority int|Highest gw-priority provides the default gateway
- ip string|IPv4 address (e.g., "172.30.100.104")
- ip6 string|IPv6 address (e.g., "2001:db8::33")
- link list|Add link to another container
- link-local-ip strings|Add a link-local address for the container
""",
    ),
    "network disconnect": (
        2,
        2,
        True,
        "NETWORK CONTAINER",
        """\
f force bool|Force the container to disconnect from a network
""",
    ),
}


def _pairs(words: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def network_create(session: Session, arguments: Arguments) -> int:
    """Create a network; prints its ID."""
    ipam: dict[str, object] = {"Driver": arguments.text("ipam-driver", "default"), "Config": _ipam(arguments)}
    if arguments.given("ipam-opt"):
        ipam["Options"] = _pairs(arguments.many("ipam-opt"))
    request: dict[str, object] = {
        "Name": arguments.words[0],
        "Driver": arguments.text("driver", "bridge"),
        "Scope": arguments.text("scope"),
        "IPAM": ipam,
        "Options": _pairs(arguments.many("opt")),
        "Labels": _pairs(arguments.many("label")),
    }
    switches = (("Internal", "internal"), ("Attachable", "attachable"), ("Ingress", "ingress"), ("ConfigOnly", "config-only"))
    request |= {key: arguments.on(name) for key, name in switches}
    for key, name in (("EnableIPv4", "ipv4"), ("EnableIPv6", "ipv6")):
        if arguments.given(name):
            request[key] = arguments.on(name)
    if arguments.given("config-from"):
        request["ConfigFrom"] = {"Network": arguments.text("config-from")}
    answer = System(session.engine).create_network(request)
    if answer.get("Warning"):
        session.warn(str(answer["Warning"]))
    session.print(str(answer.get("Id", "")))
    return 0


def _ipam(arguments: Arguments) -> list[dict[str, object]]:
    """One entry per subnet; ranges, gateways and set-aside addresses go to the subnet of their place or their version of IP."""
    subnets: list[dict[str, object]] = [{"Subnet": subnet} for subnet in arguments.many("subnet")]

    def put(key: str, value: str, name: str) -> None:
        fitting = [entry for entry in subnets if (":" in str(entry["Subnet"])) == (":" in value) and key not in entry]
        if not fitting:
            raise UsageError(f"no matching subnet for {name} {value}")
        fitting[0][key] = value

    for value in arguments.many("ip-range"):
        put("IPRange", value, "range")
    for value in arguments.many("gateway"):
        put("Gateway", value, "gateway")
    for name, address in _pairs(arguments.many("aux-address")).items():
        fitting = [entry for entry in subnets if (":" in str(entry["Subnet"])) == (":" in address)]
        if not fitting:
            raise UsageError(f"no matching subnet for aux-address {address}")
        known = fitting[0].setdefault("AuxiliaryAddresses", {})
        if isinstance(known, dict):
            known[name] = address
    return subnets


def network_rm(session: Session, arguments: Arguments) -> int:
    """Remove networks."""
    system = System(session.engine)
    if not arguments.on("force"):
        return session.each(arguments.words, system.remove_network)

    def remove(name: str) -> None:
        try:
            system.remove_network(name)
        except NotFound:
            return
        session.print(name)

    return session.each(arguments.words, remove, echo=False)


def network_prune(session: Session, arguments: Arguments) -> int:
    """Remove networks that no container uses."""
    pairs = filters(arguments.many("filter"))
    if not arguments.on("force") and not agreed("WARNING! This will remove all custom networks not used by at least one container."):
        return 0
    removed = System(session.engine).prune("networks", pairs).get("NetworksDeleted")
    if isinstance(removed, list) and removed:
        session.print("\n".join(["Deleted Networks:", *map(str, removed), ""]))
    return 0


def network_connect(session: Session, arguments: Arguments) -> int:
    """Connect a container to a network."""
    network, container = arguments.words
    ipam: dict[str, object] = {
        key: arguments.text(name) for key, name in (("IPv4Address", "ip"), ("IPv6Address", "ip6")) if arguments.given(name)
    }
    if arguments.given("link-local-ip"):
        ipam["LinkLocalIPs"] = arguments.many("link-local-ip")
    settings: dict[str, object] = {"IPAMConfig": ipam} if ipam else {}
    for key, name in (("Aliases", "alias"), ("Links", "link")):
        if arguments.given(name):
            settings[key] = arguments.many(name)
    if arguments.given("driver-opt"):
        settings["DriverOpts"] = _pairs(arguments.many("driver-opt"))
    if arguments.given("gw-priority"):
        settings["GwPriority"] = arguments.number("gw-priority")
    System(session.engine).network_act(network, "connect", {"Container": container, "EndpointConfig": settings})
    return 0


def network_disconnect(session: Session, arguments: Arguments) -> int:
    """Disconnect a container from a network."""
    network, container = arguments.words
    System(session.engine).network_act(network, "disconnect", {"Container": container, "Force": arguments.on("force")})
    return 0
