"""A file's content out of the layer that has it: from the extracted tree, from the tar, or from a compressed form of it."""

from __future__ import annotations

from collections.abc import Iterator

from lamina.image.layers import Layers
from lamina.image.model import LayerFacts
from lamina.layer.content import Place, through_tarfile
from lamina.layer.index import Entry


def content(layers: Layers, facts: LayerFacts, entry: Entry) -> Iterator[bytes]:
    """The bytes of a regular file. See `Place.read`.

    Raises:
        Corrupt: what is stored ends early.
    """
    found = place(layers, facts)
    return found.read(entry) if found is not None else through_tarfile(layers.open_tar(facts.diff_id), entry)


def place(layers: Layers, facts: LayerFacts) -> Place | None:
    """Where a layer's bytes lie; None where only a compressed tar is here."""
    tree, tar = layers.driver.tree(facts.name), layers.tar_blob(facts.diff_id)
    return None if tree is None and tar is None else Place(tree, tar)
