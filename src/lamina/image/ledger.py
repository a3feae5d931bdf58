"""What everything takes on disk, file by file: which images need a file, so what goes when some of them go, to the byte.

A claim is a root with all it needs: an image that is shown, with the images it was built from, those of the other
platforms of its names, and their layers and documents. What only steps of builds need is the build cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lamina.content.store import ContentStore
from lamina.image.known import Known
from lamina.image.layers import Layers
from lamina.image.model import Image
from lamina.image.stacks import Blobs, Stacks
from lamina.spec.digest import Digest

Key = tuple[str, str]
"""What kind of file, and its name."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One look at the store. `sizes` are bytes on disk; `claims` are of roots, `steps` of images that only builds know."""

    sizes: Mapping[Key, int]
    claims: Mapping[Digest, frozenset[Key]]
    steps: Mapping[Digest, frozenset[Key]]
    pinned: frozenset[Key]

    def bytes(self, keys: Iterable[Key]) -> int:
        """Bytes of these files."""
        return sum(self.sizes.get(key, 0) for key in keys)

    def shared(self) -> dict[Digest, tuple[int, int]]:
        """Of each root the bytes that others need too, and those that only it needs."""
        users = Counter(key for keys in (*self.claims.values(), *self.steps.values()) for key in keys)
        return {
            root: (self.bytes(key for key in keys if users[key] > 1), self.bytes(key for key in keys if users[key] == 1))
            for root, keys in self.claims.items()
        }

    def own(self) -> dict[Digest, int]:
        """Of each step of the build cache the bytes that no image and no step before it in order needs: they add up."""
        seen = set().union(*self.claims.values()) if self.claims else set()
        found = {}
        for step, keys in self.steps.items():
            found[step] = self.bytes(keys - seen)
            seen |= keys
        return found


def look(
    catalog: Known, layers: Stacks, content: Blobs, size: Callable[[Key], int], used: Iterable[Digest] = (), kept: Iterable[Digest] = ()
) -> Ledger:
    """Take stock. `used` are images that containers stand on: they count as roots; `kept` is what must stay; `size` see `on_disk`."""
    with catalog.lock:
        images = {image.id: image for image in catalog.all()}
        hidden = catalog.parents() | catalog.held()
        wanted = set(used)
        roots = [
            image
            for image in images.values()
            if image.names or image.digests or image.id in wanted or not (image.intermediate or image.id in hidden)
        ]
        taking = _Taking(catalog, layers, images)
        claims = {image.id: frozenset(taking.claim(image)) for image in roots}
        claimed = taking.seen.copy()
        steps = sorted(
            (image for key, image in images.items() if key not in claimed), key=lambda image: (len(image.config.history), image.id)
        )
        held = frozenset(key for digest in kept for key in (("blob", str(digest)), *taking.layer(digest)))
        found = {image.id: frozenset(taking.claim(image)) for image in steps}
        loose = [taking.layer(facts.id) for facts in layers.all()]
    blobs = frozenset(("blob", str(blob.digest)) for blob in content.walk())
    everything = blobs.union(held, *claims.values(), *found.values(), *loose)
    return Ledger({key: size(key) for key in everything}, claims, found, held)


class _Taking:
    """Collects claims; `seen` are all images that were in one."""

    def __init__(self, catalog: Known, layers: Stacks, images: Mapping[Digest, Image]) -> None:
        self._catalog, self._layers, self._images = catalog, layers, images
        self._known: dict[Digest, set[Key]] = {}
        self.seen: set[Digest] = set()

    def claim(self, root: Image) -> set[Key]:
        """All that a root needs."""
        keys: set[Key] = set()
        for name in (*root.names, *root.digests):
            found = self._catalog.named(name)
            if found is not None:
                keys |= {("blob", str(digest)) for digest in self._catalog.variants.documents(found[1])}
                for sibling in self._catalog.variants.images(found[1]):
                    keys |= self._line(sibling)
        return keys | self._line(root)

    def layer(self, layer: Digest) -> set[Key]:
        """A layer's files, and those of the layers below it."""
        if layer not in self._known:
            keys: set[Key] = set()
            for facts in self._layers.chain(layer) if self._layers.has(layer) else ():
                keys |= {("facts", str(facts.id)), ("driver", facts.name), ("blob", str(facts.diff_id))}
                keys |= {("blob", str(source.digest)) for source in facts.sources}
            self._known[layer] = keys
        return self._known[layer]

    def _line(self, image: Image) -> set[Key]:
        """An image and those it was built from."""
        keys: set[Key] = set()
        found: Image | None = image
        while found is not None and found.id:
            self.seen.add(found.id)
            keys |= {("record", str(found.id)), ("blob", str(found.id)), ("blob", str(found.manifest.digest))}
            keys |= self.layer(found.layers[-1]) if found.layers else set()
            found = self._images.get(found.parent) if found.parent is not None else None
        return keys


def on_disk(catalog: Known, layers: Layers, content: ContentStore) -> Callable[[Key], int]:
    """How many bytes a file takes now; 0 where there is none."""

    def size(key: Key) -> int:
        kind, name = key
        if kind == "blob":
            return content.usage(Digest.parse(name))
        if kind == "driver":
            return layers.driver.usage(name)
        return catalog.record_usage(Digest.parse(name)) if kind == "record" else layers.facts_usage(Digest.parse(name))

    return size
