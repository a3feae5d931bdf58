"""prune: which images and which of the build cache nothing needs, first as a plan, then done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from lamina.apitypes.events import Emit, Event, dropped
from lamina.apitypes.filters import until
from lamina.errors import InvalidArgument
from lamina.image import lookup
from lamina.image.collect import Collector
from lamina.image.known import Known
from lamina.image.ledger import Ledger, look
from lamina.image.model import CacheRecord, Image, ImageInUse, ImageNotFound, Pruned, Removed
from lamina.image.remove import InUse, Loose, Remover
from lamina.image.supposing import Stock, supposed
from lamina.spec.digest import Digest
from lamina.spec.moment import seconds

Filters = Mapping[str, Sequence[str]]
CACHE_FILTERS = frozenset(
    {"until", "id", "parent", "parents", "type", "description", "inuse", "shared", "private", "unused-for", "label", "label!"}
)


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What is to be planned: filters of images and of the build cache (None: not these), as if the containers `leaving` were gone."""

    images: Filters | None = None
    cache: Filters | None = None
    all: bool = False
    keep: int = 0
    leaving: Sequence[str] = ()


class CacheKeys(Protocol):
    """What builds remember; see `image.metadata.Metadata`."""

    def cache_forget(self, image: Digest) -> None: ...

    def cache_clear(self) -> None: ...


class _NoKeys:
    """For a plan: nothing is forgotten."""

    def cache_forget(self, image: Digest) -> None: ...

    def cache_clear(self) -> None: ...


class Pruner:
    """Plans and prunes. Thread-safe; between plan and deed things may change: what somebody needs by then stays."""

    def __init__(self, stock: Stock, keys: CacheKeys, emit: Emit, clock: Callable[[], float]) -> None:
        self._stock, self._keys, self._emit, self._clock = stock, keys, emit, clock
        self._catalog, self._leases = stock.catalog, stock.leases
        self._collector = Collector(stock.catalog, stock.layers, stock.content, stock.leases)
        self._remover = Remover(stock.catalog, self._collector, stock.leases, emit)

    def ledger(self, in_use: InUse) -> Ledger:
        """What everything takes on disk now.

        `Known.settle` first: what is not written yet counts too little.
        """
        stock = self._stock
        users = [image.id for image in stock.catalog.all() if in_use(image.id)]
        return look(stock.catalog, stock.layers, stock.content, stock.size, users, stock.leases.kept())

    def plan(self, wanted: PrunePlan, in_use: InUse) -> tuple[Pruned, Pruned]:
        """What a prune of images and then one of the build cache would remove now, and what each would free.

        It is done, to copies of what is known: so what is told is what happens.
        """
        self._catalog.settle()
        copy = Pruner(supposed(self._stock, [f"container:{identity}" for identity in wanted.leaving]), _NoKeys(), dropped, self._clock)
        none = Pruned((), 0)
        images = copy.prune(wanted.images, in_use) if wanted.images is not None else none
        cache = copy.prune_cache(wanted.cache, in_use, all=wanted.all, keep=wanted.keep) if wanted.cache is not None else none
        return images, cache

    def prune(self, filters: Filters, in_use: InUse) -> Pruned:
        """Remove unnamed images that nothing needs; with the filter dangling=false, all that no container needs.

        Raises:
            InvalidArgument: a filter makes no sense.
        """
        candidates = self._candidates(filters)
        self._catalog.settle()
        before = self.ledger(in_use)
        removed: list[Removed] = []
        with self._released() as loose:
            for image in candidates:
                if image.id in before.claims and not in_use(image.id):
                    removed += self._without_names(image, in_use, loose)
        return self._done(removed, before, in_use)

    def cache(self, in_use: InUse) -> list[CacheRecord]:
        """The build cache: steps that no image here stands on, those that images share, and bases that lost their names and only steps
        need."""
        ledger, parents = self.ledger(in_use), self._catalog.parents()
        own, kept = ledger.own(), self._leases.kept()
        images = sorted(
            (image for image in self._catalog.all() if image.intermediate or image.id in own), key=lambda image: len(image.config.history)
        )
        return [
            CacheRecord(
                image,
                size=own.get(image.id, 0),
                shared=image.id not in own,
                in_use=image.id in kept or bool(in_use(image.id)) or (self._leases.working and image.id in parents and image.id not in own),
                used=self._catalog.record_time(image.id),
            )
            for image in images
        ]

    def prune_cache(self, filters: Filters, in_use: InUse, *, all: bool = False, keep: int = 0) -> Pruned:
        """Remove steps of builds that no image needs; with `all`, what builds remember of the steps of images is forgotten too.

        `keep` is how many bytes may stay: what was used last stays.

        Raises:
            InvalidArgument: a filter makes no sense.
        """
        chosen = self._chosen_cache(filters, in_use, everything=all, keep=keep)
        self._catalog.settle()
        before = self.ledger(in_use)
        removed: list[Removed] = []
        with self._released() as loose:
            for record in sorted(chosen, key=lambda record: len(record.image.config.history), reverse=True):
                if record.shared:
                    self._keys.cache_forget(record.image.id)
                    removed.append(Removed("Deleted", str(record.image.id)))
                    continue
                # What it was built from has a record of its own, which was chosen too or stays.
                with suppress(ImageInUse, ImageNotFound):
                    removed += self._remover.remove(str(record.image.id), prune=False, in_use=in_use, loose=loose)
        if all and not filters and not keep:
            self._keys.cache_clear()
        return self._done(removed, before, in_use, "builder")

    @contextmanager
    def _released(self) -> Iterator[Loose]:
        """For many removals: the documents that they leave to nobody are looked for once, when all are done."""
        loose = Loose()
        try:
            yield loose
        finally:
            self._collector.release(loose.images, loose.resolved)

    def _done(self, removed: Sequence[Removed], before: Ledger, in_use: InUse, kind: str = "image") -> Pruned:
        self._collector.collect()
        after = self.ledger(in_use)
        reclaimed = before.bytes(before.sizes.keys()) - sum(before.sizes[key] for key in before.sizes.keys() & _present(after))
        self._emit(Event(kind, "prune", "", {"reclaimed": str(reclaimed)}))
        return Pruned(tuple(removed), reclaimed)

    def _candidates(self, filters: Filters) -> list[Image]:
        """The images that the filters let through; children before what they were built from."""
        chosen = dict(filters)
        every = not lookup.truth("dangling", chosen.pop("dangling", ["true"]))
        if unknown := set(chosen) - {"until", "label", "label!"}:
            raise InvalidArgument(f"invalid filter '{min(unknown)}'")
        until(chosen)
        held = self._catalog.held()
        found = lookup.select(self._catalog, chosen, now=self._clock(), everything=True)
        # The platform of another name's image may have a name of its own.
        wanted = [image for image in found if (every and (image.names or image.digests)) or not (image.names or image.id in held)]
        return sorted(wanted, key=lambda image: len(image.config.history), reverse=True)

    def _without_names(self, image: Image, in_use: InUse, loose: Loose) -> list[Removed]:
        """Take its names away one by one, and with the last one the image; what somebody needs by now stays."""
        removed: list[Removed] = []
        for text in [str(name) for name in (*image.names, *image.digests)] or [str(image.id)]:
            with suppress(ImageInUse, ImageNotFound):
                removed += self._remover.remove(text, in_use=in_use, loose=loose)
        return removed

    def _chosen_cache(self, filters: Filters, in_use: InUse, *, everything: bool, keep: int) -> list[CacheRecord]:
        """The records to remove; of those that pass, the most recently used stay, as far as their sizes come to `keep` bytes.

        Raises:
            InvalidArgument: a filter does not exist, or gives two moments, or one that cannot be read.
        """
        if unknown := set(filters) - CACHE_FILTERS:
            raise InvalidArgument(f"invalid filter '{min(unknown)}'")
        moments = [filters.get(key, ()) for key in ("until", "unused-for")]
        if any(len(values) > 1 for values in moments):
            raise InvalidArgument("failed to prune build cache: filters expect only one value")
        limits = [seconds(value, self._clock()) for values in moments for value in values]
        records = [record for record in self.cache(in_use) if not record.in_use and (everything or not record.shared)]
        chosen = [record for record in records if _passes(record, filters) and all(record.used < limit for limit in limits)]
        spare = keep
        for record in sorted(chosen, key=lambda record: record.used, reverse=True):
            if not keep or record.size > spare:
                break
            spare -= record.size
            chosen.remove(record)
        return _whole(chosen, self._catalog)


def _present(ledger: Ledger) -> set[tuple[str, str]]:
    return {key for key, size in ledger.sizes.items() if size}


def _passes(record: CacheRecord, filters: Filters) -> bool:
    """Whether every filter but those of time lets it through: any value of a key suffices, of labels all are needed."""
    answers = {
        "id": record.image.id.encoded,
        "type": "regular",
        "parent": record.image.parent.encoded if record.image.parent else "",
        "parents": record.image.parent.encoded if record.image.parent else "",
        "inuse": "true" if record.in_use else "false",
        "shared": "true" if record.shared else "false",
        "private": "false" if record.shared else "true",
    }
    for key, values in filters.items():
        if key in ("label", "label!") and not all(lookup.has_label(record.image, value) == (key == "label") for value in values):
            return False
        if key == "description" and not any(value in record.description for value in values):
            return False
        if key in ("id", "parent", "parents") and not any(answers[key].startswith(value.removeprefix("sha256:")) for value in values):
            return False
        if key in ("type", "inuse", "shared", "private") and answers[key] not in {value.lower() or "true" for value in values}:
            return False
    return True


def _whole(records: Iterable[CacheRecord], catalog: Known) -> list[CacheRecord]:
    """Without those that steps which stay were built from."""
    chosen = {record.image.id: record for record in records}
    while True:
        bound = [key for key, record in chosen.items() if not record.shared and set(catalog.children(key)) - chosen.keys()]
        if not bound:
            return list(chosen.values())
        for key in bound:
            del chosen[key]
