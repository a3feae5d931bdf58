"""Making images: of layers that are here, or of what a pull brought."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lamina.apitypes.events import Emit
from lamina.content.store import ContentStore
from lamina.errors import InvalidArgument
from lamina.image.catalog import Catalog
from lamina.image.collect import Collector
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.model import Image, LayerFacts, StoreDamaged, image_event
from lamina.spec import config as configs
from lamina.spec import mediatype
from lamina.spec.chain import chain_ids
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Manifest, new_manifest, parse_manifest
from lamina.spec.reference import Reference


class Maker:
    """Stores images and gives names. Thread-safe. `clock` is seconds since 1970."""

    def __init__(
        self,
        catalog: Catalog,
        layers: Layers,
        content: ContentStore,
        leases: Leases,
        collector: Collector,
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._catalog, self._layers, self._content, self._leases = catalog, layers, content, leases
        self._collector, self._emit, self._clock = collector, emit, clock

    def create(
        self,
        config: bytes,
        stack: Sequence[LayerFacts],
        *,
        names: Sequence[Reference] = (),
        parent: Digest | None = None,
        intermediate: bool = False,
        manifest: Manifest | None = None,
        resolved: Descriptor | None = None,
    ) -> Image:
        """An image of a configuration and its layers, base first. Its manifest is the one it came with, or lists the layers
        as they are stored here; `resolved` is what the names stand for, where that is an index of several images.

        Raises:
            InvalidConfig: the bytes are not a configuration.
            StoreDamaged: it lists other layers than `stack`.
        """
        parsed = configs.parse(config)
        if parsed.diff_ids != tuple(facts.diff_id for facts in stack):
            raise StoreDamaged("an image's configuration does not list the layers it is made of")
        if parent is not None and self._catalog.has(parent):
            pool: dict[Any, Any] = {}
            configs.shared(self._catalog.get(parent).config, pool)
            parsed = configs.shared(parsed, pool)
        self.document(config, mediatype.OCI_CONFIG)
        found = manifest or own_manifest(config, stack, self._layers)
        return self._store(found, parsed, config, resolved or found.descriptor, names, parent, intermediate=intermediate)

    def document(self, data: bytes, media_type: str = "") -> Descriptor:
        """Store a document; touched first, so that whoever removes an image of the same bytes meanwhile leaves it."""
        self._leases.touch(Digest.of(data))
        return self._content.put(data, media_type)

    def adopt(self, resolved: Descriptor, manifest_bytes: bytes, names: Sequence[Reference]) -> Image:
        """The image of a manifest whose configuration and layers are here. `resolved` is what the names stood for: the
        manifest, or the index it was chosen from, whose bytes are in the content store. A name leaves the image that had it.

        Raises:
            InvalidManifest, InvalidConfig, BlobNotFound, LayerNotFound: nothing was changed.
        """
        media_type = resolved.media_type if resolved.digest == Digest.of(manifest_bytes) else ""
        manifest = parse_manifest(manifest_bytes, media_type)
        config = self._content.read(manifest.config.digest)
        return self._store(manifest, configs.parse(config), config, resolved, names, None, intermediate=False)

    def tag(self, image: Image, target: Reference, descriptor: Descriptor | None = None) -> Image:
        """Give an image one more name; it leaves the image that had it. A name with a digest needs the descriptor it stands for.

        Raises:
            InvalidArgument: a digest without a descriptor; a name that reads as a digest.
        """
        _refuse_ambiguous([target])
        if target.digest is not None and descriptor is None:
            raise InvalidArgument(f"refusing to create a tag with a digest reference: {target.familiar}")
        with self._catalog.lock:
            name = target.with_default_tag()
            had = self._catalog.named(name)
            named = self._catalog.name(image.id, [(name, descriptor or image.manifest)], self._clock())
            self._after_move([had[0]] if had else [], [had[1]] if had else [])
        if target.digest is None:
            self._emit(image_event(image, "tag", name.familiar))
        return named

    def _store(
        self,
        manifest: Manifest,
        config: ImageConfig,
        config_bytes: bytes,
        resolved: Descriptor,
        names: Sequence[Reference],
        parent: Digest | None,
        *,
        intermediate: bool,
    ) -> Image:
        _refuse_ambiguous(names)
        chain = chain_ids(config.diff_ids)
        stack = self._layers.chain(chain[-1]) if chain else ()
        stored = self.document(manifest.raw, manifest.media_type)
        image = Image(
            id=Digest.of(config_bytes),
            manifest=stored,
            config=config,
            config_bytes=config_bytes,
            layers=chain,
            parent=parent,
            intermediate=intermediate,
            size=sum(facts.content_size for facts in stack),
            tagged=self._clock() if names else 0.0,
        )
        with self._catalog.lock:
            full = [name.with_default_tag() for name in names]
            had = [found for name in full if (found := self._catalog.named(name)) is not None]
            made = self._catalog.put(image, manifest.raw, [(name, resolved) for name in full])
            # An image that was here keeps the manifest it has; without a name that stands for another, that one is nobody's.
            unnamed = [] if names else [each for each in (stored, resolved) if each.digest != made.manifest.digest]
            self._after_move([each[0] for each in had], [*(each[1] for each in had), *unnamed])
            return made

    def _after_move(self, images: Sequence[Image], descriptors: Sequence[Descriptor]) -> None:
        """A name that moves may leave the documents it stood for to nobody."""
        self._collector.release(images, descriptors)


def _refuse_ambiguous(names: Sequence[Reference]) -> None:
    if any(name.familiar_name == "sha256" for name in names):
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")


def own_manifest(config: bytes, stack: Sequence[LayerFacts], layers: Layers) -> Manifest:
    """The manifest of an image that was made here: its layers in the form in which they are stored."""
    described = Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config))
    return new_manifest(described, [layers.described(facts) for facts in stack])
