"""What a container's NetworkMode asks for: pure functions."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_NETWORK = "bridge"
"""The name of the network that containers are on where nothing else is asked for."""
PREDEFINED = frozenset({"bridge", "host", "none", "default"})
"""Names that no network of a user's may have."""


@dataclass(frozen=True, slots=True)
class NetworkMode:
    """`kind` is none, host, container or bridge; `name` the container whose network is shared, or the network it is on."""

    kind: str
    name: str = ""

    @property
    def shown(self) -> str:
        """The word for HostConfig.NetworkMode."""
        return {"container": f"container:{self.name}", "bridge": self.name}.get(self.kind, self.kind)

    @property
    def own(self) -> bool:
        """Whether the container has a network namespace of its own."""
        return self.kind in ("none", "bridge")


def network_mode(text: str) -> NetworkMode:
    """Read the API's NetworkMode: `none`, `host`, `container:REF` (REF is empty where nothing follows), or a network's name or ID (`default` and nothing: the default one)."""
    if text in ("none", "host"):
        return NetworkMode(text)
    if text == "container" or text.startswith("container:"):
        return NetworkMode("container", text.partition(":")[2])
    return NetworkMode("bridge", DEFAULT_NETWORK if text in ("", "default") else text)
