"""An OCI layout in a tar (image-spec image-layout.md), if so wanted one that is a docker-archive too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from lamina.content.store import BlobNotFound
from lamina.image.archive.chosen import Chosen
from lamina.image.archive.pieces import Piece, Sources, TarPieces
from lamina.image.archive.plan import REF_NAMES, blob_name
from lamina.image.lookup import created_seconds
from lamina.image.model import Image, LayerFacts, Variant
from lamina.image.variants import Variants
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Manifest, new_index, new_manifest
from lamina.spec.reference import Reference

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutWriter:
    """Collects images. With `docker`, engines that read manifest.json load it as well.

    A manifest that came from elsewhere stays as it is, if all its layers are here in the form that it names; else the
    image gets one of plain tars. An index stays if all its images are here, else one of those that are takes its place.
    """

    def __init__(self, sources: Sources, variants: Variants, *, docker: bool) -> None:
        self._sources, self._variants, self._docker = sources, variants, docker
        self._documents: dict[Digest, tuple[bytes, int]] = {}
        self._layers: dict[Digest, tuple[Piece, int]] = {}
        self._index: list[Descriptor] = []
        self._rows: list[dict[str, object]] = []
        self._repositories: dict[str, dict[str, str]] = {}

    def add(self, chosen: Chosen) -> None:
        """Add images under their names."""
        manifests, entry = self._entry(chosen)
        self._index += [_named(entry, name) for name in chosen.names] or [entry]
        if self._docker:
            self._row(chosen, manifests[0])

    def finished(self) -> tuple[Piece, ...]:
        """The archive: documents come first, so that whoever reads it as a stream knows early what the layers are."""
        tar = TarPieces()
        tar.document("oci-layout", _LAYOUT, 0)
        tar.document("index.json", new_index(self._index).raw, 0)
        if self._docker:
            tar.document("manifest.json", msgspec.json.encode(self._rows), 0)
        if self._repositories:
            tar.document("repositories", msgspec.json.encode(self._repositories, order="sorted"), 0)
        tar.directory("blobs/", 0)
        tar.directory("blobs/sha256/", 0)
        for digest, (data, moment) in self._documents.items():
            tar.document(blob_name(digest), data, moment)
        for digest, (piece, moment) in self._layers.items():
            if digest not in self._documents:
                tar.file(blob_name(digest), piece, moment)
        return tar.finished()

    def _entry(self, chosen: Chosen) -> tuple[list[Manifest], Descriptor]:
        """Add the documents and layers of all images; their manifests, and what stands for them in index.json."""
        if len(chosen.images) == 1:
            manifest = self._image(chosen.images[0], chosen.resolved, portable=self._docker)
            return [manifest], manifest.descriptor
        rows = [variant for variant in self._variants.of(chosen.resolved) if variant.kind == "image"]
        by_image = {variant.image.id: variant for variant in rows if variant.image is not None}
        listed = [by_image.get(image.id, Variant(image.manifest, "image", image)) for image in chosen.images]
        manifests = [self._image(image, variant.descriptor) for image, variant in zip(chosen.images, listed, strict=True)]
        made = {manifest.descriptor.digest for manifest in manifests}
        if made == {variant.descriptor.digest for variant in rows}:
            self._keep_index(chosen.resolved)
            return manifests, replace(chosen.resolved, annotations=(), platform=None)
        index = new_index([replace(each.descriptor, platform=variant.platform) for each, variant in zip(manifests, listed, strict=True)])
        self._documents[index.descriptor.digest] = (index.raw, 0)
        return manifests, index.descriptor

    def _keep_index(self, resolved: Descriptor) -> None:
        """An index as it came, with what it lists beside images (attestations), as far as it is here."""
        for digest in sorted(self._variants.documents(resolved)):
            if digest not in self._documents:
                try:
                    self._documents[digest] = (self._sources.content.read(digest), 0)
                except BlobNotFound:
                    continue

    def _image(self, image: Image, resolved: Descriptor, *, portable: bool = False) -> Manifest:
        """Add one image's documents and layers; its manifest."""
        stack = self._sources.layers.chain(image.layers[-1]) if image.layers else ()
        manifest = self._original(image, resolved, stack, portable=portable)
        moment = created_seconds(image)
        if manifest is None:
            rows = [Descriptor(mediatype.OCI_LAYER, facts.diff_id, facts.tar_size) for facts in stack]
            manifest = new_manifest(Descriptor(mediatype.OCI_CONFIG, image.id, len(image.config_bytes)), rows)
        self._documents[image.id] = (image.config_bytes, moment)
        self._documents[manifest.descriptor.digest] = (manifest.raw, moment)
        for facts, row in zip(stack, manifest.layers, strict=True):
            plain = row.digest == facts.diff_id
            piece = Piece(layer=facts.diff_id, size=facts.tar_size) if plain else Piece(blob=row.digest, size=row.size)
            self._layers.setdefault(row.digest, (piece, moment))
        return manifest

    def _original(self, image: Image, resolved: Descriptor, stack: Sequence[LayerFacts], *, portable: bool) -> Manifest | None:
        """The manifest that the image came with, if it can be saved as it is; `portable`: so that every engine reads it."""
        entry = resolved if resolved.media_type in mediatype.MANIFESTS else image.manifest
        manifest = self._variants.manifest(entry)
        if manifest is None or manifest.config.digest != image.id or len(manifest.layers) != len(stack):
            return None
        # zstd is young: not for other engines where they had better be able to read it, or where it is only our way to store.
        young = any(mediatype.compression(row.media_type) == "zstd" for row in manifest.layers)
        if young and (portable or self._is_own(manifest, stack)):
            return None
        here = all(self._is_here(facts, row) for facts, row in zip(stack, manifest.layers, strict=True))
        return manifest if here else None

    def _is_own(self, manifest: Manifest, stack: Sequence[LayerFacts]) -> bool:
        """Whether it was made here: it has each layer in the form in which that is stored, or as its tar, before there was a copy of it."""
        stored = (self._sources.layers.described(facts).digest for facts in stack)
        forms = zip(manifest.layers, stack, stored, strict=True)
        return manifest.raw == new_manifest(manifest.config, manifest.layers).raw and all(
            row.digest in (facts.diff_id, digest) for row, facts, digest in forms
        )

    def _is_here(self, facts: LayerFacts, row: Descriptor) -> bool:
        if row.digest == facts.diff_id:
            return row.size == facts.tar_size
        try:
            return self._sources.content.stat(row.digest).size == row.size and bool(mediatype.compression(row.media_type))
        except BlobNotFound:
            return False

    def _row(self, chosen: Chosen, manifest: Manifest) -> None:
        image, tags = chosen.images[0], [name.familiar for name in chosen.names]
        layers = [blob_name(row.digest) for row in manifest.layers]
        self._rows.append({"Config": blob_name(image.id), "RepoTags": tags or None, "Layers": layers})
        for name in chosen.names:
            if image.layers:
                self._repositories.setdefault(name.familiar_name, {})[name.tag] = image.layers[-1].encoded


def _named(entry: Descriptor, name: Reference) -> Descriptor:
    return replace(entry, annotations=((REF_NAMES[0], str(name)), (REF_NAMES[1], name.tag)))
