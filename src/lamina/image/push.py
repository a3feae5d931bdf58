"""Push: layers compressed (or the very blobs a pull brought), uploaded where they are missing, then the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import BinaryIO

from lamina.content.store import BlobNotFound, ContentStore
from lamina.distribution.auth import Auth
from lamina.distribution.client import Registries, RegistryClient
from lamina.errors import LaminaError
from lamina.image.download import Paced
from lamina.image.layers import Layers
from lamina.image.model import Image, ImageNotFound, LayerFacts
from lamina.image.store import Images
from lamina.snapshot.protocol import LayerDamaged
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Manifest, new_manifest, parse
from lamina.spec.progress import Sink, Update, silent
from lamina.spec.reference import Reference
from lamina.worker.workers import Workers

LEVEL = 2
"""isal's: as fast as its level 1 on a Debian root, one percent smaller; a fifth larger than zlib's 6 at thirty times its speed."""

_SIBLINGS = 3


class Pusher:
    """Takes images to registries. Thread-safe; one call's layers go in parallel, at most `parallel` at once."""

    def __init__(
        self, registries: Registries, content: ContentStore, layers: Layers, images: Images, workers: Workers, *, parallel: int = 3
    ) -> None:
        self._registries, self._content, self._layers, self._images, self._workers = registries, content, layers, images, workers
        self._parallel = parallel

    def push(self, reference: Reference, *, all_tags: bool = False, auth: Auth | None = None, sink: Sink = silent) -> list[Descriptor]:
        """Upload the image named `reference` (`latest` without a tag); with `all_tags`, every local tag of its repository.

        Returns the manifests' descriptors in the order of the tags. Each is recorded as a digest of the image.

        Raises:
            ImageNotFound: no image here has that name.
            Unauthorized, Forbidden, Unavailable: what the registry said, or that it said nothing.
        """
        names = self._tags(reference) if all_tags else [reference.with_default_tag()]
        images = [self._images.resolve(str(name)) for name in names]
        sink(Update(f"The push refers to repository [{reference.name}]"))
        client = self._registries.repository(reference, auth, push=True)
        with self._images.leases.hold(*(image.id for image in images)):
            return [self._push_one(client, name, image, sink) for name, image in zip(names, images, strict=True)]

    def _tags(self, reference: Reference) -> list[Reference]:
        names = sorted(name for image in self._images.list(all=True) for name in image.names if name.name == reference.name)
        if not names:
            raise ImageNotFound(f"an image does not exist locally with the tag: {reference.familiar_name}")
        return names

    def _push_one(self, client: RegistryClient, name: Reference, image: Image, sink: Sink) -> Descriptor:
        original = self._manifest(image)
        chain = self._layers.chain(image.layers[-1] if image.layers else None)
        sent = self._push_layers(client, image, chain, original, sink)
        self._push_config(client, image, original)
        if original is not None and tuple(row.digest for row in original.layers) == tuple(row.digest for row in sent):
            manifest = original
        else:
            config = Descriptor(mediatype.OCI_CONFIG, image.id, len(image.config_bytes))
            manifest = new_manifest(config, sent)
        self._images.leases.touch(Digest.of(manifest.raw))
        descriptor = self._content.put(manifest.raw, manifest.media_type)
        client.put_manifest(manifest.media_type, manifest.raw, str(name.digest) if name.digest else name.tag)
        self._images.add_digest(image.id, replace(name, tag="", digest=descriptor.digest), descriptor)
        sink(Update(f"{name.tag or name.digest}: digest: {descriptor.digest} size: {descriptor.size}"))
        sink(Update(aux={"Tag": name.tag, "Digest": str(descriptor.digest), "Size": descriptor.size}))
        return descriptor

    def _manifest(self, image: Image) -> Manifest | None:
        """The manifest that registries know the image by, if it is here.

        That of an image made here is not taken: it may name layers as the storage driver keeps them (zstd), which
        older engines cannot pull.
        """
        if not image.digests:
            return None
        try:
            document = parse(self._content.read(image.manifest.digest), image.manifest.media_type)
        except LaminaError:
            return None
        return document if isinstance(document, Manifest) else None

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

    def _push_config(self, client: RegistryClient, image: Image, original: Manifest | None) -> None:
        media_type = original.config.media_type if original is not None else mediatype.OCI_CONFIG
        descriptor = Descriptor(media_type, image.id, len(image.config_bytes))
        if client.exists(image.id) is None:
            with closing(self._content.open(image.id)) as blob:
                client.upload(descriptor, blob)

    def _siblings(self, repository: Reference, image: Image) -> Mapping[Digest, Sequence[str]]:
        """For each layer (chain ID) of the image, other repositories of the same registry that were seen to have it."""
        found: dict[Digest, list[str]] = {layer: [] for layer in image.layers}
        for other in self._images.list(all=True):
            paths = {name.path for name in other.digests if name.domain == repository.domain and name.path != repository.path}
            for layer in found.keys() & set(other.layers) if paths else ():
                found[layer] += [path for path in sorted(paths) if path not in found[layer]]
        return found


@dataclass(frozen=True, slots=True)
class Departure:
    """What takes one layer to a registry. `siblings` are repository paths that may have it, by chain ID."""

    client: RegistryClient
    content: ContentStore
    layers: Layers
    workers: Workers
    siblings: Mapping[Digest, Sequence[str]]
    sink: Sink

    def take(self, facts: LayerFacts, row: Descriptor | None) -> Descriptor:
        """Have the registry have the layer; its descriptor there. `row` is how the image's own manifest names it.

        Known compressed forms come first: what is there already costs one question, what is here needs no compressing.
        """
        known = list(_forms(facts, row))
        for form in known:
            if self.client.exists(form.digest) is not None:
                return self._done("Layer already exists", facts, form)
        for form in known:
            for path in self.siblings.get(facts.id, ())[:_SIBLINGS]:
                if self.client.mount(form.digest, path):
                    return self._done(f"Mounted from {path}", facts, form)
        for form in known:
            if self._here(form):
                return self._upload(facts, form)
        form = self._compress(facts)
        if self.client.exists(form.digest) is not None:
            return self._done("Layer already exists", facts, form)
        return self._upload(facts, form)

    def _here(self, form: Descriptor) -> bool:
        try:
            return self.content.stat(form.digest).size == form.size
        except BlobNotFound:
            return False

    def _upload(self, facts: LayerFacts, form: Descriptor) -> Descriptor:
        progress = Paced(self.sink, "Pushing", facts.diff_id.short, form.size)
        with closing(self.content.open(form.digest)) as blob:
            self.client.upload(form, blob, sent=progress)
        return self._done("Pushed", facts, form)

    def _done(self, status: str, facts: LayerFacts, form: Descriptor) -> Descriptor:
        self.sink(Update(status, facts.diff_id.short))
        return Descriptor(form.media_type, form.digest, form.size)

    def _compress(self, facts: LayerFacts) -> Descriptor:
        """A gzip of the layer's tar, made in a worker and kept, so that the next push has the same digest.

        Raises:
            LayerDamaged: the tar does not have its diff ID any more.
        """
        progress = Paced(self.sink, "Preparing", facts.diff_id.short, facts.tar_size)
        blob, compression = self._source(facts)
        with closing(blob), self.layers.staging() as scratch:
            path = f"{scratch}/gzip"
            with open(path, "xb") as out:
                made = self.workers.run(
                    "lamina.image.compress:gzip",
                    {"compression": compression, "level": LEVEL, "threads": 1},
                    [blob.fileno(), out.fileno()],
                    lambda update: progress(update["done"]),
                )
            if made["tar_digest"] != str(facts.diff_id):
                raise LayerDamaged(f"damaged layer: {facts.id}", hint="remove the images that use it and pull or load them again")
            form = Descriptor(mediatype.OCI_LAYER_GZIP, Digest.parse(made["digest"]), made["size"])
            self.content.adopt(path, form.digest, form.size)
        self.layers.add_source(facts.id, form)
        return form

    def _source(self, facts: LayerFacts) -> tuple[BinaryIO, str]:
        """The tar or a compressed form of it, open, and what it is compressed with."""
        try:
            return self.content.open(facts.diff_id), ""
        except BlobNotFound:
            source = self.layers.source(facts.diff_id)
            return self.content.open(source.digest), mediatype.compression(source.media_type) or ""


def _forms(facts: LayerFacts, row: Descriptor | None) -> Iterator[Descriptor]:
    """Compressed forms of a layer that a registry may be given: as its manifest names it, then gzips that are known."""
    if row is not None and mediatype.compression(row.media_type):
        yield row
    for source in facts.sources:
        if mediatype.compression(source.media_type) == "gzip" and (row is None or source.digest != row.digest):
            yield source
