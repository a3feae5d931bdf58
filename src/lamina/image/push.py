"""Push: layers compressed (or the very blobs a pull brought), uploaded where they are missing, then the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.spec.descriptor import Descriptor
from lamina.spec.progress import Sink, silent
from lamina.spec.reference import Reference

if TYPE_CHECKING:
    from lamina.content import ContentStore
    from lamina.distribution.auth import Auth
    from lamina.distribution.client import Registries
    from lamina.image.layers import Layers
    from lamina.image.store import Images
    from lamina.worker import Workers


class Pusher:
    """Takes images to registries. Thread-safe; one call's layers go in parallel, at most `parallel` at once."""

    def __init__(
        self, registries: Registries, content: ContentStore, layers: Layers, images: Images, workers: Workers, *, parallel: int = 3
    ) -> None:
        self._registries, self._content, self._layers, self._images, self._workers = registries, content, layers, images, workers
        self._parallel = parallel

    def push(self, reference: Reference, *, all_tags: bool = False, auth: Auth | None = None, sink: Sink = silent) -> list[Descriptor]:
        """Upload the image named `reference` (`latest` without a tag); with `all_tags`, every local tag of its repository.

        Returns the manifests' descriptors in the order of the tags. Each is recorded as a digest of the image.

        Raises:
            NotFound: no image here has that name.
            Unauthorized, Forbidden, Unavailable: what the registry said, or that it said nothing.
        """
        raise NotImplementedError
