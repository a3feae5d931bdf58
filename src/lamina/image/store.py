"""Images, the facade: `engine.images`. What it does lies in the files beside it; this one says what can be asked."""

from __future__ import annotations

import builtins
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import BinaryIO

from lamina.apitypes.events import Emit, dropped
from lamina.content.later import Later
from lamina.content.reserve import Reserve
from lamina.content.store import ContentStore
from lamina.errors import InvalidArgument
from lamina.image import history as histories
from lamina.image import lookup, queries, tree
from lamina.image.archive import save
from lamina.image.archive.chosen import Chosen
from lamina.image.archive.importing import ImportRequest, import_tar
from lamina.image.archive.load import Loader, Store
from lamina.image.archive.outline import OutlinedLayer, outline
from lamina.image.archive.pieces import SavePlan, Sources
from lamina.image.archive.plan import Archived
from lamina.image.archive.source import Given
from lamina.image.catalog import Catalog
from lamina.image.checking import Checker, Finding
from lamina.image.checking import Store as Checked
from lamina.image.collect import Collected, Collector
from lamina.image.eviction import PRESSURE, Evictor, space_of
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.ledger import on_disk
from lamina.image.making import Maker
from lamina.image.model import (
    CacheRecord,
    HistoryEntry,
    Image,
    ImageInUse,
    ImageNotFound,
    LayerFacts,
    Pruned,
    Removed,
    TreeNode,
    Usage,
    Variant,
    image_event,
)
from lamina.image.pruning import PrunePlan, Pruner
from lamina.image.queries import FileRow, Found
from lamina.image.remove import InUse, Remover, unused
from lamina.image.restoring import Restorer
from lamina.image.supposing import Stock
from lamina.layer.errors import LayerDamaged
from lamina.snapshot.protocol import LayerNotFound
from lamina.spec import config as configs
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update, silent
from lamina.spec.reference import Reference
from lamina.worker import Workers

Filters = Mapping[str, Sequence[str]]
__all__ = ["Image", "ImageInUse", "ImageNotFound", "Images", "InUse", "unused"]


class Images:
    """All images of one data root. Thread-safe. `host` is the platform images are made for and chosen by; `originals` says when compressed
    originals of layers are kept (`eviction.KEEPING`).
    """

    def __init__(
        self,
        catalog: Catalog,
        layers: Layers,
        content: ContentStore,
        leases: Leases,
        workers: Workers,
        *,
        host: Platform,
        clock: Callable[[], float],
        emit: Emit = dropped,
        originals: str = PRESSURE,
    ) -> None:
        self._catalog, self._layers, self._content, self._leases = catalog, layers, content, leases
        self._workers, self._host, self._clock, self._emit = workers, host, clock, emit
        self._collector = Collector(catalog, layers, content, leases)
        self._evictor = Evictor(layers, content, leases, space_of(catalog.root), originals)
        self._restorer = Restorer(catalog, layers, content, workers, catalog.warn, self._collector.strays)
        self._maker = Maker(catalog, layers, content, leases, self._collector, emit, clock)
        self._remover = Remover(catalog, self._collector, leases, emit)
        stock = Stock(catalog, layers, content, leases, content, on_disk(catalog, layers, content))
        self._pruner = Pruner(stock, catalog.metadata, emit, clock)
        self._reserve = Reserve(f"{catalog.root}/reserve")
        self._again = Later(self._collect_again, delay=1.0)
        leases.after = self._again.request

    @property
    def leases(self) -> Leases:
        return self._leases

    def open(self) -> None:
        """At start: remove what a dead process left half done, read what is here, heal what differs between files and database.

        `collect` comes later, when containers have pinned their layers.
        """
        self._content.clean()
        self._reserve.lay_aside()
        self._layers.driver.sweep()
        self._layers.open()
        self._catalog.open()
        self._restorer.restore()
        # What no facts name and an image stands on may yet be mended: `restorer` looks for it under these names.
        images = self._catalog.all()
        self._layers.sweep({digest.encoded for image in images for digest in (*image.layers, *image.config.diff_ids)})

    def tend(self) -> None:
        """Now and then: mend the database if its file was damaged, collect, and give up compressed originals (`eviction`)."""
        self._catalog.metadata.mend()
        self._catalog.forget_removed()
        self.collect()
        self._layers.copies.flush()
        self.evict()

    def evict(self) -> int:
        """Give up compressed originals of layers as the setting and the disk ask for; bytes freed. See `eviction.Evictor`."""
        return self._evictor.run()

    # -- looking

    def resolve(self, text: str, platform: Platform | None = None) -> Image:
        """The image of a name (`latest` where it has no tag), a name with digest, an ID, or the beginning of one.

        With `platform`, the one for it of those that the name stands for.

        Raises:
            ImageNotFound, AmbiguousId, InvalidReference
        """
        image = lookup.resolve(self._catalog, text, platform)[0]
        self._catalog.heal(image)
        if image.intermediate:
            self._catalog.note_use(image.id)
        return image

    def expect(self, image: Digest) -> None:
        """Raises ImageNotFound where the image is not there any more; its files are not looked at."""
        self._catalog.get(image)

    def resolved(self, image: Image) -> Descriptor:
        """What the image's names stand for: an index, if one of them does."""
        found = [each[1] for name in (*image.names, *image.digests) if (each := self._catalog.named(name)) is not None]
        return next((each for each in found if each.media_type in mediatype.INDEXES), image.manifest)

    def variants(self, image: Image, name: Reference | None = None) -> tuple[Variant, ...]:
        """What the image's names stand for, or one of them, platform by platform, here or not; at least the image itself."""
        return lookup.variants(self._catalog, image, name)

    def documents(self, resolved: Descriptor) -> set[Digest]:
        """See `Variants.documents`."""
        return self._catalog.variants.documents(resolved)

    def get(self, image: Digest) -> Image:
        """The image of that ID. Raises ImageNotFound."""
        return self._catalog.get(image)

    def descriptor(self, name: Reference) -> Descriptor:
        """What a name here was resolved to: the manifest's or the index's descriptor. Raises ImageNotFound."""
        found = self._catalog.named(name.with_default_tag())
        if found is None:
            raise ImageNotFound(f"No such image: {name.with_default_tag().familiar}")
        return found[1]

    def list(self, *, all: bool = False, filters: Filters | None = None) -> builtins.list[Image]:
        """Images newest first, by Docker's filters (dangling, label, before, since, until, reference).

        Without `all`, steps of builds and unnamed images from which others were built are left out. With the filter
        `reference` an image has only the names that match.

        Raises:
            InvalidArgument: an unknown filter, or a value that makes no sense.
            ImageNotFound: before or since name no image.
        """
        return lookup.select(self._catalog, filters or {}, now=self._clock(), everything=all)

    def history(self, text: str, platform: Platform | None = None) -> builtins.list[HistoryEntry]:
        """The image's steps, newest first."""
        return histories.history(self._catalog, self._layers, self.resolve(text, platform))

    def tree(self) -> builtins.list[TreeNode]:
        """The layers of all images as trees, base layers at the roots."""
        return tree.tree(self._catalog, self._layers)

    def usage(self, in_use: InUse = unused) -> tuple[int, builtins.list[Usage]]:
        """Bytes on disk of all images, and of each: what others need too, and what a removal would free. See `settle`."""
        ledger = self._pruner.ledger(in_use)
        cached = sum(ledger.own().values())
        here = {image.id: image for image in self._catalog.all()}  # without those that have gone since
        rows = [Usage(here[root], shared, own) for root, (shared, own) in ledger.shared().items() if root in here]
        return ledger.bytes(ledger.sizes) - cached, sorted(rows, key=lambda row: row.image.config.created, reverse=True)

    def settle(self) -> None:
        """Return when all files take on disk what they will take."""
        self._catalog.settle()

    def cache(self, in_use: InUse = unused) -> builtins.list[CacheRecord]:
        """The build cache, record by record."""
        return self._pruner.cache(in_use)

    # -- into an image, without mounting

    def which(self, text: str, path: str) -> Found:
        """Which layer gave `path` its present state, and which others had it."""
        return queries.which(self._layers, self.resolve(text), path)

    def ls(self, text: str, path: str = "/") -> builtins.list[FileRow]:
        """What is in a directory, or the one file. Raises PathNotFound."""
        return queries.ls(self._layers, self.resolve(text), path)

    def cat(self, text: str, path: str) -> tuple[int, Iterator[bytes]]:
        """A file's size and content; symbolic links are followed inside the image.

        Raises:
            PathNotFound: there is no such path.
            InvalidArgument: it is not a regular file.
        """
        return queries.cat(self._layers, self.resolve(text), path)

    def open_file(self, text: str, path: str) -> BinaryIO:
        """A file as a Python file object, binary and seekable; the caller closes it. See `cat`."""
        return queries.open_file(self._layers, self.resolve(text), path)

    # -- making

    def create(
        self,
        config: ImageConfig | bytes,
        layers: Sequence[LayerFacts],
        *,
        names: Sequence[Reference] = (),
        parent: Digest | None = None,
        intermediate: bool = False,
        imported: bool = False,
    ) -> Image:
        """Make an image of a configuration and its layers, base first; the same configuration is the same image.

        Hold a lease from before the first layer is registered until this returns.

        Raises:
            InvalidConfig, StoreDamaged: nothing was made.
            InvalidArgument: a name has a digest, which only a registry can say.
        """
        for name in names:
            _refuse_digest(name)
        data = config if isinstance(config, bytes) else configs.encode(config)
        image = self._maker.create(data, layers, names=names, parent=parent, intermediate=intermediate)
        if not (intermediate or imported):
            self._emit(image_event(image, "create", str(image.id)))
        for name in names:
            self._emit(image_event(image, "tag", name.with_default_tag().familiar))
        return image

    def adopt(self, resolved: Descriptor, manifest: bytes, *, names: Sequence[Reference] = ()) -> Image:
        """Make an image of what a pull brought: its configuration's blob is in the content store, its layers are registered.

        `resolved` is what the names stand for at the registry (the manifest, or the index that lists it and whose blob is
        in the content store too). Names carry a tag, or a digest (`repository@sha256:…`).

        Raises:
            InvalidManifest, InvalidConfig, BlobNotFound, LayerNotFound: nothing was made.
        """
        image = self._maker.adopt(resolved, manifest, names)
        for name in names:
            if name.digest is None:
                self._emit(image_event(image, "pull", name.familiar_name, identity=name.familiar))
        return image

    def tag(self, source: str, target: Reference) -> Image:
        """Give an image one more name; it leaves the image that had it. Of several platforms it stands for all, as its source."""
        _refuse_digest(target)
        image, name = lookup.resolve(self._catalog, source)
        self._catalog.heal(image)
        known = self._catalog.named(name or next(iter((*image.names, *image.digests)), target))
        resolved = known[1] if known is not None and known[0].id == image.id else None
        return self._maker.tag(image, target, resolved)

    def add_digest(self, image: Digest, name: Reference, descriptor: Descriptor) -> Image:
        """Note that a registry has the image under `name` (with a digest), whose document `descriptor` is in the content store."""
        return self._maker.tag(self._catalog.get(image), name, descriptor)

    def load(
        self, source: Given | str | os.PathLike[str], sink: Sink = silent, *, platform: Platform | None = None
    ) -> builtins.list[Image]:
        """Bring in the images of an archive, all of them or none: a docker-archive, an OCI layout or the layout before Docker
        1.10, plain or compressed, as a file or stream (a descriptor, binary file or request's body, read to its end) or in a directory
        (its path).

        Of an index, all platforms come that the archive has, with `platform` only that one. Answers one image per name or group
        of names: the one that they point to.

        Raises:
            InvalidArchive, Corrupt, Exhausted: the store is as before.
        """
        store = Store(self._layers, self._content, self._leases)
        create = functools.partial(self._loaded, sink=sink)
        loader = Loader(store, create, platform or self._host, sink, only=platform is not None)
        with self._whole() as scratch:
            return loader.load(os.fspath(source) if isinstance(source, str | os.PathLike) else source, scratch)

    def outline(self, source: int | BinaryIO) -> builtins.list[OutlinedLayer]:
        """The tree of layers of an archive as `load` takes them, a file or a stream, which is not loaded. See `archive.outline`."""
        return outline(source, self._host)

    def import_(
        self,
        source: Given,
        *,
        name: Reference | None = None,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
        sink: Sink = silent,
    ) -> Image:
        """Make an image of the tar of a root file system, plain or compressed, read to its end.

        Raises:
            DockerfileError, UnsupportedSystem, InvalidArchive, Corrupt, Exhausted: the store is as before.
        """
        request = ImportRequest(changes, message, platform or self._host, self._now())
        with self._whole() as scratch:
            config, facts = import_tar(source, request, self._layers, scratch, sink)
            image = self.create(config, [facts], names=[name] if name else [], imported=True)
        self._emit(image_event(image, "import", name.familiar if name else str(image.id)))
        return image

    # -- giving

    def saving(self, names: Sequence[str], *, form: str = "docker", platform: Platform | None = None) -> SavePlan:
        """An archive of the images: its size is known, `write` writes it. A repository without tag means all its tags.

        `form` is docker, oci or v1 (see archive.save). Of several platforms all are saved, with `platform` only that one.

        Raises:
            ImageNotFound, AmbiguousId, InvalidReference
            InvalidArgument: there is no such form.
            LayerDamaged, BlobDamaged: bytes that are to be saved are lost.
        """
        chosen = [each for name in names for each in self._chosen(name, platform)]
        try:
            plan = save.planned(chosen, Sources(self._layers, self._content, self._leases, self._workers), self._catalog.variants, form)
            plan.look()
        except (LayerNotFound, LayerDamaged):
            for each in chosen:
                self.expect(each.images[0].id)
            raise
        return plan

    def save(self, names: Sequence[str], target: int, *, form: str = "docker", platform: Platform | None = None) -> None:
        """Write an archive of the images to a descriptor. See `saving`."""
        self.saving(names, form=form, platform=platform).write(target)
        self.saved(names)

    def saved(self, names: Sequence[str]) -> None:
        """Tell of images that were saved, but for those whose names have gone since."""
        for text in names:
            with suppress(ImageNotFound):
                for image in {each.images[0].id: each.images[0] for each in self._chosen(text, None)}.values():
                    self._emit(image_event(image, "save", text))

    # -- removing

    def remove(
        self, text: str, *, force: bool = False, prune: bool = True, platforms: Sequence[Platform] = (), in_use: InUse = unused
    ) -> builtins.list[Removed]:
        """rmi. See `Remover.remove`."""
        with self._reserve.at_hand():
            return self._remover.remove(text, force=force, prune=prune, platforms=platforms, in_use=in_use)

    def prune(self, filters: Filters | None = None, *, in_use: InUse = unused, dry_run: bool = False) -> Pruned:
        """Remove unnamed images that nothing needs; with the filter dangling=false, all that no container needs.

        With `dry_run` nothing is removed: the answer says what would be.

        Raises:
            InvalidArgument: a filter makes no sense.
        """
        if dry_run:
            return self._pruner.plan(PrunePlan(images=filters or {}), in_use)[0]
        with self._reserve.at_hand():
            return self._pruner.prune(filters or {}, in_use)

    def prune_cache(
        self, filters: Filters | None = None, *, all: bool = False, keep: int = 0, in_use: InUse = unused, dry_run: bool = False
    ) -> Pruned:
        """Remove build cache. See `Pruner.prune_cache`, and `prune` for `dry_run`."""
        if dry_run:
            return self._pruner.plan(PrunePlan(cache=filters or {}, all=all, keep=keep), in_use)[1]
        with self._reserve.at_hand():
            return self._pruner.prune_cache(filters or {}, in_use, all=all, keep=keep)

    def plan_prune(self, plan: PrunePlan, in_use: InUse = unused) -> tuple[Pruned, Pruned]:
        """What a prune of images and then one of the build cache would remove and free."""
        return self._pruner.plan(plan, in_use)

    def collect(self) -> Collected:
        """Remove layers and blobs that nothing needs; at start, after containers have pinned theirs."""
        return self._collector.collect()

    def _collect_again(self) -> None:
        """What a removal left, since an operation was under way."""
        self._collector.collect()

    def check(self, *, repair: bool = False) -> Iterator[Finding]:
        """Look at everything the store holds, bytes too; with `repair`, make anew what can be. See `checking.Checker`."""
        self._again.flush()
        catalog = self._catalog
        store = Checked(
            catalog.root, catalog, self._layers, self._content, catalog.metadata, self._leases, self._collector, self._restorer, self._again
        )
        return Checker(store, repair=repair).run()

    def close(self) -> None:
        """Write what is still to be written; content, metadata and workers are closed afterwards, by whoever made them."""
        self._layers.copies.close()
        self._again.flush()
        self._catalog.close()

    @contextmanager
    def _whole(self) -> Iterator[str]:
        """A lease and a scratch directory for one operation; where it fails, what it had registered goes again."""
        try:
            with self._leases.hold(), self._layers.staging() as scratch:
                yield scratch
        except BaseException:
            self._collector.collect()
            raise

    def _loaded(self, archived: Archived, stacks: Sequence[Sequence[LayerFacts]], sink: Sink) -> Image:
        for name in archived.names:
            had = self._catalog.named(name)
            if had is not None and had[0].id != archived.images[0].id:
                sink(Update(stream=f"The image {name.familiar} already exists, renaming the old one with ID {had[0].id} to empty string\n"))
        for document in archived.documents:
            self._maker.document(document)
        # The first comes last: the names move to it when all that they stand for is here.
        for image, stack in reversed([*zip(archived.images[1:], stacks[1:], strict=True)]):
            self._maker.create(image.config_bytes, stack, manifest=image.manifest)
        first = archived.images[0]
        made = self._maker.create(first.config_bytes, stacks[0], names=archived.names, manifest=first.manifest, resolved=archived.resolved)
        for name in archived.names:
            sink(Update(stream=f"Loaded image: {name.familiar}\n"))
        if not archived.names:
            sink(Update(stream=f"Loaded image ID: {made.id}\n"))
        self._emit(image_event(made, "load", archived.names[0].familiar if archived.names else str(made.id)))
        return made

    def _chosen(self, text: str, platform: Platform | None) -> builtins.list[Chosen]:
        """What a name given to save stands for: one name, all tags of a repository, or an ID without names."""
        image, name = self._resolve_or_none(text)
        if image is not None and (name is None or name.digest or _has_tag(text)):
            return [self._choice(image, name, platform)]
        wanted = Reference.parse(text)
        rows = [(other, owner) for other, owner, _ in self._catalog.names() if other.name == wanted.name and not other.digest]
        if wanted.tag or wanted.digest or not rows:
            self.resolve(text)
        return [self._choice(self._catalog.get(owner), other, platform) for other, owner in sorted(rows, key=lambda row: row[0].tag)]

    def _choice(self, image: Image, name: Reference | None, platform: Platform | None) -> Chosen:
        """The image of a name and those of other platforms beside it; of an ID, the image alone."""
        found = self._catalog.named(name) if name is not None else None
        names = (name,) if name is not None and not name.digest else ()
        resolved = found[1] if found is not None else image.manifest
        if platform is not None:
            return Chosen((lookup.resolve(self._catalog, str(name or image.id), platform)[0],), names, resolved)
        others = [each for each in self._catalog.variants.images(resolved) if each.id != image.id]
        return Chosen((image, *others), names, resolved)

    def _resolve_or_none(self, text: str) -> tuple[Image | None, Reference | None]:
        try:
            return lookup.resolve(self._catalog, text)
        except ImageNotFound:
            return None, None

    def _now(self) -> str:
        moment = self._clock()
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{int(moment % 1 * 1e9):09d}Z"


def _refuse_digest(name: Reference) -> None:
    if name.digest is not None:
        raise InvalidArgument(f"refusing to create a tag with a digest reference: {name.familiar}")


def _has_tag(text: str) -> bool:
    return bool(Reference.parse(text).tag)
