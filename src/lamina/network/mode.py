"""What a container's NetworkMode means here, and what the API shows for it: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NO_BRIDGE = "bridge networks are not available yet: the container has only a loopback interface (--network host gives it the host's)"
_IDS = {"none": "6e" * 32, "host": "40" * 32}


@dataclass(frozen=True, slots=True)
class NetworkMode:
    """`kind` is none, host or container; `container` the reference of the one whose network is shared; `warning` what is not as asked."""

    kind: str
    container: str = ""
    warning: str = ""

    @property
    def shown(self) -> str:
        """The word for HostConfig.NetworkMode and the key of NetworkSettings.Networks."""
        return f"container:{self.container}" if self.kind == "container" else self.kind


def network_mode(text: str) -> NetworkMode:
    """Read the API's NetworkMode; what would be a bridge becomes none, with a warning."""
    if text in ("none", "host"):
        return NetworkMode(text)
    if text.startswith("container:"):
        return NetworkMode("container", text.partition(":")[2])
    return NetworkMode("none", warning=NO_BRIDGE)


def network_settings(mode: NetworkMode, *, running: bool) -> dict[str, Any]:
    """The API's NetworkSettings of a container."""
    networks = {} if mode.kind == "container" else {mode.kind: _endpoint(mode.kind, running=running)}
    return {
        "Bridge": "", "SandboxID": "", "SandboxKey": "", "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None, "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "", "Ports": {}, "Networks": networks,
    }  # fmt: skip


def built_in_networks() -> list[dict[str, Any]]:
    """The API's Network of host and none."""
    return [_network("host", "host"), _network("none", "null")]


def _network(name: str, driver: str) -> dict[str, Any]:
    return {
        "Name": name, "Id": _IDS[name], "Created": "1970-01-01T00:00:00Z", "Scope": "local", "Driver": driver, "EnableIPv4": True,
        "EnableIPv6": False, "IPAM": {"Driver": "default", "Options": None, "Config": []}, "Internal": False, "Attachable": False,
        "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": {}, "Options": {}, "Labels": {},
    }  # fmt: skip


def _endpoint(name: str, *, running: bool) -> dict[str, Any]:
    return {
        "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "", "DriverOpts": None, "GwPriority": 0,
        "NetworkID": _IDS[name] if running else "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None,
    }  # fmt: skip
