"""system check: everything the store holds is looked at, bytes too; what can be made anew is, if asked.

First all blobs are hashed and all layers' files looked at, on all processors; then documents, rows and strays, one after the other.
What is derived is made from what it came from, a document from its twin. What has lost its bytes is named, with the images concerned
and what brings them back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from lamina.apitypes.finding import LOST, REPAIR, REPAIRABLE, REPAIRED, Finding
from lamina.content.files import listed, read_file, write_file
from lamina.content.later import Later
from lamina.content.local import OCI_LAYOUT
from lamina.content.store import BlobNotFound, ContentStore
from lamina.errors import LaminaError
from lamina.image.catalog import Catalog
from lamina.image.collect import Collector
from lamina.image.documents import encode_facts
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.metadata import Metadata
from lamina.image.model import Image, LayerFacts
from lamina.image.restoring import Restorer
from lamina.linux.removing import remove_path
from lamina.spec.digest import Digest

__all__ = ["LOST", "REPAIRABLE", "REPAIRED", "Checker", "Finding", "Store"]
_Twins = tuple[bytes, str | None]
"""What a document's file should hold, and its row."""


@dataclass(frozen=True, slots=True)
class Store:
    """What is looked at. `root` is the data root, `sweep` what takes what removals left while work was under way."""

    root: str
    catalog: Catalog
    layers: Layers
    content: ContentStore
    metadata: Metadata
    leases: Leases
    collector: Collector
    restorer: Restorer
    sweep: Later


class Checker:
    """One look at everything."""

    def __init__(self, store: Store, *, repair: bool) -> None:
        self._store, self._repair = store, repair
        self._damage: dict[Digest, str] = {}
        self._files: dict[str, LaminaError] = {}
        self._gone: set[Digest] = set()
        self._why = ""
        self._lost = False

    def run(self) -> Iterator[Finding]:
        """What is wrong, as it is found. Hashes everything, so it takes as long as reading the disk."""
        yield from self._database()
        self._store.layers.copies.flush()
        self._look_at_bytes()
        for finding in self._things():
            self._lost |= finding.state == LOST
            yield finding
        yield from self._strays()

    def _things(self) -> Iterator[Finding]:
        if self._repair:
            yield from self._unknown()
        for facts in self._base_first():
            yield from self._layer(facts)
        yield from self._merged()
        for image in self._store.catalog.all():
            yield from self._image(image)
        yield from self._names()
        yield from self._documents()
        yield from self._rows_of_nothing()

    def _base_first(self) -> list[LayerFacts]:
        """All layers, each after the one it stands on: it may be mended from that."""
        waiting = {facts.id: facts for facts in self._store.layers.all()}
        found: list[LayerFacts] = []
        for layer in list(waiting):
            stack: list[LayerFacts] = []
            at: Digest | None = layer
            while at is not None and at in waiting:
                stack.append(waiting.pop(at))
                at = stack[-1].parent
            found += reversed(stack)
        return found

    # -- bytes

    def _look_at_bytes(self) -> None:
        """Hash every blob and look at every layer's files; the largest first, so that no processor is left with one at the end."""
        content, layers = self._store.content, self._store.layers
        blobs = [(blob.size, self._hash, blob.digest) for blob in content.walk()]
        by_name = {facts.name: facts for facts in layers.all()}
        works: list[tuple[int, Callable[..., None], object]] = [
            *blobs,
            *((facts.tar_size, self._look_at, facts) for facts in by_name.values()),
        ]
        with ThreadPoolExecutor(os.cpu_count() or 1, "check") as threads:
            for done in [threads.submit(work, of) for _, work, of in sorted(works, key=lambda each: -each[0])]:
                done.result()

    def _hash(self, digest: Digest) -> None:
        try:
            self._store.content.verify(digest)
        except BlobNotFound:
            pass  # It went meanwhile.
        except LaminaError as error:
            self._damage[digest] = error.message

    def _look_at(self, facts: LayerFacts) -> None:
        layers = self._store.layers
        try:
            layers.driver.check(facts.name)
            if layers.driver.tree(facts.name) is not None:
                with suppress(LaminaError):  # That its bytes are gone or damaged is found as such.
                    layers.learn(facts)
            layers.driver.check(facts.name, deep=True)
            if (problem := layers.copies.problem(facts.id)) is not None:
                raise problem
        except LaminaError as error:
            self._files[facts.name] = error

    # -- layers

    def _layer(self, facts: LayerFacts) -> Iterator[Finding]:
        """A finding for each of a layer's blobs that is bad, and one for the driver's files: lost together, or mended together."""
        layers = self._store.layers
        plain = layers.driver.tree(facts.name) is None if layers.driver.exists(facts.name) else layers.driver.name == "erofs"
        sources = [source.digest for source in facts.sources]
        wanted = [facts.diff_id, *sources] if plain else sources
        bad = {digest: problem for digest in wanted if (problem := self._missing(digest) or self._damage.get(digest, ""))}
        sound = [digest for digest in (facts.diff_id, *sources) if digest not in bad and not self._missing(digest)]
        error = self._files.get(facts.name)
        if (not bad and error is None) or not layers.has(facts.id):
            return  # Sound, or it went meanwhile.
        images = self._standing_on(facts.id)
        what = f"layer {facts.id}"
        if not sound or (self._to_remake(facts, bad, error) and not self._can_stand(facts)):
            places = {problem: _blob(digest) for digest, problem in bad.items()}
            if error is not None:
                places.setdefault(error.message, self._driver_files(facts))
            for problem, where in places.items():
                yield Finding(what, where, problem, LOST, self._origin(images), _shown(images))
            return
        where = self._driver_files(facts)
        state = self._mend(lambda: self._mend_layer(facts, bad, error))
        for digest, problem in bad.items():
            yield self._told(Finding(what, _blob(digest), problem, state, images=_shown(images)))
        if error is not None:
            yield self._told(Finding(what, where, error.message, state, images=_shown(images)))

    def _driver_files(self, facts: LayerFacts) -> str:
        """A layer's tree, or where none is extracted the metadata image."""
        where = f"layers/{facts.name}"
        return where if os.path.isdir(os.path.join(self._store.root, where)) else f"{where}.erofs"

    def _merged(self) -> Iterator[Finding]:
        """What the driver made of high stacks; after the layers, since it is made of them."""
        driver = self._store.layers.driver
        for key, problem in driver.damaged_stacks():
            state = self._mend(partial(driver.mend_stack, key))
            yield self._told(Finding("merged layers", f"stacks/{key}", problem, state))

    @staticmethod
    def _to_remake(facts: LayerFacts, bad: Mapping[Digest, str], error: LaminaError | None) -> bool:
        """Whether its tar or the driver's files are bad; otherwise only compressed forms are, which are forgotten."""
        return error is not None or facts.diff_id in bad

    def _can_stand(self, facts: LayerFacts) -> bool:
        """Whether what a layer is made anew from besides its bytes is known: the layers below, where it implies directories of theirs."""
        try:
            return facts.name == facts.diff_id.encoded or bool(self._store.layers.chain(facts.id))
        except LaminaError:
            return False

    def _mend_layer(self, facts: LayerFacts, bad: Mapping[Digest, str], error: LaminaError | None) -> None:
        """The tar from a compressed form, the driver's files from either; a compressed form that is damaged is forgotten."""
        if self._to_remake(facts, bad, error):
            self._store.layers.remake(facts.id)
        for digest in bad:
            if digest != facts.diff_id:
                self._store.layers.forget_source(digest)
        self._files.pop(facts.name, None)
        for digest in bad:
            self._damage.pop(digest, None)

    def _missing(self, digest: Digest) -> str:
        try:
            self._store.content.stat(digest)
            return ""
        except LaminaError:
            return f"no such blob: {digest}"

    # -- images

    def _image(self, image: Image) -> Iterator[Finding]:
        """Findings about an image's documents, and the first layer that nobody knows any more: no one above it is known either."""
        row = self._store.metadata.image(image.id)
        manifest = row[2] if row is not None and Digest.of(row[2], image.manifest.digest.algorithm) == image.manifest.digest else None
        for what, digest, data in (("configuration", image.id, image.config_bytes), ("manifest", image.manifest.digest, manifest)):
            problem = self._missing(digest) or self._damage.get(digest, "")
            if problem and not self._store.catalog.has(image.id):
                return  # It went meanwhile.
            if problem and data is None:
                self._gone.add(image.id)
                yield Finding(f"image {image.id}", _blob(digest), f"its {what}: {problem}", LOST, self._origin([image]), _shown([image]))
            elif problem:
                state = self._mend(partial(self._put_again, digest, data or b""))
                yield self._told(Finding(f"image {image.id}", _blob(digest), f"its {what}: {problem}", state, images=_shown([image])))
        for layer in image.layers:
            try:
                self._store.layers.chain(layer)
            except LaminaError as error:
                if self._store.catalog.has(image.id):
                    yield Finding(
                        f"image {image.id}", f"layers/{layer.encoded}.json", error.message, LOST, self._origin([image]), _shown([image])
                    )
                break

    def _unknown(self) -> Iterator[Finding]:
        """Layers that images need and nobody knows, whose bytes are here."""
        known = self._store.layers.has
        for image in sorted(self._store.catalog.all(), key=lambda image: len(image.layers)):
            missing = [layer for layer in image.layers if not known(layer)]
            if missing:
                with suppress(LaminaError):
                    self._store.restorer.restore_image(image)
            for layer in filter(known, missing):
                yield Finding(
                    f"layer {layer}", f"layers/{layer.encoded}.json", "its facts were lost, file and row", REPAIRED, "", _shown([image])
                )

    def _put_again(self, digest: Digest, data: bytes) -> None:
        self._store.content.delete(digest)
        self._store.content.put(data, "")
        self._damage.pop(digest, None)

    def _names(self) -> Iterator[Finding]:
        """Indexes that names were resolved through, and that are here."""
        seen: set[Digest] = set()
        for name, _, descriptor in self._store.catalog.names():
            digest, known = descriptor.digest, self._store.catalog.named(name)
            if known is None:
                continue  # It went meanwhile.
            image = known[0]
            if digest in seen or digest == image.manifest.digest:
                continue
            seen.add(digest)
            if problem := self._missing(digest) or self._damage.get(digest, ""):
                yield Finding(f"name {name.familiar}", _blob(digest), problem, LOST, self._origin([image]), _shown([image]))

    # -- documents and rows

    def _documents(self) -> Iterator[Finding]:
        """Every facts file, record, row and name against what this process knows."""
        store = self._store
        rows = store.metadata.layers()
        for facts in store.layers.all():
            yield from self._twin(
                f"layer {facts.id}",
                f"layers/{facts.id.encoded}.json",
                (encode_facts(facts), rows.get(str(facts.id))),
                partial(self._facts_now, facts.id),
                partial(store.layers.rewrite, facts.id),
            )
        records = store.metadata.images()
        for image in store.catalog.all():
            yield from self._twin(
                f"image {image.id}",
                f"images/{image.id.encoded}.json",
                (store.catalog.record(image), _text(image, records.get(str(image.id)))),
                partial(self._record_now, image.id),
                partial(store.catalog.rewrite, image.id),
                # A row holds the documents' bytes.
                self._origin([image]) if image.id in self._gone else "",
            )
        yield from self._layout()
        if wrong := store.catalog.names_astray():
            state = self._mend(store.catalog.rewrite_names)
            for name, where in wrong:
                yield self._told(Finding(f"name {name}", where, "is not what was written", state))

    def _layout(self) -> Iterator[Finding]:
        """The files by which other tools know the content store."""
        content = os.path.join(self._store.root, "content")
        if read_file(f"{content}/oci-layout") != OCI_LAYOUT:
            state = self._mend(partial(write_file, f"{content}/oci-layout", OCI_LAYOUT))
            yield self._told(Finding("content", "content/oci-layout", "is missing or not what was written", state))
        # Where there are names, each of them is missed.
        if not self._store.catalog.names() and not os.path.exists(f"{content}/index.json"):
            yield self._told(Finding("content", "content/index.json", "is missing", self._mend(self._store.catalog.rewrite_names)))

    def _facts_now(self, layer: Digest) -> _Twins | None:
        with self._store.layers.lock:
            known = next((facts for facts in self._store.layers.all() if facts.id == layer), None)
            return (encode_facts(known), self._store.metadata.layers().get(str(layer))) if known is not None else None

    def _record_now(self, image: Digest) -> _Twins | None:
        catalog = self._store.catalog
        with catalog.lock:
            if not catalog.has(image):
                return None
            known = catalog.get(image)
            return catalog.record(known), _text(known, self._store.metadata.image(image))

    def _twin(
        self, what: str, where: str, twins: _Twins, now: Callable[[], _Twins | None], mend: Callable[[], None], lost: str = ""
    ) -> Iterator[Finding]:
        """A document's file and row: `twins` are what it should hold, and the row. `now` gives both anew, None where the thing went
        meanwhile. `lost`: what brings back bytes that neither can be written without."""
        problems = self._differing(where, twins)
        if problems:
            fresh = now()
            problems = self._differing(where, fresh) if fresh is not None else []
        if problems:
            state = self._mend(mend)
            if lost and state == REPAIRABLE:
                state = LOST
            for place, problem in problems:
                yield self._told(Finding(what, place, problem, state, lost if state == LOST else ""))

    def _differing(self, where: str, twins: _Twins) -> list[tuple[str, str]]:
        data, row = twins
        problems = (
            [] if read_file(os.path.join(self._store.root, where)) == data else [(where, "its file is missing or not what was written")]
        )
        if row != data.decode():
            problems.append((f"metadata.db, {where.partition('/')[0]}", "its row is missing or not what was written"))
        return problems

    def _database(self) -> Iterator[Finding]:
        """The database on the disk, whatever is remembered of it."""
        metadata = self._store.metadata
        for problem in metadata.mend() if self._repair else metadata.reread():
            yield self._told(Finding("metadata.db", "metadata.db", problem, REPAIRED if self._repair else REPAIRABLE))

    def _rows_of_nothing(self) -> Iterator[Finding]:
        metadata = self._store.metadata
        yield from self._unknown_rows()
        for key in metadata.cache_damage():
            state = self._mend(partial(metadata.cache_delete, key))
            yield self._told(Finding(f"build cache {key[:80]}", "metadata.db, build_cache", "cannot be read", state))

    def _unknown_rows(self) -> list[Finding]:
        """Under both locks: else a row that is written now would be one of nothing."""
        store, found = self._store, list[Finding]()
        with store.catalog.lock, store.layers.lock:
            layers = {str(facts.id) for facts in store.layers.all()}
            images = {str(image.id) for image in store.catalog.all()}
            for table, known, rows in (("layers", layers, store.metadata.layers()), ("images", images, store.metadata.images())):
                for key in sorted(set(rows) - known):
                    state = self._mend(partial(store.metadata.drop, table, key))
                    what = f"{table.removesuffix('s')} {key}"
                    found.append(self._told(Finding(what, f"metadata.db, {table}", "a row of nothing that is here", state)))
        return found

    # -- what belongs to nothing

    def _strays(self) -> list[Finding]:
        """Told when all locks are free again: whoever hears of it may be slow."""
        store, found = self._store, list[Finding]()
        store.sweep.flush()
        # The catalog's lock before the leases' gate, as `Collector.collect` takes them.
        with store.layers.copies.resting(), store.catalog.lock, store.leases.quiet() as quiet:
            if not quiet or store.sweep.pending:
                return found  # Files of work under way belong to nothing yet; what was left beside it is about to go.
            needed = store.collector.needed_blobs() | store.leases.left
            for where in sorted(self._stray_paths(needed)):
                if self._lost:
                    advice = "it stays: it may be what is left of what is lost"
                    found.append(Finding("stray", where, "belongs to nothing", REPAIRABLE, advice))
                    continue
                state = self._mend(partial(remove_path, os.path.join(store.root, where)))
                found.append(self._told(Finding("stray", where, "belongs to nothing", state)))
        return found

    def _stray_paths(self, needed: set[Digest]) -> Iterator[str]:
        """Below the data root, what stands for no layer and no image and is none of the blobs `needed`; ingests that can go on stay."""
        store, root = self._store, self._store.root
        names = {facts.name for facts in store.layers.all()}
        facts = {f"{each.id.encoded}.json" for each in store.layers.all()}
        images = {f"{image.id.encoded}.json" for image in store.catalog.all()}
        for name in listed(os.path.join(root, "layers")):
            plain = name.removesuffix(".erofs").removesuffix(".sums").removesuffix(".skeleton")
            if name not in facts and not (plain in names or name.endswith(".removing")):
                yield f"layers/{name}"
        yield from (f"images/{name}" for name in listed(os.path.join(root, "images")) if name not in images)
        for algorithm in listed(os.path.join(root, "content/blobs")):
            if not os.path.isdir(os.path.join(root, "content/blobs", algorithm)):
                yield f"content/blobs/{algorithm}"
                continue
            wanted = {digest.encoded for digest in needed if digest.algorithm == algorithm}
            yield from (
                f"content/blobs/{algorithm}/{name}"
                for name in listed(os.path.join(root, f"content/blobs/{algorithm}"))
                if name not in wanted
            )
        yield from (f"content/ingest/{name}" for name in listed(os.path.join(root, "content/ingest")) if not name.startswith("key-"))
        yield from (
            f"content/{name}"
            for name in listed(os.path.join(root, "content"))
            if name not in ("blobs", "ingest", "index.json", "oci-layout")
        )

    # -- words

    def _mend(self, work: Callable[[], None]) -> str:
        if not self._repair:
            return REPAIRABLE
        try:
            work()
            return REPAIRED
        except (LaminaError, OSError) as error:
            self._why = error.message if isinstance(error, LaminaError) else str(error)
            return LOST

    def _told(self, finding: Finding) -> Finding:
        """With what is to be done about it."""
        if finding.state == REPAIRABLE:
            return replace(finding, advice=REPAIR)
        if finding.state == LOST and not finding.advice:
            return replace(finding, advice=f"it could not be repaired: {self._why}")
        return finding

    def _standing_on(self, layer: Digest) -> list[Image]:
        return [image for image in self._store.catalog.all() if layer in image.layers]

    def _origin(self, images: Sequence[Image]) -> str:
        """What brings lost bytes of these images back."""
        pulls = list(dict.fromkeys(pull for image in images for pull in _pulls(image)))
        if pulls:
            return "mend it with " + " && ".join(f"lamina pull {name}" for name in pulls[:3])
        return "load, import or build again what is concerned" if images else "nothing needs it: lamina image prune"


def _pulls(image: Image) -> list[str]:
    """What to pull to have the image again: tags of repositories it is known to be in, else digests."""
    repositories = {digest.name for digest in image.digests}
    tags = [name.familiar for name in image.names if name.name in repositories]
    return (tags or [digest.familiar for digest in image.digests])[:1]


def _shown(images: Sequence[Image]) -> tuple[str, ...]:
    return tuple(
        sorted({image.names[0].familiar if image.names else image.id.short for image in images if image.names or not image.intermediate})
    )


def _blob(digest: Digest) -> str:
    return f"content/blobs/{digest.algorithm}/{digest.encoded}"


def _text(image: Image, row: tuple[str, bytes, bytes] | None) -> str | None:
    """The record in an image's row, if the configuration in it is the image's."""
    return row[0] if row is not None and Digest.of(row[1]) == image.id else None
