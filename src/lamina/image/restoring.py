"""Layers whose facts are lost, file and row: known again from the configurations of the images that stand on them, and their bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from lamina.content.store import ContentStore
from lamina.errors import LaminaError
from lamina.image.catalog import Catalog
from lamina.image.history import notes
from lamina.image.layers import Layers
from lamina.image.layertar import TarPlace
from lamina.image.metadata import Warn
from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.image.tarbytes import compression_of
from lamina.layer.errors import LayerDamaged
from lamina.snapshot.protocol import Staged, TarSource
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import parse_manifest
from lamina.worker import Workers

_ZSTD = {"zstd": mediatype.OCI_LAYER_ZSTD}


@dataclass(frozen=True, slots=True)
class Restorer:
    """What finds such layers and makes them known. What a layer's instruction was comes from the image's history."""

    catalog: Catalog
    layers: Layers
    content: ContentStore
    workers: Workers
    warn: Warn
    strays: Callable[[], Sequence[Digest]]
    """Blobs that nothing is known to need: the facts of a layer may have been all that named one."""

    def restore(self) -> None:
        """Every layer that an image needs and nobody knows, as far as its bytes are here; the others stay unknown."""
        for image in sorted(self.catalog.all(), key=lambda image: len(image.layers)):
            if not all(map(self.layers.has, image.layers)):
                with suppress(LaminaError):
                    self.restore_image(image)

    def restore_image(self, image: Image) -> None:
        """Make the layers of an image known, base first.

        Raises:
            LayerDamaged: of one of them no sound bytes are here.
        """
        told = notes(image.config)
        parent: Digest | None = None
        for number, layer in enumerate(image.layers):
            if not self.layers.has(layer):
                self._restore(image, number, parent, told[number])
                self.warn(f"the facts of layer {layer} were lost: made anew from the configuration of image {image.id} and its bytes")
            parent = layer

    def _restore(self, image: Image, number: int, parent: Digest | None, note: LayerNote) -> LayerFacts:
        diff_id = image.config.diff_ids[number]
        if (twin := self.layers.reuse(parent, diff_id, note)) is not None:
            return twin
        with self.layers.staging() as scratch:
            for source, blobs in self._sources(image, number, scratch):
                staged = self._staged(source, scratch, diff_id)
                if staged is not None:
                    return self.layers.register(staged, parent, note, blobs)
        raise LayerDamaged(f"the bytes of layer {diff_id} are damaged or missing", hint="pull or load the images again that use it")

    def _staged(self, source: TarSource, scratch: str, diff_id: Digest) -> Staged | None:
        """The layer of these bytes, None where they are those of another or of none."""
        with suppress(LaminaError):
            staged = self.layers.stage(source, scratch)
            if staged.diff_id == diff_id:
                return staged
            self.layers.driver.discard(staged)
        return None

    def _sources(self, image: Image, number: int, scratch: str) -> Iterator[tuple[TarSource, tuple[Descriptor, ...]]]:
        """Where the layer's bytes may be, the likeliest first; and the compressed forms that are known then."""
        diff_id = image.config.diff_ids[number]
        with self._blob(diff_id) as file:
            if file:
                yield TarSource(file.fileno(), compression="", kept=True), ()
        rows = self._rows(image)
        if len(rows) == len(image.layers):
            row = rows[number]
            compression = mediatype.compression(row.media_type)
            with self._blob(row.digest) as file:
                if file and compression:
                    yield TarSource(file.fileno(), compression=compression, kept=True), (Descriptor(row.media_type, row.digest, row.size),)
        for name in (diff_id.encoded, image.layers[number].encoded):
            with self._rebuilt(diff_id, name, scratch) as file:
                if file:
                    yield TarSource(file.fileno(), compression=""), ()
        yield from self._stray_sources()

    def _stray_sources(self) -> Iterator[tuple[TarSource, tuple[Descriptor, ...]]]:
        for digest in self.strays():
            with self._blob(digest) as file:
                kind = compression_of(os.pread(file.fileno(), 8, 0)) if file else ""
                if file and kind in _ZSTD:
                    size = os.fstat(file.fileno()).st_size
                    yield TarSource(file.fileno(), compression=kind, kept=True), (Descriptor(_ZSTD[kind], digest, size),)

    def _rows(self, image: Image) -> Sequence[Descriptor]:
        with suppress(LaminaError):
            return parse_manifest(self.content.read(image.manifest.digest), image.manifest.media_type).layers
        return ()

    @contextmanager
    def _blob(self, digest: Digest) -> Iterator[BinaryIO | None]:
        """The blob, its bytes verified; None where it is not here or damaged."""
        try:
            self.content.verify(digest)
            file = self.content.open(digest)
        except LaminaError:
            yield None
            return
        with file:
            yield file

    @contextmanager
    def _rebuilt(self, diff_id: Digest, name: str, scratch: str) -> Iterator[BinaryIO | None]:
        """The tar as the driver puts it together from the files it keeps, if those are there and what they were."""
        parts = self.layers.driver.rebuilt(name) if self.layers.driver.exists(name) else None
        if parts is None:
            yield None
            return
        with tempfile.TemporaryFile(dir=scratch) as file:
            try:
                self.workers.run("lamina.image.layertar:send", TarPlace.of(str(diff_id), parts).params(), [file.fileno()])
            except LaminaError:
                yield None
                return
            yield file
