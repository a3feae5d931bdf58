"""Push: layers compressed (or the very blobs a pull brought) and uploaded where they are missing, then the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

from lamina.content.store import ContentStore
from lamina.distribution.auth import Auth
from lamina.distribution.client import Registries, RegistryClient
from lamina.errors import LaminaError
from lamina.image.departure import Departure
from lamina.image.layers import Layers
from lamina.image.model import Image, ImageNotFound, LayerFacts
from lamina.image.store import Images
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Manifest, new_manifest, parse
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update, silent
from lamina.spec.reference import Reference
from lamina.worker.workers import Workers


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

        Of several platforms that a name stands for, the one for `platform` goes, as an image of its own. Returns the
        manifests' descriptors in the order of the tags. Each is recorded as a digest of the image, but for one of several
        platforms: that one has no names of its own, and goes with the others.

        Raises:
            ImageNotFound: no image here has that name, or it is not for the platform.
            Unauthorized, Forbidden, Unavailable: what the registry said, or that it said nothing.
        """
        names = self._tags(reference) if all_tags else [reference.with_default_tag()]
        images = [self._images.resolve(str(name), platform) for name in names]
        rows = [self._row(name, image) if platform else None for name, image in zip(names, images, strict=True)]
        sink(Update(f"The push refers to repository [{reference.name}]"))
        client = self._registries.repository(reference, auth, push=True)
        with self._images.leases.hold(*(digest for image in images for digest in (image.id, image.manifest.digest, *image.layers))):
            return [self._push_one(client, name, image, row, sink) for name, image, row in zip(names, images, rows, strict=True)]

    def _row(self, name: Reference, image: Image) -> Descriptor | None:
        """How the index that a name stands for lists the image; None where it stands for no index."""
        if self._images.descriptor(name).media_type not in mediatype.INDEXES:
            return None
        variants = self._images.variants(self._images.resolve(str(name)))
        return next((each.descriptor for each in variants if each.image is not None and each.image.id == image.id), None)

    def _tags(self, reference: Reference) -> list[Reference]:
        names = sorted(name for image in self._images.list(all=True) for name in image.names if name.name == reference.name)
        if not names:
            raise ImageNotFound(f"an image does not exist locally with the tag: {reference.familiar_name}")
        return names

    def _push_one(self, client: RegistryClient, name: Reference, image: Image, row: Descriptor | None, sink: Sink) -> Descriptor:
        original = self._manifest(name, image, row)
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
        if row is None:
            with suppress(ImageNotFound):  # removed meanwhile: there is nothing to be noted of
                self._images.add_digest(image.id, replace(name, tag="", digest=descriptor.digest), descriptor)
        sink(Update(f"{name.tag or name.digest}: digest: {descriptor.digest} size: {descriptor.size}"))
        sink(Update(aux={"Tag": name.tag, "Digest": str(descriptor.digest), "Size": descriptor.size}))
        return descriptor

    def _manifest(self, name: Reference, image: Image, row: Descriptor | None) -> Manifest | None:
        """The manifest that `row` of an index names, or that the name stands for and a registry has given or been given, if it is here.

        Of others only one that every engine reads is taken: that of an image made or loaded here may name layers as zstd or as
        tars. The image may have come in several forms, so what is known of it by other names does not count.
        """
        named = self._images.descriptor(name)
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
