"""prune: which images and which of the build cache nothing needs, first as a plan, then done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lamina.apitypes.events import Emit, Event
from lamina.content.store import ContentStore
from lamina.errors import InvalidArgument
from lamina.image import lookup
from lamina.image.catalog import Catalog
from lamina.image.collect import Collector
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.ledger import Ledger, look
from lamina.image.metadata import Metadata
from lamina.image.model import CacheRecord, Image, ImageInUse, ImageNotFound, Pruned, Removed
from lamina.image.remove import InUse, Remover
from lamina.spec.digest import Digest
from lamina.spec.moment import seconds

Filters = Mapping[str, Sequence[str]]
_TRUE = ("1", "true", "True", "t")
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


class Pruner:
    """Plans and prunes. Thread-safe; between plan and deed things may change: what somebody needs by then stays."""

    def __init__(
        self,
        catalog: Catalog,
        layers: Layers,
        content: ContentStore,
        leases: Leases,
        metadata: Metadata,
        collector: Collector,
        remover: Remover,
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._catalog, self._layers, self._content, self._leases, self._metadata = catalog, layers, content, leases, metadata
        self._collector, self._remover, self._emit, self._clock = collector, remover, emit, clock

    def ledger(self, in_use: InUse, leaving: Iterable[str] = ()) -> Ledger:
        """What everything takes on disk now, or when the containers `leaving` (their IDs) are gone.

        `Catalog.settle` first: what is not written yet counts too little.
        """
        users = [image.id for image in self._catalog.all() if in_use(image.id)]
        kept = self._leases.kept(without=[f"container:{identity}" for identity in leaving])
        return look(self._catalog, self._layers, self._content, users, kept)

    def plan(self, wanted: PrunePlan, in_use: InUse) -> tuple[Pruned, Pruned]:
        """What a prune of images and then one of the build cache would remove now, and what each would free."""
        self._catalog.settle()
        ledger = self.ledger(in_use, wanted.leaving)
        candidates = self._candidates(wanted.images) if wanted.images is not None else []
        free = [image for image in candidates if image.id in ledger.claims and not in_use(image.id)]
        gone = self._unbound(free, ledger.steps.keys())
        first = ledger.freed(image.id for image in gone) if wanted.images is not None else 0
        if wanted.cache is None:
            return Pruned(_rows(gone), first), Pruned((), 0)
        chosen = self._chosen_cache(wanted.cache, in_use, everything=wanted.all, keep=wanted.keep)
        steps = {record.image.id for record in chosen}
        # What only steps had kept goes with them.
        later = self._unbound(free, ledger.steps.keys() - steps)
        both = ledger.freed((image.id for image in later), steps)
        return Pruned(_rows(gone), first), Pruned(tuple(Removed("Deleted", str(step)) for step in steps), both - first)

    def _unbound(self, free: Sequence[Image], steps: Iterable[Digest]) -> list[Image]:
        """Those of `free` on which nothing stands that stays: other images, and these steps of builds."""
        images = {image.id: image for image in self._catalog.all()}
        going = {image.id for image in free}
        pending = [key for key, image in images.items() if key not in going and not image.intermediate] + list(steps)
        while pending:
            parent = images[pending.pop()].parent
            if parent is not None and parent in images:
                pending.append(parent)
                going.discard(parent)
        return [image for image in free if image.id in going]

    def prune(self, filters: Filters, in_use: InUse) -> Pruned:
        """Remove unnamed images that nothing needs; with the filter dangling=false, all that no container needs.

        Raises:
            InvalidArgument: a filter makes no sense.
        """
        candidates = self._candidates(filters)
        self._catalog.settle()
        before = self.ledger(in_use)
        removed: list[Removed] = []
        for image in candidates:
            if image.id in before.claims and not in_use(image.id):
                removed += self._without_names(image, in_use)
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
        for record in sorted(chosen, key=lambda record: len(record.image.config.history), reverse=True):
            if record.shared:
                self._metadata.cache_forget(record.image.id)
                removed.append(Removed("Deleted", str(record.image.id)))
                continue
            try:
                removed += self._remover.remove(str(record.image.id), in_use=in_use)
            except (ImageInUse, ImageNotFound):
                continue
        if all and not filters and not keep:
            self._metadata.cache_clear()
        return self._done(removed, before, in_use, "builder")

    def _done(self, removed: Sequence[Removed], before: Ledger, in_use: InUse, kind: str = "image") -> Pruned:
        self._collector.collect()
        after = self.ledger(in_use)
        reclaimed = before.bytes(before.sizes.keys()) - sum(before.sizes[key] for key in before.sizes.keys() & _present(after))
        self._emit(Event(kind, "prune", "", {"reclaimed": str(reclaimed)}))
        return Pruned(tuple(removed), reclaimed)

    def _candidates(self, filters: Filters) -> list[Image]:
        """The images that the filters let through; children before what they were built from."""
        chosen = dict(filters)
        every = chosen.pop("dangling", ["true"])[0] not in _TRUE
        if unknown := set(chosen) - {"until", "label", "label!"}:
            raise InvalidArgument(f"invalid filter '{min(unknown)}'")
        held = self._catalog.held()
        found = lookup.select(self._catalog, chosen, now=self._clock(), everything=True)
        wanted = [image for image in found if image.id not in held and (every or not image.names)]
        return sorted(wanted, key=lambda image: len(image.config.history), reverse=True)

    def _without_names(self, image: Image, in_use: InUse) -> list[Removed]:
        """Take its names away one by one, and with the last one the image; what somebody needs by now stays."""
        removed: list[Removed] = []
        for text in [str(name) for name in (*image.names, *image.digests)] or [str(image.id)]:
            try:
                removed += self._remover.remove(text, in_use=in_use)
            except (ImageInUse, ImageNotFound):
                continue
        return removed

    def _chosen_cache(self, filters: Filters, in_use: InUse, *, everything: bool, keep: int) -> list[CacheRecord]:
        if unknown := set(filters) - CACHE_FILTERS:
            raise InvalidArgument(f"invalid filter '{min(unknown)}'")
        limits = [seconds(value, self._clock()) for key in ("until", "unused-for") for value in filters.get(key, ())]
        records = [record for record in self.cache(in_use) if not record.in_use and (everything or not record.shared)]
        chosen = [record for record in records if _passes(record, filters) and all(record.used < limit for limit in limits)]
        spare = keep
        for record in sorted(chosen, key=lambda record: record.used, reverse=True):
            if not keep or record.size > spare:
                break
            spare -= record.size
            chosen.remove(record)
        return _whole(chosen, self._catalog)


def _rows(gone: Sequence[Image]) -> tuple[Removed, ...]:
    names = [Removed("Untagged", name.familiar) for image in gone for name in (*image.names, *image.digests)]
    return (*names, *(Removed("Deleted", str(image.id)) for image in gone))


def _present(ledger: Ledger) -> set[tuple[str, str]]:
    return {key for key, size in ledger.sizes.items() if size}


def _passes(record: CacheRecord, filters: Filters) -> bool:
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


def _whole(records: Iterable[CacheRecord], catalog: Catalog) -> list[CacheRecord]:
    """Without those that steps which stay were built from."""
    chosen = {record.image.id: record for record in records}
    while True:
        bound = [key for key, record in chosen.items() if not record.shared and set(catalog.children(key)) - chosen.keys()]
        if not bound:
            return list(chosen.values())
        for key in bound:
            del chosen[key]
