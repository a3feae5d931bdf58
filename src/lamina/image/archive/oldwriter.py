"""The layout before Docker 1.10 in a tar: see archive.old."""

from __future__ import annotations

import msgspec

from lamina.errors import InvalidArgument
from lamina.image.archive.chosen import Chosen
from lamina.image.archive.pieces import Piece, TarPieces
from lamina.image.layers import Layers
from lamina.image.lookup import created_seconds
from lamina.image.model import Image, LayerFacts
from lamina.spec import v1image
from lamina.spec.digest import Digest


class OldWriter:
    """Collects images; of several platforms, the first. A tar that came before is a symbolic link."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._tar = TarPieces()
        self._first: dict[Digest, str] = {}
        self._folders: set[str] = set()
        self._repositories: dict[str, dict[str, str]] = {}

    def add(self, chosen: Chosen) -> None:
        """Add an image under its names."""
        image = chosen.images[0]
        if not image.layers:
            raise InvalidArgument(f"image {image.id.short} has no layers: the v1 layout cannot hold it")
        stack = self._layers.chain(image.layers[-1])
        ids = _ids(image, stack)
        for identity, facts, document in zip(ids, stack, v1image.documents_of(image.config, ids), strict=True):
            self._folder(identity, facts, document, created_seconds(image))
        for name in chosen.names:
            self._repositories.setdefault(name.familiar_name, {})[name.tag] = ids[-1]

    def finished(self) -> tuple[Piece, ...]:
        """The archive."""
        if self._repositories:
            self._tar.document("repositories", msgspec.json.encode(self._repositories, order="sorted"), 0)
        return self._tar.finished()

    def _folder(self, identity: str, facts: LayerFacts, document: bytes, moment: int) -> None:
        if identity in self._folders:
            return
        self._folders.add(identity)
        self._tar.directory(f"{identity}/", moment)
        self._tar.document(f"{identity}/VERSION", v1image.VERSION, moment)
        self._tar.document(f"{identity}/json", document, moment)
        path = f"{identity}/layer.tar"
        if facts.diff_id in self._first:
            self._tar.link(path, f"../{self._first[facts.diff_id]}", moment)
            return
        self._first[facts.diff_id] = path
        self._tar.file(path, Piece(layer=facts.diff_id, size=facts.tar_size), moment)


def _ids(image: Image, stack: tuple[LayerFacts, ...]) -> list[str]:
    """An ID a layer, base first: of the stack, and at the top of the configuration too, which only the top one has."""
    ids: list[str] = []
    for facts in stack:
        top = f" {image.id}" if facts is stack[-1] else ""
        ids.append(Digest.of(f"{ids[-1] if ids else ''} {facts.id}{top}".encode()).encoded)
    return ids
