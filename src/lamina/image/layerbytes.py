"""Where the exact bytes of layers are to be had: as their tars, in compressed forms of these, or put together by the storage driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import BinaryIO

from lamina.content.store import BlobDamaged, BlobNotFound, ContentStore
from lamina.image.layertar import TarPlace
from lamina.image.model import LayerFacts
from lamina.image.tarbytes import decompressed
from lamina.layer.errors import LayerDamaged
from lamina.snapshot.protocol import LayerNotFound, Progress, Snapshotter, Staged, StagedBlob, TarSource
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest


class LayerBytes(ABC):
    """The part of `Layers` that finds bytes."""

    _content: ContentStore
    _snapshotter: Snapshotter
    _damaged: set[str]
    """The driver's names of layers that were found damaged, and have not been made anew since."""

    @abstractmethod
    def all(self) -> tuple[LayerFacts, ...]:
        """All layers, in no order."""

    @abstractmethod
    def staging(self) -> AbstractContextManager[str]:
        """See `Layers.staging`."""

    @abstractmethod
    def _remake(self, facts: LayerFacts) -> None:
        """Make what the driver keeps of a layer anew. Raises LayerDamaged: no sound bytes of it are here."""

    @abstractmethod
    def keep_copy(self, layer: Digest, blob: StagedBlob) -> LayerFacts | None:
        """See `Uncopied.keep_copy`."""

    def stage(self, source: TarSource, scratch: str, progress: Progress | None = None) -> Staged:
        """Read a layer's tar once: verified, written below `scratch` (of `staging`), not visible. See Snapshotter.stage."""
        return self._snapshotter.stage(source, scratch, progress)

    def tar_blob(self, diff_id: Digest) -> str | None:
        """The host path of the uncompressed tar, None where only a compressed form is kept."""
        try:
            return self._content.path(diff_id)
        except BlobNotFound:
            return None

    def described(self, facts: LayerFacts) -> Descriptor:
        """The layer as a manifest names it: its tar, or the compressed form in which it is stored; its tar, too, where that is still to be
        made.

        Raises:
            LayerNotFound: neither is here.
        """
        with suppress(BlobNotFound):
            return Descriptor(mediatype.OCI_LAYER, facts.diff_id, self._content.stat(facts.diff_id).size)
        if self.lacks_copy(facts):
            return Descriptor(mediatype.OCI_LAYER, facts.diff_id, facts.tar_size)
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

    def distrust(self, diff_id: Digest) -> None:
        """A worker saw that they are not: who wants them next has the layer made anew first."""
        self._damaged.update(facts.name for facts in self.all() if facts.diff_id == diff_id)

    def tar(self, diff_id: Digest) -> TarPlace:
        """Where a worker gets the layer's tar, the exact bytes. Whether they are is for the worker to see, by a `Seal`; see `distrust`.

        Raises:
            LayerNotFound: nowhere.
            LayerDamaged: what was seen to be damaged cannot be made anew.
        """
        here = [facts for facts in self.all() if facts.diff_id == diff_id]
        for facts in here:
            if facts.name in self._damaged:
                self._remake(facts)
        crc32 = next((facts.crc32 for facts in here if facts.crc32 is not None), None)
        blob = self.tar_blob(diff_id)
        if blob is not None:
            return TarPlace(str(diff_id), blob, crc32=crc32)
        for facts in here:
            if (parts := self._snapshotter.rebuilt(facts.name)) is not None:
                return TarPlace.of(str(diff_id), parts, crc32)
        source = self.source(diff_id)
        return TarPlace(str(diff_id), self._content.path(source.digest), mediatype.compression(source.media_type) or "", crc32=crc32)

    def open_tar(self, diff_id: Digest) -> BinaryIO:
        """The layer's tar, the exact bytes; the caller closes it. Not seekable where a compressed form is what is kept."""
        with suppress(BlobNotFound):
            return self._content.open(diff_id)
        source = self.source(diff_id)
        return decompressed(self._content.open(source.digest), mediatype.compression(source.media_type) or "")

    def lacks_copy(self, facts: LayerFacts) -> bool:
        """Whether the driver's tree is all there is of a layer."""
        if facts.sources or self._snapshotter.rebuilt(facts.name) is None:
            return False
        try:
            self._content.stat(facts.diff_id)
            return False
        except BlobNotFound:
            return True

    def uncopied(self) -> Sequence[LayerFacts]:
        """See `Uncopied.uncopied`; of a layer at several places, one."""
        return tuple({facts.name: facts for facts in self.all() if self.lacks_copy(facts)}.values())

    @contextmanager
    def copied(self, facts: LayerFacts) -> Iterator[StagedBlob]:
        """See `Uncopied.copied`."""
        with self.staging() as scratch:
            yield self._snapshotter.copy(facts.name, facts.diff_id, scratch)

    def learn(self, facts: LayerFacts) -> None:
        """See Snapshotter.learn."""
        with self.staging() as scratch:
            facts = self._with_copy(facts)
            source = self.tar_blob(facts.diff_id) or self._content.path(self.source(facts.diff_id).digest)
            with open(source, "rb") as file:
                self._snapshotter.learn(facts.name, TarSource(file.fileno(), kept=True), scratch)

    def _with_copy(self, facts: LayerFacts) -> LayerFacts:
        """The layer, with bytes beside its tree: made now where they are still to be made. Raises LayerDamaged."""
        if not self.lacks_copy(facts):
            return facts
        with self.copied(facts) as blob:
            return self.keep_copy(facts.id, blob) or facts

    def _check_bytes(self, facts: LayerFacts) -> None:
        """That the layer's bytes are here, if there should be any beside its tree, and nobody wrote to them."""
        if self.tar_blob(facts.diff_id) is None and not self.lacks_copy(facts):
            self._content.path(self.source(facts.diff_id).digest)

    def _bytes(self, facts: LayerFacts) -> tuple[str, bool]:
        """A file with sound bytes of the layer, hashed now, and whether it is the plain tar."""
        for digest in blobs_of(facts):
            with suppress(BlobNotFound, BlobDamaged):
                self._content.verify(digest)
                return self._content.path(digest), digest == facts.diff_id
        raise LayerDamaged(f"the bytes of layer {facts.id} are damaged or missing", hint="pull or load the images again that use it")

    def _staged(self, facts: LayerFacts, scratch: str) -> tuple[LayerFacts, Staged, bool]:
        """The layer with bytes of it, read again; and whether those are the plain tar."""
        facts = self._with_copy(facts)
        path, tar_is_sound = self._bytes(facts)
        with open(path, "rb") as file:
            staged = self.stage(TarSource(file.fileno(), kept=True), scratch)
        if staged.diff_id != facts.diff_id:
            raise LayerDamaged(f"damaged layer: {facts.id}", hint="pull or load the images again that use it")
        return facts, staged, tar_is_sound


def blobs_of(facts: LayerFacts) -> tuple[Digest, ...]:
    """A layer's tar and the compressed forms of it that are kept."""
    return (facts.diff_id, *(source.digest for source in facts.sources))


def merged(known: Sequence[Descriptor], more: Sequence[Descriptor]) -> tuple[Descriptor, ...]:
    """Both, each digest once."""
    by_digest = {source.digest: source for source in (*known, *more)}
    return tuple(by_digest.values())


def files_of(facts: LayerFacts) -> tuple[str | Digest, ...]:
    """What layers may share: the driver's files by name, blobs by digest."""
    return (facts.name, *blobs_of(facts))
