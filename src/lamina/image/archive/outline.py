"""What an archive would bring, told by its documents: its layers as a tree. Nothing is staged, nothing is kept.

The layout before Docker 1.10 does not say what its layers are: the same one has another ID in each image. Those are hashed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import BinaryIO

from lamina.image.archive import old
from lamina.image.archive.contents import Contents, read
from lamina.image.archive.load import described
from lamina.image.archive.outer import OuterMember
from lamina.image.archive.source import Source
from lamina.image.history import instruction, notes
from lamina.image.model import InvalidArchive, LayerNote
from lamina.image.tarbytes import compression_of
from lamina.spec.chain import chain_ids
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.v1image import V1Image

_OLD_LAYER = "/layer.tar"
_PIECE = 1 << 20


@dataclass(slots=True)
class OutlinedLayer:
    """A layer of an archive. `id` is the chain ID; where an old layout has a layer compressed, that layout's, and no `diff_id`.

    `size` is its bytes in the archive, compressed or not (-1: the archive names the layer, but has it not); `shared_by` and
    `images` as `model.TreeNode`'s.
    """

    id: str
    diff_id: str
    size: int
    note: LayerNote
    shared_by: int = 0
    images: list[str] = field(default_factory=list)
    children: list[OutlinedLayer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Stack:
    """An image: its ID (an old layout's own there), its names, and its layers, base first."""

    id: str
    names: tuple[str, ...]
    layers: tuple[OutlinedLayer, ...]


def outline(given: int | BinaryIO, wanted: Platform) -> list[OutlinedLayer]:
    """The layers of an archive that is a file or a stream, base layers at the roots, in the archive's order.

    Of several platforms all are in it; the names point to the one for `wanted`. A stream is read to its end.

    Raises:
        InvalidArchive, Corrupt: it is not one, or says what cannot be.
    """
    contents, source = Contents(), Source(given)
    hashes: dict[str, Digest] = {}

    def passed_over(member: OuterMember) -> None:
        if member.name.endswith(_OLD_LAYER) and not compression_of(source.peek(min(member.size, 6))):
            hashes[member.name] = _hashed(source.read, member.size)
        else:
            source.skip(member.size)

    read(source, contents, passed_over)
    if "index.json" in contents.documents or "manifest.json" in contents.documents:
        return _joined(_stacks(contents, wanted))
    return _joined(_old_stacks(contents, hashes))


def _hashed(some: Callable[[int], bytes], size: int) -> Digest:
    state = hashlib.sha256()
    while size:
        piece = some(min(size, _PIECE))
        if not piece:
            raise InvalidArchive("the archive ends in the middle")
        state.update(piece)
        size -= len(piece)
    return Digest("sha256", state.hexdigest())


def _stacks(contents: Contents, wanted: Platform) -> Iterator[_Stack]:
    for archived in described(contents, wanted, only=False):
        names = [tuple(name.familiar for name in archived.names)] + [()] * (len(archived.images) - 1)
        for image, its_names in zip(archived.images, names, strict=True):
            config = image.config
            rows = zip(chain_ids(config.diff_ids), config.diff_ids, image.members, notes(config), strict=True)
            layers = (OutlinedLayer(str(chain), str(diff), _size(contents, member), note) for chain, diff, member, note in rows)
            yield _Stack(str(image.id), its_names or (image.id.short,), tuple(layers))


def _old_stacks(contents: Contents, hashes: Mapping[str, Digest]) -> Iterator[_Stack]:
    for chain in old.chains(contents, contents.folders()):
        diff_ids = [_diff_id(contents, hashes, contents.name(member)) for member in chain.members]
        known = [diff_id for diff_id in diff_ids if diff_id is not None]
        whole = len(known) == len(diff_ids)
        ids = [str(identity) for identity in chain_ids(known)] if whole else [f"sha256:{layer.id}" for layer in chain.layers]
        rows = zip(ids, diff_ids, chain.members, map(_old_note, chain.layers), strict=True)
        layers = (OutlinedLayer(identity, str(diff or ""), _size(contents, member), note) for identity, diff, member, note in rows)
        top = chain.layers[-1].id
        yield _Stack(top, tuple(name.familiar for name in chain.names) or (top[:12],), tuple(layers))


def _diff_id(contents: Contents, hashes: Mapping[str, Digest], name: str) -> Digest | None:
    """Of a layer of an old layout; None where it is compressed, or not there."""
    part = contents.parts.get(name)
    if part is None or compression_of(os.pread(part.fd, 6, part.offset)):
        return hashes.get(name)
    offsets = count(part.offset, _PIECE)
    return _hashed(lambda size: os.pread(part.fd, size, next(offsets)), part.size)


def _old_note(layer: V1Image) -> LayerNote:
    container = layer.document.get("container_config")
    command = container.get("Cmd") if isinstance(container, dict) else None
    words = [word for word in command if isinstance(word, str)] if isinstance(command, list) else []
    created, created_by, comment = layer.document.get("created"), " ".join(words), layer.document.get("comment")
    told = instruction(created_by) or (comment if isinstance(comment, str) else "")
    return LayerNote(created if isinstance(created, str) else "", created_by, told)


def _size(contents: Contents, member: str) -> int:
    name = contents.name(member)
    return contents.sizes.get(name, len(contents.documents[name]) if name in contents.documents else -1)


def _joined(stacks: Iterator[_Stack]) -> list[OutlinedLayer]:
    """One tree of all stacks. An image that comes twice counts once, under all its names."""
    images: dict[str, tuple[_Stack, dict[str, None]]] = {}
    known: dict[str, OutlinedLayer] = {}
    roots: list[OutlinedLayer] = []
    for stack in stacks:
        if stack.id not in images:
            images[stack.id] = (stack, {})
            _grow(stack.layers, known, roots)
        images[stack.id][1].update(dict.fromkeys(stack.names))
    for stack, names in images.values():
        if stack.layers:
            known[stack.layers[-1].id].images += names
    return roots


def _grow(layers: Sequence[OutlinedLayer], known: dict[str, OutlinedLayer], roots: list[OutlinedLayer]) -> None:
    level = roots
    for layer in layers:
        if layer.id not in known:
            known[layer.id] = layer
            level.append(layer)
        known[layer.id].shared_by += 1
        level = known[layer.id].children
