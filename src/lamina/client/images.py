"""Images: Docker's routes, and Lamina's own about layers and files."""

from __future__ import annotations

from lamina.client.text import document, query, quoted
from lamina.client.transport import Response, Transport

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamina.client.transport import Piece

    Pieces = Iterable[Piece]

Pairs = list[tuple[str, str]]
Rows = list[dict[str, object]]


class Images:
    """What the engine does with images. A `name` is a reference, an ID or its prefix."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, pairs: Pairs) -> Rows:
        """Images as rows; `pairs` are the query: all, filters, digests."""
        return _rows(self._transport.get(f"/images/json{query(pairs)}"))

    def inspect(self, name: str, platform: str = "") -> dict[str, object]:
        """Everything known of one image. `platform` is JSON."""
        pairs = [("platform", platform)] if platform else []
        return document(self._transport.request("GET", f"/images/{quoted(name, '/:@')}/json{query(pairs)}").read())

    def history(self, name: str, platform: str = "") -> Rows:
        """Its history, newest first. `platform` is JSON."""
        pairs = [("platform", platform)] if platform else []
        return _rows(self._transport.get(f"/images/{quoted(name, '/:@')}/history{query(pairs)}"))

    def tag(self, name: str, repository: str, tag: str) -> None:
        """Give it another name; without a tag the engine takes `latest`."""
        self._transport.post(f"/images/{quoted(name, '/:@')}/tag{query([('repo', repository), ('tag', tag)])}")

    def remove(self, name: str, pairs: Pairs) -> Rows:
        """Remove a name or an image: `Untagged` and `Deleted` rows."""
        return _rows(self._transport.request("DELETE", f"/images/{quoted(name, '/:@')}{query(pairs)}").json())

    def pull(self, pairs: Pairs, auth: str) -> Iterator[dict[str, object]]:
        """Pull; progress messages. `auth` is the X-Registry-Auth value."""
        return self._transport.request("POST", f"/images/create{query(pairs)}", headers=(f"X-Registry-Auth: {auth}",)).lines()

    def push(self, name: str, tag: str, auth: str, platform: str = "") -> Iterator[dict[str, object]]:
        """Push one tag, or all of a repository where it is empty; progress messages. `platform` is JSON."""
        pairs = ([("tag", tag)] if tag else []) + ([("platform", platform)] if platform else [])
        path = f"/images/{quoted(name, '/:@')}/push{query(pairs)}"
        return self._transport.request("POST", path, headers=(f"X-Registry-Auth: {auth}",)).lines()

    def load(self, pieces: Pieces, length: int | None, *, quiet: bool, platform: str = "") -> Response:
        """Load an archive; JSON messages, or bytes to be shown as they are. `platform` is JSON."""
        pairs = [("quiet", str(int(quiet)))] + ([("platform", platform)] if platform else [])
        return self._upload(f"/images/load{query(pairs)}", pieces, length)

    def import_(self, pairs: Pairs, pieces: Pieces, length: int | None) -> Iterator[dict[str, object]]:
        """Make an image of a root file system's tar; progress messages."""
        return self._upload(f"/images/create{query(pairs)}", pieces, length).lines()

    def import_url(self, pairs: Pairs) -> Iterator[dict[str, object]]:
        """Make an image of a tar the engine fetches; progress messages."""
        return self._transport.request("POST", f"/images/create{query(pairs)}").lines()

    def _upload(self, path: str, pieces: Pieces, length: int | None) -> Response:
        return self._transport.connect().upload("POST", path, pieces, headers=("Content-Type: application/x-tar",), length=length)

    def save(self, names: Iterable[str], platform: str = "", form: str = "docker") -> Response:
        """An archive of these images. `platform` is JSON; other forms than Docker's only Lamina has."""
        pairs = [("names", name) for name in names] + ([("platform", platform)] if platform else [])
        if form == "docker":
            return self._transport.request("GET", f"/images/get{query(pairs)}")
        return self._transport.request("GET", f"/lamina/images/save{query([*pairs, ('format', form)])}")

    def build(self, pairs: Pairs, pieces: Pieces, registries: str) -> Iterator[dict[str, object]]:
        """Build from a context's tar; progress messages. `registries` is the X-Registry-Config value."""
        headers = ("Content-Type: application/x-tar", f"X-Registry-Config: {registries}")
        return self._transport.connect().upload("POST", f"/build{query(pairs)}", pieces, headers=headers).lines()

    def commit(self, pairs: Pairs) -> str:
        """Make an image of a container; its ID."""
        return str(self._transport.post(f"/commit{query(pairs)}", {}).get("Id", ""))

    def search(self, pairs: Pairs, auth: str) -> Rows:
        """Repositories of a registry that match a term."""
        return _rows(self._transport.request("GET", f"/images/search{query(pairs)}", headers=(f"X-Registry-Auth: {auth}",)).json())

    def prune(self, pairs: Pairs) -> dict[str, object]:
        """Remove unused images: `ImagesDeleted`, `SpaceReclaimed`."""
        return self._transport.post(f"/images/prune{query(pairs)}")

    def tree(self) -> dict[str, object]:
        """The tree of layers across images: `layers`, each after its `parent`."""
        return document(self._transport.request("GET", "/lamina/images/tree").read())

    def outline(self, pieces: Pieces, length: int | None) -> dict[str, object]:
        """The tree of layers of an archive, which is not loaded: `layers`, as `tree`'s."""
        return document(self._upload("/lamina/images/tree", pieces, length).read())

    def layers(self, name: str) -> dict[str, object]:
        """An image's layers, base first."""
        return document(self._transport.request("GET", f"/lamina/images/{quoted(name, '/:@')}/layers").read())

    def which(self, name: str, path: str) -> dict[str, object]:
        """The layer and instruction that a file of the image comes from."""
        return document(self._file(name, "which", path).read())

    def ls(self, name: str, path: str) -> dict[str, object]:
        """A directory of the image."""
        return document(self._file(name, "ls", path).read())

    def cat(self, name: str, path: str) -> Response:
        """A file of the image."""
        return self._file(name, "cat", path)

    def _file(self, name: str, what: str, path: str) -> Response:
        return self._transport.request("GET", f"/lamina/images/{quoted(name, '/:@')}/{what}{query([('path', path)])}")

    def blame(self, name: str, pairs: Pairs) -> Response:
        """Every entry of an image or a container with the layer that last touched it."""
        return self._transport.request("GET", f"/lamina/images/{quoted(name, '/:@')}/blame{query(pairs)}")

    def squash(self, name: str, pairs: Pairs) -> str:
        """Make an image whose layers are one; its ID."""
        return str(self._transport.post(f"/lamina/images/{quoted(name, '/:@')}/squash{query(pairs)}").get("Id", ""))

    def mounts(self) -> dict[str, object]:
        """What is mounted on the engine's host: `mounts`."""
        return document(self._transport.request("GET", "/lamina/mounts").read())

    def mount(self, name: str, target: str) -> dict[str, object]:
        """Mount an image or a layer at a directory of the engine's host."""
        return self._transport.post(f"/lamina/mounts{query([('reference', name), ('target', target)])}")

    def unmount(self, target: str, *, force: bool) -> dict[str, object]:
        """Unmount: `mounts` that are gone."""
        return document(
            self._transport.request("DELETE", f"/lamina/mounts{query([('target', target), ('force', str(int(force)))])}").read()
        )

    def find(self, pairs: Pairs) -> Response:
        """Which images show a path that matches; `pairs` are the query."""
        return self._transport.request("GET", f"/lamina/images/find{query(pairs)}")

    def diff(self, pairs: Pairs) -> Response:
        """What differs from image `a` to image `b`; `pairs` are the query."""
        return self._transport.request("GET", f"/lamina/images/diff{query(pairs)}")


def _rows(value: object) -> Rows:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
