"""Which network a RUN gets, and what it has of it: the one place that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lamina.dockerfile import ast
from lamina.errors import Unsupported
from lamina.network.mode import NetworkMode
from lamina.network.model import Sandbox
from lamina.network.wiring import Member, Wiring
from lamina.runtime.initlayer import EtcFiles, host_resolver
from lamina.spec.resolver import OF_THE_HOST, ResolverSettings, overridden, parse_resolver, reachable, render_hosts, render_resolver, served

_NETWORKS = {"": "", "default": "", "bridge": "", "none": "none", "host": "host"}
"""What --network may say, and what is made of it; "" leaves it to whoever is asked next."""


class NetworkNotSupported(Unsupported):
    """A RUN cannot be put into that network."""


class Networks(Protocol):
    """See network.networks.Networks."""

    def join(self, member: Member) -> tuple[Sandbox, Wiring]: ...

    def leave(self, container: str) -> None: ...


Lend = Callable[[str], tuple[str, str, EtcFiles]]
"""Of a running container, by name or ID: the path of its network namespace, its host name, and its files of /etc."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a RUN has of its network: `kind` is runtime.bundle's word, `wiring` for runtime.launch; the texts of /etc/hosts and
    resolv.conf. In the network of a container `lent` is what that container has instead."""

    kind: str
    wiring: Mapping[str, Any] | None = None
    hosts: str = ""
    resolver: str = ""
    lent: tuple[str, str, EtcFiles] | None = None


def run_network(instruction: ast.Run, asked: str, default: str) -> str:
    """What RUN --network says, else what the build's --network `asked` says (any network's name), else the engine's default.

    Raises:
        NetworkNotSupported: the instruction names a network that is not one of BuildKit's.
    """
    if instruction.network not in _NETWORKS:
        raise NetworkNotSupported(f"RUN --network={instruction.network[:50]} is not supported", hint="known are default, none and host")
    return _NETWORKS[instruction.network] or _NETWORKS.get(asked, asked) or default


def joined(
    container: str,
    mode: NetworkMode,
    extra_hosts: Sequence[str],
    networks: Networks | None,
    lend: Lend | None = None,
    asked: ResolverSettings = OF_THE_HOST,
) -> Joined:
    """Put a RUN, by the ID of its container, on its network; `asked` is what it has instead of the host's resolv.conf. Raises as
    network.networks.Networks.join; as `lend`; NetworkNotSupported."""
    if mode.kind == "container" and lend is not None:
        return Joined(mode.kind, lent=lend(mode.name))
    hostname = container[:12]
    settings = overridden(parse_resolver(host_resolver()), asked)
    if mode.kind == "bridge" and networks is not None:
        box, wiring = networks.join(Member(container, hostname, hostname, mode, {mode.name: {}}, servers=settings.servers))
        if any(endpoint.names for endpoint in box.endpoints):
            settings = served(settings)
        elif not asked.servers:
            settings = reachable(settings)
        addresses = [address for endpoint in box.endpoints for address in (endpoint.address4, endpoint.address6) if address]
        hosts = render_hosts([(address, hostname) for address in addresses], extra_hosts)
        return Joined(mode.kind, wiring.document(), hosts, render_resolver(settings))
    if mode.kind not in ("none", "host"):
        raise NetworkNotSupported(f"--network {mode.shown[:50]} is not supported here")
    return Joined(mode.kind, None, render_hosts((), extra_hosts), render_resolver(settings))
