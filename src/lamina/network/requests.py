"""A request to make a network, checked as Docker checks it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from lamina.errors import NotFound
from lamina.linux.links import NAME_LENGTH, is_name
from lamina.network.mode import PREDEFINED
from lamina.network.model import OPTION, InvalidNetwork, NetworkForbidden, Pool, Subnet
from lamina.network.pools import parse_address, parse_subnet, subnet_ends
from lamina.spec.numeral import natural

NO_SWARM = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
_SWITCHES = ("bridge.enable_icc", "bridge.enable_ip_masquerade", "bridge.inhibit_ipv4")
_MAC = re.compile(r"([0-9a-fA-F]{2})(?:[:-][0-9a-fA-F]{2}){5}\Z")
_MODES = ("", "nat", "nat-unprotected", "routed", "isolated")


class DriverNotFound(NotFound):
    """No driver has that name."""


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """What is asked for, in the API's words (NetworkCreateRequest); `ipv4` and `ipv6` are None where nothing is said."""

    name: str
    driver: str = "bridge"
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    ipv4: bool | None = None
    ipv6: bool | None = None
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    ipam: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def check(request: NetworkRequest) -> None:
    """Refuse what cannot be, whatever networks there are.

    Raises:
        InvalidNetwork, NetworkForbidden, DriverNotFound: in Docker's words.
    """
    if not request.name.strip():
        raise InvalidNetwork("invalid name: name is empty")
    if request.name in PREDEFINED:
        raise NetworkForbidden(f"operation is not permitted on predefined {request.name} network ")
    _check_driver(request)
    _check_configuration(request)
    if request.ipam_driver not in ("", "default"):
        raise InvalidNetwork(f'invalid ipam driver: "{request.ipam_driver}"')
    if request.ipv4 is False and not request.ipv6:
        raise InvalidNetwork("IPv4 or IPv6 must be enabled")
    _check_options(request)


def _check_driver(request: NetworkRequest) -> None:
    if request.driver == "overlay" or request.scope == "swarm":
        raise NetworkForbidden(NO_SWARM if request.driver == "overlay" else "cannot create a swarm scoped network when swarm is not active")
    if request.driver in ("host", "null"):
        raise NetworkForbidden(f'only one instance of "{request.driver}" network is allowed')
    if request.driver not in ("", "bridge"):
        raise DriverNotFound(f'could not find plugin {request.driver} in v1 plugin registry: plugin "{request.driver}" not found')
    if request.ingress:
        raise NetworkForbidden("Ingress network can only be global scope network")
    if request.scope not in ("", "local"):
        raise InvalidNetwork(f"invalid scope: {request.scope}")


def _check_configuration(request: NetworkRequest) -> None:
    own = bool(request.ipam or request.ipam_options or request.options or request.labels or request.internal or request.ipv6)
    if request.config_only and (request.internal or request.attachable or request.ingress):
        raise NetworkForbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable ] are not supported."
        )
    if request.config_only and request.config_from:
        raise NetworkForbidden("a configuration network cannot depend on another configuration network")
    if request.config_from and own:
        raise NetworkForbidden("user specified configurations are not supported if the network depends on a configuration network")


def _check_options(request: NetworkRequest) -> None:
    """Raise InvalidNetwork for a value of a driver's option that it cannot have; options that nobody knows are passed over."""
    for name in _SWITCHES:
        value = request.options.get(OPTION + name)
        if value is not None and value.lower() not in ("0", "1", "t", "f", "true", "false"):
            raise InvalidNetwork(f"failed to parse {OPTION}{name} value: {value} (invalid syntax)")
    mtu = request.options.get(f"{OPTION}driver.mtu", "0")
    number = natural(mtu, 65535)
    if number is None or 0 < number < 68:
        raise InvalidNetwork(f"failed to parse {OPTION}driver.mtu value: {mtu} (invalid MTU number)")
    for version in (4, 6):
        mode = request.options.get(f"{OPTION}bridge.gateway_mode_ipv{version}", "")
        if mode not in _MODES:
            raise InvalidNetwork(f"unknown gateway mode {mode}")
        if mode == "isolated" and not request.internal:
            raise InvalidNetwork("gateway mode 'isolated' can only be used for an internal network")
    for name in ("host_ipv4", "host_ipv6", "bridge.host_binding_ipv4", "bridge.host_binding_ipv6"):
        address = request.options.get(OPTION + name)
        if address and parse_address(address) is None:
            raise InvalidNetwork(f"failed to parse {OPTION}{name} value: {address} (invalid IP address)")
    bridge = request.options.get(f"{OPTION}bridge.name", "")
    if bridge and not is_name(bridge):
        raise InvalidNetwork(
            f"invalid name of a bridge: {bridge!r}: it has at most {NAME_LENGTH} characters, and no blank, '/', ':' or '%'"
        )
    prefix = request.options.get(f"{OPTION}container_iface_prefix", "")
    if prefix and not is_name(f"{prefix}0"):
        raise InvalidNetwork(
            f"invalid prefix of interfaces: {prefix!r}: it has at most {NAME_LENGTH - 1} characters, and no blank, '/', ':' or '%'"
        )


def asked_pools(entries: Sequence[Mapping[str, Any]], *, ipv4: bool, ipv6: bool) -> list[Pool]:
    """The subnets that were asked for, without those of a version that is off.

    Raises:
        InvalidNetwork: one line a fault, in Docker's words.
        NetworkForbidden: two of one version, or a gateway that is a subnet's end.
    """
    faults: list[str] = []
    found: list[tuple[int, Pool]] = []
    for entry in entries:
        subnet = parse_subnet(str(entry.get("Subnet") or ""))
        if subnet is None:
            faults.append(f"invalid subnet {entry.get('Subnet') or ''}: invalid CIDR block notation")
            continue
        if (subnet.version == 6 and not ipv6) or (subnet.version == 4 and not ipv4):
            continue
        auxiliary = {
            str(name): str(address) for name, address in (entry.get("AuxiliaryAddresses") or entry.get("AuxAddress") or {}).items()
        }
        pool = Pool(str(entry["Subnet"]), str(entry.get("Gateway") or ""), str(entry.get("IPRange") or ""), auxiliary)
        faults += _faults(pool, subnet)
        found.append((subnet.version, pool))
    if faults:
        lines = faults[0] if len(faults) == 1 else "* " + "\n* ".join(faults)
        raise InvalidNetwork(f"invalid network config:\n{lines}")
    if len({version for version, _ in found}) < len(found):
        raise NetworkForbidden("bridge driver doesn't support multiple subnets")
    for _, pool in found:
        if pool.gateway and int(ip_address(pool.gateway)) in subnet_ends(ip_network(pool.subnet)):
            raise NetworkForbidden(f"failed to allocate gateway ({pool.gateway}): Address already in use")
    return [pool for _, pool in sorted(found, key=lambda pair: pair[0])]


def _faults(pool: Pool, subnet: Subnet) -> list[str]:
    found = []
    if str(subnet) != str(ip_network(pool.subnet, strict=False)) or _has_host_bits(pool.subnet):
        found.append(f"invalid subnet {pool.subnet}: it should be {subnet}")
    found += _range_faults(pool.range, subnet) if pool.range else []
    for what, address in (
        *([("gateway " + pool.gateway, pool.gateway)] if pool.gateway else []),
        *((f"auxiliary address {name}", text) for name, text in pool.auxiliary.items()),
    ):
        fault = _address_fault(address, subnet)
        found += [f"invalid {what}: {fault}"] if fault else []
    return found


def _has_host_bits(text: str) -> bool:
    try:
        ip_network(text)
        return False
    except ValueError:
        return True


def _range_faults(text: str, subnet: Subnet) -> list[str]:
    chosen = parse_subnet(text)
    if chosen is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if chosen.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    found = []
    if chosen.prefixlen < subnet.prefixlen:
        found.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    if _has_host_bits(text):
        found.append(f"invalid ip-range {text}: it should be {chosen}")
    if not _overlap(chosen, subnet):
        found.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return found


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.network_address in other or other.network_address in one


def _address_fault(text: str, subnet: Subnet) -> str:
    address = parse_address(text)
    if address is None:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if address in subnet and "%" not in text else f"parent subnet {subnet} doesn't contain this address"


def check_endpoint(settings: Mapping[str, Any], pools: Sequence[Pool], *, name: str, default: bool) -> None:
    """Refuse what a container cannot ask of a network: an address that is not one, or that the network does not have.

    Raises:
        InvalidNetwork: in Docker's words.
    """
    ipam = settings.get("IPAMConfig") or {}
    faults: list[str] = []
    for version, key in ((4, "IPv4Address"), (6, "IPv6Address")):
        text = str(ipam.get(key) or "")
        if not text:
            continue
        address = parse_address(text)
        if address is None or address.version != version or address.is_unspecified:
            faults.append(f"invalid IPv{version} address: {text}")
            continue
        if default:
            faults.append("user specified IP address is supported on user defined networks only")
            continue
        chosen = [ip_network(pool.subnet) for pool in pools if pool.chosen and ip_network(pool.subnet).version == version]
        if not chosen:
            faults.append("user specified IP address is supported only when connecting to networks with user configured subnets")
        elif not any(address in subnet for subnet in chosen):
            faults.append(f"no configured subnet or ip-range contain the IP address {text}")
    faults += [f"invalid link-local IP address: {text}" for text in ipam.get("LinkLocalIPs") or () if parse_address(str(text)) is None]
    mac = str(settings.get("MacAddress") or "")
    if mac and not is_mac(mac):
        faults.append(f"invalid MAC address {mac}")
    if default and settings.get("Aliases"):
        faults.append("network-scoped aliases are only supported for user-defined networks")
    if faults:
        lines = faults[0] if len(faults) == 1 else "* " + "\n* ".join(faults)
        raise InvalidNetwork(f"invalid config for network {name}: invalid endpoint settings:\n{lines}")


def is_mac(text: str) -> bool:
    """Whether it is an Ethernet address of one interface, as `02:42:ac:11:00:02`."""
    found = _MAC.match(text)
    return found is not None and not int(found[1], 16) & 1
