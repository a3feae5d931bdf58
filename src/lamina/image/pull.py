"""Pull: from a reference to verified blobs, registered layers and a name that points at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, silent
from lamina.spec.reference import Reference

if TYPE_CHECKING:
    from lamina.content import ContentStore
    from lamina.distribution.auth import Auth
    from lamina.distribution.client import Registries
    from lamina.image.layers import Layers
    from lamina.image.store import Image, Images


class Puller:
    """Brings images here. Thread-safe; one call's layers come in parallel, at most `parallel` at once."""

    def __init__(
        self, registries: Registries, content: ContentStore, layers: Layers, images: Images, *, host: Platform, parallel: int = 3
    ) -> None:
        self._registries, self._content, self._layers, self._images = registries, content, layers, images
        self._host, self._parallel = host, parallel

    def pull(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        all_tags: bool = False,
        auth: Auth | None = None,
        sink: Sink = silent,
    ) -> list[Image]:
        """Bring `reference` here (`latest` where it has neither tag nor digest) and point its name at it.

        The name moves only when every byte is here and verified. A sink that raises stops the work; what was
        downloaded until then is kept and resumed by the next pull. Returns one image a tag.

        Raises:
            NotFound, Unauthorized, Unavailable: what the registry said, or that it said nothing.
            Corrupt: bytes do not have their digest, or a layer not its diff ID.
        """
        raise NotImplementedError
