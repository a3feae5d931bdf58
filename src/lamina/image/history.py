"""history: an image's steps, newest first, each with the layer and the image that stand behind it."""

from __future__ import annotations

from lamina.image.catalog import Catalog
from lamina.image.layers import Layers
from lamina.image.lookup import timestamp
from lamina.image.model import HistoryEntry, Image, LayerFacts, LayerNote
from lamina.spec.config import History, ImageConfig
from lamina.spec.digest import Digest


def history(catalog: Catalog, layers: Layers, image: Image) -> list[HistoryEntry]:
    """One entry per step. An image without history gets one per layer; steps beyond the layers count as empty."""
    chain = list(layers.chain(image.layers[-1])) if image.layers else []
    steps = image.config.history or tuple(History(created=facts.created, created_by=facts.created_by) for facts in chain)
    stacked = iter(chain)
    entries = [_entry(step, None if step.empty_layer else next(stacked, None)) for step in steps]
    entries.reverse()
    return _with_images(catalog, image, entries)


def notes(config: ImageConfig) -> list[LayerNote]:
    """What the history says of each layer, base first; as many as there are layers. What no command made is told by its comment."""
    steps = [step for step in config.history if not step.empty_layer]
    steps += [History(created=config.created)] * (len(config.rootfs.diff_ids) - len(steps))
    told = steps[: len(config.rootfs.diff_ids)]
    return [LayerNote(step.created, step.created_by or step.comment, instruction(step.created_by) or step.comment) for step in told]


def instruction(created_by: str) -> str:
    """The Dockerfile's instruction that a history entry's `created_by` tells of, as far as it can be told."""
    text = created_by.removesuffix(" # buildkit").strip()
    shell, nop, rest = text.partition("#(nop)")
    if nop and shell.startswith("/bin/sh -c"):
        return rest.strip()
    if text.startswith("/bin/sh -c "):
        return "RUN " + text.removeprefix("/bin/sh -c ")
    return text


def _entry(step: History, facts: LayerFacts | None) -> HistoryEntry:
    size = facts.content_size if facts else 0
    return HistoryEntry("<missing>", int(timestamp(step.created)), step.created_by, (), size, step.comment, facts.id if facts else None)


def _with_images(catalog: Catalog, image: Image, entries: list[HistoryEntry]) -> list[HistoryEntry]:
    """The same entries, those with an ID and names at which the image or one of its parents here ends."""
    known: Image | None = image
    named: list[HistoryEntry] = []
    for entry in entries:
        if known is None:
            named.append(entry)
            continue
        tags = tuple(name.familiar for name in known.names)
        named.append(HistoryEntry(str(known.id), entry.created, entry.created_by, tags, entry.size, entry.comment, entry.layer))
        known = _one_step_up(catalog, known)
    return named


def _one_step_up(catalog: Catalog, image: Image) -> Image | None:
    """The parent if it is here and exactly one step away."""
    parent: Digest | None = image.parent
    if parent is None:
        return None
    for found in catalog.starting_with(parent.encoded):
        if len(found.config.history) == len(image.config.history) - 1:
            return found
    return None
