"""Push: layers compressed (or the very blobs a pull brought) and uploaded where they are missing, then the manifest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from lamina.content.store import ContentStore
from lamina.distribution.auth import Auth
from lamina.distribution.client import Registries, RegistryClient
from lamina.errors import LaminaError
from lamina.image.departure import Departure
from lamina.image.layers import Layers
from lamina.image.model import Image, ImageNotFound, LayerFacts, Variant
from lamina.image.store import Images
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest, descriptor_json, new_index, new_manifest, parse
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update, silent
from lamina.spec.reference import Reference
from lamina.worker.workers import Workers


@dataclass(frozen=True, slots=True)
class _Parcel:
    """What goes under a name: its image, or all `variants` of the index `resolved` that are here. `row` lists the image where one of
    several platforms was asked for; `documents` are of what the name stands for, `listed` the index and what it lists beside those variants,
    each before what lists it, if all of that is here. The name itself may be gone by now."""

    name: Reference
    image: Image
    resolved: Descriptor
    documents: Collection[Digest]
    row: Descriptor | None = None
    variants: Sequence[Variant] = ()
    listed: Sequence[Manifest | Index] = ()

    @property
    def digests(self) -> Iterator[Digest]:
        """What must not be removed meanwhile."""
        yield from self.documents
        for image in (self.image, *(each.image for each in self.variants if each.image is not None)):
            yield from (image.id, image.manifest.digest, *image.layers)


class Pusher:
    """Takes images to registries. Thread-safe; one call's layers go in parallel, at most `parallel` at once."""

    def __init__(
        self, registries: Registries, content: ContentStore, layers: Layers, images: Images, workers: Workers, *, parallel: int = 3
    ) -> None:
        self._registries, self._content, self._layers, self._images, self._workers = registries, content, layers, images, workers
        self._parallel = parallel

    def push(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        all_tags: bool = False,
        auth: Auth | None = None,
        sink: Sink = silent,
    ) -> list[Descriptor]:
        """Upload the image named `reference` (`latest` without a tag); with `all_tags`, every local tag of its repository.

        Of a name that stands for several platforms all go that are here, with the index as it came or, where some are missing or
        become others on the way, one of those that went; with `platform` the one for it, as an image of its own. Returns the descriptors of
        what the tags now stand for, in their order. Each is recorded as a digest of the image, but for one of several platforms
        that was asked for: that one has no names of its own, and goes with the others.

        Raises:
            ImageNotFound: no image here has that name, or it is not for the platform.
            Unauthorized, Forbidden, Unavailable: what the registry said, or that it said nothing.
        """
        sink(Update(f"The push refers to repository [{reference.name}]"))
        names = self._tags(reference) if all_tags else [self._tag(reference.with_default_tag())]
        parcels = [self._parcel(name, platform) for name in names]
        client = self._registries.repository(reference, auth, push=True)
        with self._images.leases.hold(*(digest for parcel in parcels for digest in parcel.digests)):
            return [self._push_one(client, parcel, sink) for parcel in parcels]

    def _parcel(self, name: Reference, platform: Platform | None) -> _Parcel:
        image, resolved = self._images.resolve(str(name), platform), self._images.descriptor(name)
        if resolved.media_type not in mediatype.INDEXES:
            return _Parcel(name, image, resolved, {resolved.digest})
        variants = self._images.variants(self._images.resolve(str(name)), name)
        row = next((each.descriptor for each in variants if each.image is not None and each.image.id == image.id), None)
        here = {each.descriptor.digest for each in variants if each.image is not None}
        documents = self._images.documents(resolved)
        if platform is not None:
            return _Parcel(name, image, resolved, documents, row)
        found: dict[Digest, Manifest | Index] = {}
        whole = self._listed(resolved, here, found)
        return _Parcel(
            name, image, resolved, documents, None, variants if whole or len(here) > 1 else (), tuple(found.values()) if whole else ()
        )

    def _tag(self, name: Reference) -> Reference:
        try:
            self._images.descriptor(name)
        except ImageNotFound:
            self._tags(name)  # where there is none, Docker says so
            raise ImageNotFound(f"tag does not exist: {name.familiar}") from None
        return name

    def _tags(self, reference: Reference) -> list[Reference]:
        names = sorted(name for image in self._images.list(all=True) for name in image.names if name.name == reference.name)
        if not names:
            raise ImageNotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        return names

    def _push_one(self, client: RegistryClient, parcel: _Parcel, sink: Sink) -> Descriptor:
        name, image, target = parcel.name, parcel.image, str(parcel.name.digest) if parcel.name.digest else parcel.name.tag
        if parcel.variants:
            descriptor = self._push_together(client, parcel, target, sink)
        else:
            descriptor = self._push_image(client, image, self._manifest(parcel, image, parcel.row), target, sink)
        if parcel.row is None:
            with suppress(ImageNotFound):  # removed meanwhile: there is nothing to be noted of
                self._images.add_digest(image.id, replace(name, tag="", digest=descriptor.digest), descriptor)
        sink(Update(f"{name.tag or name.digest}: digest: {descriptor.digest} size: {descriptor.size}"))
        sink(Update(aux={"Tag": name.tag, "Digest": str(descriptor.digest), "Size": descriptor.size}))
        if parcel.row is None and parcel.resolved.media_type in mediatype.INDEXES and not parcel.variants:
            documents = {"originalIndex": descriptor_json(parcel.resolved), "selectedManifest": descriptor_json(descriptor)}
            sink(Update(aux={"manifestPushedInsteadOfIndex": True, **documents}))
        return descriptor

    def _push_together(self, client: RegistryClient, parcel: _Parcel, target: str, sink: Sink) -> Descriptor:
        """The images of several platforms, what is listed beside them, and their index; its descriptor."""
        sent: dict[Digest, Descriptor] = {}
        as_listed = True
        for variant in parcel.variants:
            if variant.image is not None:
                original = self._manifest(parcel, variant.image, variant.descriptor)
                pushed = self._push_image(client, variant.image, original, "", sink)
                sent[pushed.digest] = replace(pushed, platform=variant.platform)
            as_listed = as_listed and (variant.kind != "image" or variant.descriptor.digest in sent)
        if as_listed and parcel.listed:
            *beside, index = parcel.listed
            for document in beside:
                self._push_beside(client, document)
        else:
            index = new_index(list(sent.values()))
        return self._put(client, index, target)

    def _listed(self, entry: Descriptor, images: Collection[Digest], found: dict[Digest, Manifest | Index], nesting: int = 4) -> bool:
        """Find what an index lists beside images, each before what lists it, and the index itself; whether all of it is here."""
        if entry.digest in images or entry.digest in found:
            return True
        try:
            document = parse(self._content.read(entry.digest), entry.media_type)
            if isinstance(document, Manifest):
                here = all(self._content.stat(blob.digest).size == blob.size for blob in (document.config, *document.layers))
            else:
                here = nesting > 0 and all(self._listed(child, images, found, nesting - 1) for child in document.manifests)
        except LaminaError:
            return False
        found[entry.digest] = document
        return here

    def _push_beside(self, client: RegistryClient, document: Manifest | Index) -> None:
        for descriptor in (document.config, *document.layers) if isinstance(document, Manifest) else ():
            self._push_blob(client, descriptor)
        self._put(client, document, "")

    def _push_image(self, client: RegistryClient, image: Image, original: Manifest | None, target: str, sink: Sink) -> Descriptor:
        """Layers, configuration and manifest of one image, under its digest where no `target` is said; the manifest's descriptor."""
        chain = self._layers.chain(image.layers[-1] if image.layers else None)
        sent = self._push_layers(client, image, chain, original, sink)
        media_type = original.config.media_type if original is not None else mediatype.OCI_CONFIG
        self._push_blob(client, Descriptor(media_type, image.id, len(image.config_bytes)))
        if original is not None and tuple(row.digest for row in original.layers) == tuple(row.digest for row in sent):
            manifest = original
        else:
            manifest = new_manifest(Descriptor(mediatype.OCI_CONFIG, image.id, len(image.config_bytes)), sent)
        return self._put(client, manifest, target)

    def _put(self, client: RegistryClient, document: Manifest | Index, target: str) -> Descriptor:
        self._images.leases.touch(document.descriptor.digest)
        descriptor = self._content.put(document.raw, document.media_type)
        client.put_manifest(document.media_type, document.raw, target or str(descriptor.digest))
        return descriptor

    def _push_blob(self, client: RegistryClient, descriptor: Descriptor) -> None:
        if client.exists(descriptor.digest) is None:
            with closing(self._content.open(descriptor.digest)) as blob:
                client.upload(descriptor, blob)

    def _manifest(self, parcel: _Parcel, image: Image, row: Descriptor | None) -> Manifest | None:
        """The manifest that `row` of an index names, or that the name stands for and a registry has given or been given, if it is here.

        Of others only one that every engine reads is taken: that of an image made or loaded here may name layers as zstd or as
        tars. The image may have come in several forms, so what is known of it by other names does not count.
        """
        named = parcel.resolved
        known = row or (image.manifest if named.media_type in mediatype.INDEXES else named)
        try:
            document = parse(self._content.read(known.digest), known.media_type)
        except LaminaError:
            return None
        if not isinstance(document, Manifest):
            return None
        shared = row is not None or named.digest in {each.digest for each in image.digests}
        return document if shared or all(mediatype.compression(each.media_type) == "gzip" for each in document.layers) else None

    def _push_layers(
        self, client: RegistryClient, image: Image, chain: Sequence[LayerFacts], original: Manifest | None, sink: Sink
    ) -> list[Descriptor]:
        rows = original.layers if original is not None and len(original.layers) == len(chain) else (None,) * len(chain)
        tasks = {facts.diff_id: (facts, row) for facts, row in zip(chain, rows, strict=True)}
        for number, diff_id in enumerate(tasks):
            sink(Update("Preparing", diff_id.short))
            if number >= self._parallel:
                sink(Update("Waiting", diff_id.short))
        departure = Departure(client, self._content, self._layers, self._workers, self._siblings(client.repository, image), sink)
        with ThreadPoolExecutor(self._parallel, "push") as threads:
            futures: dict[Digest, Future[Descriptor]] = {
                diff_id: threads.submit(departure.take, facts, row) for diff_id, (facts, row) in tasks.items()
            }
            try:
                return [futures[facts.diff_id].result() for facts in chain]
            except BaseException:
                for future in futures.values():
                    future.cancel()
                raise

    def _siblings(self, repository: Reference, image: Image) -> Mapping[Digest, Sequence[str]]:
        """For each layer (chain ID) of the image, other repositories of the same registry that were seen to have it."""
        found: dict[Digest, list[str]] = {layer: [] for layer in image.layers}
        for other in self._images.list(all=True):
            paths = {name.path for name in other.digests if name.domain == repository.domain and name.path != repository.path}
            for layer in found.keys() & set(other.layers) if paths else ():
                found[layer] += [path for path in sorted(paths) if path not in found[layer]]
        return found
