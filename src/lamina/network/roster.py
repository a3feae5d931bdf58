"""Which networks there are, by name and ID."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lamina.network.model import AmbiguousNetwork, Network, NetworkExists, NetworkNotFound


class Roster:
    """All networks of an engine. Thread-safe."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._lock = threading.Lock()
        self._networks = {network.id: network for network in networks}

    def all(self) -> list[Network]:
        """Every network, the oldest first."""
        with self._lock:
            return list(self._networks.values())

    def named(self, name: str) -> Network | None:
        """The one of that name."""
        return next((network for network in self.all() if network.name == name), None)

    def get(self, network_id: str) -> Network | None:
        """The one with that whole ID."""
        return self._networks.get(network_id)

    def find(self, ref: str) -> Network:
        """The network that `ref` means: an ID, a name, the beginning of an ID, in this order.

        Raises:
            NetworkNotFound, AmbiguousNetwork: in Docker's words.
        """
        found = self.get(ref) or self.named(ref)
        if found is not None:
            return found
        matches = [network for network in self.all() if ref and network.id.startswith(ref)]
        if len(matches) > 1:
            raise AmbiguousNetwork(f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)")
        if not matches:
            raise NetworkNotFound(f"network {ref} not found")
        return matches[0]

    def add(self, network: Network) -> None:
        """Show a new network to everyone, or a changed one in place of what it was.

        Raises:
            NetworkExists: another one has its name.
        """
        with self._lock:
            if any(other.name == network.name and other.id != network.id for other in self._networks.values()):
                raise NetworkExists(f"network with name {network.name} already exists")
            self._networks[network.id] = network

    def drop(self, network_id: str) -> None:
        """Forget one."""
        with self._lock:
            self._networks.pop(network_id, None)
