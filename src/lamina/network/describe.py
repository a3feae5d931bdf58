"""Networks, and what containers have of them, as the API shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lamina.network import fixed
from lamina.network.mode import NetworkMode
from lamina.network.model import Document, Endpoint, Network, Published, Sandbox


def network_document(network: Network, members: Sequence[tuple[Sandbox, Endpoint]] | None = None) -> dict[str, Any]:
    """The API's Network; `members` are shown where they are given (by inspect, not by a listing)."""
    containers = {box.container: _member(box, endpoint) for box, endpoint in members or ()}
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": _time(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": dict(network.ipam_options) if network.ipam_options is not None else None,
            "Config": [pool.document() for pool in network.pools] or (None if network.predefined and not network.default else []),
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": containers,
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _member(box: Sandbox, endpoint: Endpoint) -> dict[str, str]:
    return {
        "Name": box.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.address4}/{endpoint.prefix4}" if endpoint.address4 else "",
        "IPv6Address": f"{endpoint.address6}/{endpoint.prefix6}" if endpoint.address6 else "",
    }


def _time(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"


def network_settings(
    mode: NetworkMode,
    asked: Mapping[str, Document],
    *,
    box: Sandbox | None,
    pid: int,
    ids: Mapping[str, str],
    exposed: Sequence[tuple[int, str]],
    ran: bool,
    container: str,
) -> dict[str, Any]:
    """The API's NetworkSettings of a container.

    `asked` are the EndpointSettings it was made with, by network name; `ids` the networks' IDs by name; `box` what it has while it runs;
    `ran` says whether it was ever started, `container` is its ID.
    """
    endpoints = {endpoint.network_name: endpoint for endpoint in (box.endpoints if box else ())}
    shown = {
        name: endpoint_settings(settings, endpoints.get(name), ids.get(name, "") if ran else "", default=name in ("bridge", "none", "host"))
        for name, settings in asked.items()
    }
    if mode.kind in ("none", "host"):
        network = ids.get(mode.kind, "") if ran else ""
        shown = {mode.kind: endpoint_settings({}, fixed.endpoint(container, network) if pid else None, network, default=True)}
    first = endpoints.get("bridge")
    plain = first or Endpoint("", "", "", "", "", "")
    return {
        "Bridge": "",
        "SandboxID": container if pid and (box or mode.kind in ("none", "host")) else "",
        "SandboxKey": f"/proc/{pid}/ns/net" if pid else "",
        "Ports": ports(box.published if box else (), exposed) if pid else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": plain.id,
        "Gateway": plain.gateway4,
        "GlobalIPv6Address": plain.address6,
        "GlobalIPv6PrefixLen": plain.prefix6,
        "IPAddress": plain.address4,
        "IPPrefixLen": plain.prefix4,
        "IPv6Gateway": plain.gateway6,
        "MacAddress": plain.mac,
        "Networks": shown,
    }


def endpoint_settings(settings: Document, endpoint: Endpoint | None, network_id: str, *, default: bool) -> dict[str, Any]:
    """The API's EndpointSettings: what was asked for, and what the container has."""
    has = endpoint or Endpoint("", "", "", "", "", "")
    names = list(has.names) if endpoint and has.names else None
    return {
        "IPAMConfig": settings.get("IPAMConfig"),
        "Links": settings.get("Links"),
        "Aliases": settings.get("Aliases"),
        "MacAddress": has.mac or str(settings.get("MacAddress") or ""),
        "DriverOpts": settings.get("DriverOpts"),
        "GwPriority": settings.get("GwPriority") or 0,
        "NetworkID": network_id,
        "EndpointID": has.id,
        "Gateway": has.gateway4,
        "IPAddress": has.address4,
        "IPPrefixLen": has.prefix4,
        "IPv6Gateway": has.gateway6,
        "GlobalIPv6Address": has.address6,
        "GlobalIPv6PrefixLen": has.prefix6,
        "DNSNames": None if default else names,
    }


def ports(published: Sequence[Published], exposed: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """The API's PortMap of a running container: every exposed port, with where it is published."""
    found: dict[str, Any] = {f"{port}/{protocol}": None for port, protocol in exposed}
    for port in published:
        entry = {"HostIp": port.host_address, "HostPort": str(port.host_port)}
        found[port.inside] = [*(found.get(port.inside) or []), entry]
    return found


def port_rows(published: Sequence[Published], exposed: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """The API's Ports of a container in a listing."""
    rows: list[dict[str, Any]] = [
        {"IP": port.host_address, "PrivatePort": port.port, "PublicPort": port.host_port, "Type": port.protocol} for port in published
    ]
    bound = {(port.port, port.protocol) for port in published}
    return rows + [{"PrivatePort": port, "Type": protocol} for port, protocol in exposed if (port, protocol) not in bound]
