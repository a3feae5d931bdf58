"""Snapshots of what containers wrote."""

from __future__ import annotations

from lamina.client.text import query, quoted
from lamina.client.transport import Transport

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterator

Rows = list[dict[str, object]]


class Snapshots:
    """A `container` is a container's name or ID, a `name` a snapshot's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, container: str) -> Rows:
        """Those of a container, the oldest first."""
        found = self._transport.get(_path(container))
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def create(self, container: str, name: str) -> dict[str, object]:
        """Take one; `Id`, `Name` and more of it."""
        return self._transport.post(f"{_path(container)}{query([('name', name)] if name else [])}")

    def remove(self, container: str, name: str) -> None:
        """Forget one."""
        self._transport.delete(f"{_path(container)}/{quoted(name)}")

    def watch(self, container: str, *, existing: bool) -> Iterator[dict[str, object]]:
        """What a container changes, as it does; `existing`: first what it has changed already."""
        pairs = [("existing", "1")] if existing else []
        return self._transport.request("GET", f"/lamina/containers/{quoted(container)}/watch{query(pairs)}").lines()

    def rollback(self, container: str, name: str) -> None:
        """Make a container what it was."""
        self._transport.request("POST", f"/lamina/containers/{quoted(container)}/rollback{query([('snapshot', name)])}").close()


def _path(container: str) -> str:
    return f"/lamina/containers/{quoted(container)}/snapshots"
