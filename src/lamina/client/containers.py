"""Containers; `running` has what `run` and `exec` ask for."""

from __future__ import annotations

from lamina.client.running import wait_path
from lamina.client.text import document, query, quoted
from lamina.client.transport import Response, Transport
from lamina.errors import NotFound

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamina.client.transport import Piece

Pairs = list[tuple[str, str]]
Rows = list[dict[str, object]]


class Containers:
    """What the engine does with containers. A `name` is a container's name or ID."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def start(self, name: str, *, checkpoint: str = "", detach_keys: str = "", verify: bool = False) -> None:
        """Start a container; returns once its command runs. `verify`: its layers' bytes are looked at before."""
        said = (("checkpoint", checkpoint), ("detachKeys", detach_keys), ("verify", "1" if verify else ""))
        pairs = [(key, value) for key, value in said if value]
        self._transport.request("POST", f"/containers/{quoted(name)}/start{query(pairs)}").close()

    def waiting(self, name: str, condition: str = "") -> Response:
        """Ask to wait; returns when the engine listens, so that nothing after this call is missed."""
        return self._transport.request("POST", wait_path(name, condition))

    def act(self, name: str, action: str, pairs: Pairs | None = None) -> None:
        """One of stop, kill, restart, pause, unpause, rename, resize and others that answer nothing."""
        self._transport.request("POST", f"/containers/{quoted(name)}/{action}{query(pairs or [])}").close()

    def inspect(self, name: str, *, size: bool = False) -> dict[str, object]:
        """Everything known of one container."""
        return document(self._transport.request("GET", f"/containers/{quoted(name)}/json{'?size=1' if size else ''}").read())

    def list(self, pairs: Pairs) -> Rows:
        """Containers as rows; `pairs` are the query: all, limit, size, filters."""
        rows = self._transport.get(f"/containers/json{query(pairs)}")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def get(self, name: str, what: str, pairs: Pairs | None = None) -> object:
        """The JSON of a part: top, changes."""
        return self._transport.get(f"/containers/{quoted(name)}/{what}{query(pairs or [])}")

    def stream(self, name: str, what: str, pairs: Pairs | None = None) -> Response:
        """The bytes of a part: logs, export, archive."""
        return self._transport.request("GET", f"/containers/{quoted(name)}/{what}{query(pairs or [])}")

    def stat(self, name: str, path: str) -> str:
        """The `X-Docker-Container-Path-Stat` of a path: base64 of a JSON object."""
        try:
            answer = self._transport.request("HEAD", f"/containers/{quoted(name)}/archive{query([('path', path)])}")
        except NotFound:
            # an answer to HEAD has no body that could say which of both is missing
            raise NotFound(f"no such container or path: {name}:{path}") from None
        return answer.headers.get("x-docker-container-path-stat", "")

    def put(self, name: str, pairs: Pairs, pieces: Iterable[Piece]) -> None:
        """Unpack a tar under a directory of the container."""
        connection = self._transport.connect()
        connection.upload(
            "PUT", f"/containers/{quoted(name)}/archive{query(pairs)}", pieces, headers=("Content-Type: application/x-tar",)
        ).read()

    def remove(self, name: str, pairs: Pairs) -> None:
        """Remove a container; `pairs`: force, v, link."""
        self._transport.delete(f"/containers/{quoted(name)}{query(pairs)}")

    def update(self, name: str, changes: dict[str, object]) -> dict[str, object]:
        """Change limits and the restart policy; `Warnings`."""
        return self._transport.post(f"/containers/{quoted(name)}/update", changes)

    def resize(self, name: str, rows: int, columns: int, *, program: bool = False) -> None:
        """Tell a terminal's size; `program`: the name is that of an exec."""
        where = "exec" if program else "containers"
        self._transport.request("POST", f"/{where}/{quoted(name)}/resize?h={rows}&w={columns}").close()

    def prune(self, pairs: Pairs) -> dict[str, object]:
        """Remove stopped containers: `ContainersDeleted`, `SpaceReclaimed`."""
        return self._transport.post(f"/containers/prune{query(pairs)}")

    def logs(self, name: str, pairs: Pairs) -> Iterator[bytes]:
        """The log as it comes, framed unless the container has a terminal."""
        return self.stream(name, "logs", pairs).pieces()
