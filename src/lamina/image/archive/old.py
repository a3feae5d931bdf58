"""The layout before Docker 1.10 in an archive: which chains of layers are images: what `repositories` names, and what has no child.

repositories            {"name": {"tag": "<ID of the top layer>"}}
<ID>/VERSION  1.0       <ID>/json  see spec.v1image       <ID>/layer.tar
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamina.image.archive.plan import LAYERS_LIMIT, Members, decoded, reference
from lamina.image.model import InvalidArchive
from lamina.spec import v1image
from lamina.spec.config import InvalidConfig
from lamina.spec.reference import Reference
from lamina.spec.v1image import V1Image

_IMAGES_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Chain:
    """An image: its layers' descriptions, base first, and its names."""

    layers: tuple[V1Image, ...]
    names: tuple[Reference, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Where the layers' tars are."""
        return tuple(f"{layer.id}/layer.tar" for layer in self.layers)


def chains(members: Members, folders: Sequence[str]) -> list[Chain]:
    """The images of an archive whose `folders` hold a description each.

    Raises:
        InvalidArchive: a description is malformed, a parent is missing, or the parents go round in a circle.
    """
    layers = {folder: _described(members, folder) for folder in folders[:_IMAGES_LIMIT]}
    if not layers:
        raise InvalidArchive(
            "the archive has neither manifest.json nor index.json nor layers in folders", hint="a root file system is brought in by import"
        )
    found = [Chain(_chain(layers, top), tuple(names)) for top, names in _tops(members, layers).items()]
    reached = {layer.id for chain in found for layer in chain.layers}
    for identity in layers:
        if identity not in reached:  # All in a circle have a child: it is told here.
            _chain(layers, identity)
    return found


def _tops(members: Members, layers: Mapping[str, V1Image]) -> dict[str, list[Reference]]:
    """The top layers of images with their names, those without names last. Docker makes an image of each folder, too, and hides
    unnamed ones that have a child."""
    tops: dict[str, list[Reference]] = {}
    repositories = _object(decoded(members.document("repositories"), "repositories")) if members.has("repositories") else {}
    for repository, tags in repositories.items():
        for tag, top in _object(tags).items():
            if not isinstance(top, str) or top not in layers:
                raise InvalidArchive(f"repositories of the archive names a layer that is not there: {str(top)[:80]!r}")
            tops.setdefault(top, []).append(reference(f"{repository}:{tag}"))
    parents = {layer.parent for layer in layers.values()}
    return tops | {identity: [] for identity in layers if identity not in parents and identity not in tops}


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidArchive("repositories of the archive is malformed")
    return value


def _chain(layers: Mapping[str, V1Image], top: str) -> tuple[V1Image, ...]:
    chain: list[V1Image] = []
    seen: set[str] = set()
    identity = top
    while identity:
        if identity in seen:
            raise InvalidArchive(f"the layers of the archive go round in a circle at {identity[:12]}")
        if identity not in layers:
            raise InvalidArchive(f"the archive lacks the layer {identity[:12]}, on which others stand")
        seen.add(identity)
        chain.append(layers[identity])
        identity = layers[identity].parent
        if len(chain) > LAYERS_LIMIT:
            raise InvalidArchive(f"an image of the archive has more than {LAYERS_LIMIT} layers")
    return tuple(reversed(chain))


def _described(members: Members, folder: str) -> V1Image:
    if members.has(f"{folder}/VERSION") and members.document(f"{folder}/VERSION").strip() != v1image.VERSION:
        raise InvalidArchive(f"layer {folder[:12]} of the archive is of another version than 1.0")
    try:
        return v1image.parse(members.document(f"{folder}/json"), folder)
    except InvalidConfig as error:
        raise InvalidArchive(error.message) from None
