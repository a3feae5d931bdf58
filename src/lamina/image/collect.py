"""The garbage collector: what no image, no lease and no unfinished work needs goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lamina.image.known import Known
from lamina.image.leases import Leases
from lamina.image.model import Image, LayerFacts
from lamina.image.stacks import Blobs, Stacks
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Collected:
    """What went: chain IDs, top first."""

    layers: tuple[Digest, ...]


class Collector:
    """Marks from images, names and leases, and sweeps layers and blobs. Thread-safe."""

    def __init__(self, catalog: Known, layers: Stacks, content: Blobs, leases: Leases) -> None:
        self._catalog, self._layers, self._content, self._leases = catalog, layers, content, leases

    def collect(self) -> Collected:
        """Remove every layer and blob that nothing needs."""
        with self._catalog.lock:
            gone = self.collect_layers(facts.id for facts in self._layers.all())
            self._layers.trim({image.layers[-1] for image in self._catalog.all() if image.layers} | self._leases.kept())
            self._sweep_blobs()
            return gone

    def _sweep_blobs(self) -> None:
        """None goes while an operation is under way, whose blobs belong to nothing yet."""
        with self._leases.quiet() as quiet:
            if not quiet:
                self._leases.missed()
                return
            kept = self.needed_blobs()
            for blob in list(self._content.walk()):
                if blob.digest not in kept:
                    self._content.delete(blob.digest)

    def collect_layers(self, candidates: Iterable[Digest]) -> Collected:
        """Remove those of `candidates` that nothing needs, and what stands on them."""
        # Who finds a layer takes its lock and touches it: either the layer is gone before, or it stays.
        with self._catalog.lock, self._layers.lock:
            chosen, named = set(candidates), {layer for image in self._catalog.all() for layer in image.layers}
            leased = self._leased_layers(named)
            if left := leased & chosen:
                self._leases.missed(left)
            loose = {facts.id: facts for facts in self._layers.all() if facts.id not in named and facts.id not in leased}
            gone = _top_first(_with_those_above(chosen, loose))
            self._layers.remove(gone)
            return Collected(tuple(gone))

    def collect_blobs(self, candidates: Iterable[Digest]) -> int:
        """Remove those documents of `candidates` that nothing needs; returns the bytes freed."""
        with self._catalog.lock:
            gone = {digest for digest in set(candidates) - self._catalog.blobs() if not self._layers.uses(digest)}
            self._catalog.variants.forget(gone)
            return sum(self._leases.unless_kept(digest, self._content.delete) for digest in gone)

    def release(self, images: Iterable[Image], resolved: Iterable[Descriptor]) -> int:
        """Remove the documents of images and of what names stood for, as far as nothing else needs them; the bytes freed."""
        documents = {digest for image in images for digest in (image.id, image.manifest.digest)}
        return self.collect_blobs(documents.union(*(self._catalog.variants.documents(each) for each in resolved)))

    def _leased_layers(self, named: set[Digest]) -> set[Digest]:
        """Layers that leases keep, and all below them, but those that images name."""
        leased: set[Digest] = set()
        if held := self._leases.kept() - named:
            parents = {facts.id: facts.parent for facts in self._layers.all()}
            for layer in held & parents.keys():
                below: Digest | None = layer
                while below is not None and below not in named and below not in leased:
                    leased.add(below)
                    below = parents.get(below)
        return leased

    def strays(self) -> list[Digest]:
        """Blobs that nothing is known to need."""
        needed = self.needed_blobs()
        return [blob.digest for blob in self._content.walk() if blob.digest not in needed]

    def needed_blobs(self) -> set[Digest]:
        """Every blob that an image, a name, a layer or a lease needs."""
        needed = self._catalog.blobs() | self._leases.kept()
        for facts in self._layers.all():
            needed.add(facts.diff_id)
            needed.update(source.digest for source in facts.sources)
        return needed


def _with_those_above(candidates: set[Digest], loose: Mapping[Digest, LayerFacts]) -> list[LayerFacts]:
    """Those of the layers that nothing needs that are `candidates`, or stand on one.

    Such a layer above was kept by a lease when its image was removed; without the one below it could not be read.
    """

    def chosen(layer: Digest | None) -> bool:
        while layer is not None and layer in loose:
            if layer in candidates:
                return True
            layer = loose[layer].parent
        return False

    return [facts for facts in loose.values() if chosen(facts.id)]


def _top_first(facts: list[LayerFacts]) -> list[Digest]:
    """In an order in which no layer stands before one that is on top of it."""
    parents = {each.id: each.parent for each in facts}

    def height(layer: Digest | None) -> int:
        steps = 0
        while layer in parents:
            layer, steps = parents[layer], steps + 1
        return steps

    return sorted(parents, key=height, reverse=True)
