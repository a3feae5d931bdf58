"""What removals ask of layers and blobs, as small protocols: of those that are here, or of copies of what is known (`supposing`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from lamina.content.store import BlobInfo
from lamina.image.model import LayerFacts
from lamina.spec.digest import Digest


class Stacks(Protocol):
    """See `image.layers.Layers`."""

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def all(self) -> Sequence[LayerFacts]: ...

    def has(self, layer: Digest) -> bool: ...

    def chain(self, layer: Digest | None) -> Sequence[LayerFacts]: ...

    def uses(self, blob: Digest) -> bool: ...

    def trim(self, tops: Iterable[Digest]) -> None: ...

    def remove(self, layers: Sequence[Digest]) -> None: ...


class Blobs(Protocol):
    """See `content.store.ContentStore`."""

    def walk(self) -> Iterator[BlobInfo]: ...

    def delete(self, digest: Digest) -> int: ...
