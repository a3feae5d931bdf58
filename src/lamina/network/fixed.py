"""The networks that are always there, host and none: no interface of theirs is made, and who is on them is known by who runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lamina.network.model import Endpoint, Network, Sandbox


def fixed(name: str, root: str) -> Network:
    """The one of that name, of an engine on this root."""
    return Network(_identity(name, root), name, "null" if name == "none" else name, ipv4=True)


def endpoint(container: str, network: str) -> Endpoint:
    """A running container's on the network with that ID: there is nothing of it but that it is there."""
    return Endpoint(_identity(container, network), network, "", "", "", "")


def members(network: Network, containers: Iterable[tuple[str, str]]) -> list[tuple[Sandbox, Endpoint]]:
    """Who is on it: `containers` are the IDs and names of those that run on it."""
    return [(Sandbox(container, name), endpoint(container, network.id)) for container, name in containers]


def _identity(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
