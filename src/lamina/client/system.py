"""The engine itself, its volumes, networks and build cache."""

from __future__ import annotations

from lamina.client.text import document, query, quoted
from lamina.client.transport import Transport

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterator

Pairs = list[tuple[str, str]]


class System:
    """Facts about the engine, and what belongs to no image or container."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def version(self) -> dict[str, object]:
        """Versions of the engine and of its API."""
        return document(self._transport.request("GET", "/version").read())

    def ping(self) -> dict[str, str]:
        """The headers of a ping."""
        return self._transport.request("GET", "/_ping").headers

    def info(self) -> dict[str, object]:
        """Docker's description of the engine."""
        return document(self._transport.request("GET", "/info").read())

    def details(self) -> dict[str, object]:
        """Lamina's own description: root, driver and the reason for it."""
        return document(self._transport.request("GET", "/lamina/info").read())

    def df(self) -> dict[str, object]:
        """Disk use."""
        return document(self._transport.request("GET", "/system/df").read())

    def check(self, *, repair: bool) -> Iterator[dict[str, object]]:
        """What is wrong with the engine's data, as it is found."""
        return self._transport.request("POST", f"/lamina/system/check{'?repair=1' if repair else ''}").lines()

    def events(self, pairs: Pairs) -> Iterator[dict[str, object]]:
        """Events as they happen."""
        return self._transport.request("GET", f"/events{query(pairs)}").lines()

    def login(self, auth: dict[str, object]) -> dict[str, object]:
        """Check credentials against their registry: `Status`, `IdentityToken`."""
        return self._transport.post("/auth", auth)

    def inspect(self, kind: str, name: str) -> dict[str, object]:
        """A volume or network (`kind` is volumes or networks)."""
        return document(self._transport.request("GET", f"/{kind}/{quoted(name)}").read())

    def volumes(self, pairs: Pairs) -> list[dict[str, object]]:
        """Volumes as rows."""
        found = document(self._transport.request("GET", f"/volumes{query(pairs)}").read()).get("Volumes")
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def networks(self, pairs: Pairs) -> list[dict[str, object]]:
        """Networks as rows."""
        found = self._transport.get(f"/networks{query(pairs)}")
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def create_volume(self, options: dict[str, object]) -> str:
        """Create a volume; its name."""
        return str(self._transport.post("/volumes/create", options).get("Name", ""))

    def remove_volume(self, name: str, *, force: bool) -> None:
        """Remove a volume nobody uses."""
        self._transport.delete(f"/volumes/{quoted(name)}{'?force=1' if force else ''}")

    def create_network(self, request: dict[str, object]) -> dict[str, object]:
        """Create a network; its `Id` and a `Warning`."""
        return self._transport.post("/networks/create", request)

    def remove_network(self, name: str) -> None:
        """Remove a network that nobody uses."""
        self._transport.delete(f"/networks/{quoted(name)}")

    def network_act(self, name: str, action: str, request: dict[str, object]) -> None:
        """Connect or disconnect a container."""
        self._transport.request("POST", f"/networks/{quoted(name)}/{action}", request).close()

    def prune(self, kind: str, pairs: Pairs) -> dict[str, object]:
        """Remove what is unused of one kind: containers, images, volumes, networks or build."""
        return self._transport.post(f"/{kind}/prune{query(pairs)}")

    def plan_prune(self, pairs: Pairs) -> dict[str, object]:
        """What prunes would remove and free; only Lamina can tell."""
        return document(self._transport.request("GET", f"/lamina/prune{query(pairs)}").read())
