"""How much a container wrote, and how much its whole tree holds."""

from __future__ import annotations

from lamina.container.model import Container
from lamina.container.parts import Parts
from lamina.spec.digest import Digest


def sizes(container: Container, parts: Parts) -> tuple[int, int]:
    """Bytes in the writable layer, and in all layers together; counted in a worker."""
    layer = Digest.parse(container.layer) if container.layer else None
    written = parts.layers.written(layer, container.upper)
    return written, written + sum(facts.content_size for facts in parts.layers.chain(layer))
