"""Where the exact bytes of layers are to be had: as their tars, in compressed forms of these, or put together by the storage driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import BinaryIO

from lamina.content.store import BlobNotFound, ContentStore
from lamina.image.layertar import TarPlace
from lamina.image.model import LayerFacts
from lamina.image.tarbytes import decompressed
from lamina.snapshot.protocol import LayerNotFound, Snapshotter
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest


class LayerBytes(ABC):
    """The part of `Layers` that finds bytes."""

    _content: ContentStore
    _snapshotter: Snapshotter

    @abstractmethod
    def all(self) -> tuple[LayerFacts, ...]:
        """All layers, in no order."""

    def tar_blob(self, diff_id: Digest) -> str | None:
        """The host path of the uncompressed tar, None where only a compressed form is kept."""
        try:
            return self._content.path(diff_id)
        except BlobNotFound:
            return None

    def described(self, facts: LayerFacts) -> Descriptor:
        """The layer as a manifest names it, in the form in which it is stored: its tar, or a compressed form of that.

        Raises:
            LayerNotFound: neither is here.
        """
        with suppress(BlobNotFound):
            return Descriptor(mediatype.OCI_LAYER, facts.diff_id, self._content.stat(facts.diff_id).size)
        source = self.source(facts.diff_id)
        return Descriptor(source.media_type, source.digest, source.size)

    def source(self, diff_id: Digest) -> Descriptor:
        """A compressed form of the tar whose blob is here.

        Raises:
            LayerNotFound: there is none.
        """
        for facts in self.all():
            if facts.diff_id == diff_id:
                for source in facts.sources:
                    with suppress(BlobNotFound):
                        self._content.stat(source.digest)
                        return source
        raise LayerNotFound(f"the bytes of layer {diff_id} are not here")

    def tar(self, diff_id: Digest) -> TarPlace:
        """Where a worker gets the layer's tar, the exact bytes. Their digest is for the worker to compare.

        Raises:
            LayerNotFound: nowhere.
        """
        blob = self.tar_blob(diff_id)
        if blob is not None:
            return TarPlace(str(diff_id), blob)
        for facts in self.all():
            if facts.diff_id == diff_id and (parts := self._snapshotter.rebuilt(facts.name)) is not None:
                return TarPlace.of(str(diff_id), parts)
        source = self.source(diff_id)
        return TarPlace(str(diff_id), self._content.path(source.digest), mediatype.compression(source.media_type) or "")

    def open_tar(self, diff_id: Digest) -> BinaryIO:
        """The layer's tar, the exact bytes; the caller closes it. Not seekable where a compressed form is what is kept."""
        with suppress(BlobNotFound):
            return self._content.open(diff_id)
        source = self.source(diff_id)
        return decompressed(self._content.open(source.digest), mediatype.compression(source.media_type) or "")
