"""How much a container wrote, and how much its whole tree holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamina.container.model import Container
from lamina.container.parts import Parts
from lamina.spec.digest import Digest
from lamina.volume.store import usage


def sizes(container: Container, parts: Parts) -> tuple[int, int]:
    """Bytes in the writable layer, and in all layers together; counted in a worker."""
    written = int(parts.workers.run("lamina.container.sizes:measure", {"path": container.upper})["bytes"])
    below = sum(facts.content_size for facts in parts.layers.chain(Digest.parse(container.layer))) if container.layer else 0
    return written, written + below


def measure(params: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Worker job: bytes in the files below `path`."""
    del fds, report
    return {"bytes": usage(params["path"])}
