"""What a removal would do, by doing it to copies of what is known: nothing on the disk changes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from lamina.content.store import DOCUMENT_LIMIT, BlobInfo, ContentStore
from lamina.image.known import Known
from lamina.image.layerbytes import blobs_of, files_of
from lamina.image.leases import Leases
from lamina.image.ledger import Key
from lamina.image.model import LayerFacts
from lamina.image.stacks import Blobs, Stacks
from lamina.snapshot.protocol import LayerNotFound
from lamina.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Stock:
    """What removals take from. `documents` are read, `size` is `ledger.on_disk`'s."""

    catalog: Known
    layers: Stacks
    content: Blobs
    leases: Leases
    documents: ContentStore
    size: Callable[[Key], int]


def supposed(stock: Stock, leaving: Iterable[str] = ()) -> Stock:
    """A copy of the stock from which things may be removed, as if the owners `leaving` had unpinned theirs."""
    with stock.catalog.lock, stock.layers.lock:
        content = _Blobs(stock.content, stock.documents)
        catalog = _Catalog(stock.catalog, content)
        layers = _Layers(stock.layers, content)
    return Stock(catalog, layers, content, stock.leases.without(leaving), stock.documents, cache(stock.size))


class _Blobs:
    def __init__(self, content: Blobs, documents: ContentStore) -> None:
        self._documents = documents
        self._left = {blob.digest: blob for blob in content.walk()}

    def walk(self) -> Iterator[BlobInfo]:
        return iter(tuple(self._left.values()))

    def delete(self, digest: Digest) -> int:
        return blob.size if (blob := self._left.pop(digest, None)) is not None else 0

    def read(self, digest: Digest, limit: int = DOCUMENT_LIMIT) -> bytes:
        return self._documents.read(digest, limit)


class _Catalog(Known):
    def __init__(self, catalog: Known, content: _Blobs) -> None:
        super().__init__(catalog.directory, content)
        self._images.update((image.id, image) for image in catalog.all())
        self._names.update((name, (owner, resolved)) for name, owner, resolved in catalog.names())


class _Layers:
    def __init__(self, layers: Stacks, content: _Blobs) -> None:
        self.lock = threading.RLock()
        self._content = content
        self._facts = {facts.id: facts for facts in layers.all()}
        self._uses = Counter(file for facts in self._facts.values() for file in files_of(facts))

    def all(self) -> Sequence[LayerFacts]:
        return tuple(self._facts.values())

    def has(self, layer: Digest) -> bool:
        return layer in self._facts

    def chain(self, layer: Digest | None) -> Sequence[LayerFacts]:
        stack: list[LayerFacts] = []
        while layer is not None:
            if layer not in self._facts:
                raise LayerNotFound(f"no such layer: {layer}")
            stack.append(self._facts[layer])
            layer = stack[-1].parent
        return tuple(reversed(stack))

    def uses(self, blob: Digest) -> bool:
        return self._uses[blob] > 0

    def trim(self, tops: Iterable[Digest]) -> None: ...

    def remove(self, layers: Sequence[Digest]) -> None:
        gone = [self._facts.pop(layer) for layer in layers if layer in self._facts]
        for facts in gone:
            self._uses.subtract(files_of(facts))
        for blob in (blob for facts in gone for blob in blobs_of(facts) if not self._uses[blob]):
            self._content.delete(blob)
