"""How much a container wrote, and how much its whole tree holds."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.container.model import Container
from lamina.container.parts import Parts
from lamina.spec.digest import Digest


def sizes(container: Container, parts: Parts) -> tuple[int, int]:
    """Bytes in the writable layer, and in all layers together; counted in a worker."""
    layer = Digest.parse(container.layer) if container.layer else None
    written = parts.layers.written(layer, container.writes)
    return written, written + sum(facts.content_size for facts in parts.layers.chain(layer))


def on_disk(paths: Sequence[str], parts: Parts) -> int:
    """Bytes on disk of directories; counted in a worker."""
    return sum(int(parts.workers.run("lamina.layer.jobs:tree_usage", {"path": path})["bytes"]) for path in paths)
