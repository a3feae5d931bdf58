"""images --tree: which layers images share, and what each has of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lamina.image.catalog import Catalog
from lamina.image.layers import Layers
from lamina.image.model import Image, LayerFacts, TreeNode
from lamina.image.telling import told
from lamina.spec.digest import Digest


def tree(catalog: Catalog, layers: Layers) -> list[TreeNode]:
    """All layers that images stand on, base layers first; images without layers are not in it."""
    images = catalog.all()
    used = {layer for image in images for layer in image.layers}
    listed = [image for image in images if image.names or not image.intermediate]  # a build's steps are nobody's images
    shared = Counter(layer for image in listed for layer in image.layers)
    ends: dict[Digest, list[str]] = {}
    for image in listed:
        if image.layers:
            ends.setdefault(image.layers[-1], []).extend(_shown(image))
    children: dict[Digest | None, list[LayerFacts]] = {}
    noted = {facts.id: facts for facts in layers.all()}
    words = _told(noted, listed)
    for facts in noted.values():
        if facts.id in used:
            children.setdefault(facts.parent, []).append(words.get(facts.id, facts))
    return list(_grow(layers, children, shared, ends))


def _told(noted: Mapping[Digest, LayerFacts], images: Sequence[Image]) -> dict[Digest, LayerFacts]:
    """Each layer in the words of an image that has it: as it is noted, if one of them says the same."""
    words: dict[Digest, LayerFacts] = {}
    for image in images:
        chain = [noted[layer] for layer in image.layers if layer in noted]
        for facts in told(image, chain) if len(chain) == len(image.layers) else ():
            if facts is noted[facts.id] or facts.id not in words:
                words[facts.id] = facts
    return words


def _grow(
    layers: Layers, children: dict[Digest | None, list[LayerFacts]], shared: Counter[Digest], ends: dict[Digest, list[str]]
) -> tuple[TreeNode, ...]:
    """The forest, built from the leaves down, since a stack may be higher than Python's own."""
    order: list[LayerFacts] = list(children.get(None, ()))
    for facts in order:
        order.extend(children.get(facts.id, ()))
    made: dict[Digest | None, list[TreeNode]] = {}
    for facts in reversed(order):
        above = tuple(sorted(made.pop(facts.id, ()), key=_order))
        node = TreeNode(facts, layers.usage(facts.id), shared[facts.id], tuple(sorted(ends.get(facts.id, ()))), above)
        made.setdefault(facts.parent, []).append(node)
    return tuple(sorted(made.get(None, ()), key=_order))


def _order(node: TreeNode) -> tuple[str, Digest]:
    return node.layer.created, node.layer.id


def _shown(image: Image) -> list[str]:
    return [name.familiar for name in image.names] or [image.id.short]
