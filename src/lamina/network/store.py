"""Networks on disk: ROOT/networks/<id>.json, one per network, written before its bridge is made and removed after it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict

from lamina.network.model import Network, Pool


class NetworkStore:
    """The files under `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def save(self, network: Network) -> None:
        """Write one, beside its place and renamed."""
        os.makedirs(self.root, mode=0o711, exist_ok=True)
        path = f"{self.root}/{network.id}.json"
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump({"version": 1, **asdict(network)}, file)
        os.rename(f"{path}.new", path)

    def remove(self, network_id: str) -> None:
        """Forget one; absent is fine."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self.root}/{network_id}.json")

    def load(self) -> list[Network]:
        """All of them, the oldest first; files that cannot be read are passed over."""
        found = []
        with suppress(FileNotFoundError):
            for name in os.listdir(self.root):
                if name.endswith(".json"):
                    with suppress(OSError, ValueError, KeyError, TypeError):
                        found.append(self._read(f"{self.root}/{name}"))
        return sorted(found, key=lambda network: network.created_ns)

    def _read(self, path: str) -> Network:
        with open(path, encoding="utf-8") as file:
            document = dict(json.load(file))
        if document.pop("version") != 1:
            raise ValueError("network of another version")
        pools = tuple(Pool(**pool) for pool in document.pop("pools"))
        return Network(**document, pools=pools)
