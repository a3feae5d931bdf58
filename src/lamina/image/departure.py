"""One layer on its way out: what is known of it at the registry or here first, else compressed while it is sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

from lamina.content.store import BlobNotFound, ContentStore
from lamina.distribution.client import RegistryClient
from lamina.distribution.piped import Piped
from lamina.distribution.transport import RegistryFailed
from lamina.image.download import Paced
from lamina.image.layers import Layers
from lamina.image.model import LayerFacts
from lamina.layer.errors import LayerDamaged
from lamina.linux.pipe import wide_pipe
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.progress import Sink, Update
from lamina.worker.workers import Workers

LEVEL = 2
"""isal's: its level 1 is a twentieth faster and makes one percent more; zlib's 6 makes a fifth less, at a thirtieth of the speed."""

_SIBLINGS = 3
_MOST_THREADS = 4


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
        # Not kept: the same tar gives the same bytes again, and the disk is spared of a third of each layer.
        form = self.client.upload_stream(Compressing(self.layers, self.workers, facts, self.sink))
        self.layers.note_pushed(facts.id, form)
        return self._done("Pushed", facts, form)

    def _here(self, form: Descriptor) -> bool:
        try:
            return self.content.stat(form.digest).size == form.size
        except BlobNotFound:
            return False

    def _upload(self, facts: LayerFacts, form: Descriptor) -> Descriptor:
        progress = Paced(self.sink, "Pushing", facts.diff_id.short, form.size)
        try:
            with closing(self.content.open(form.digest)) as blob:
                self.client.upload(form, blob, sent=progress)
        except RegistryFailed:
            # It may have refused what is damaged: that is named then, and not trusted from now on.
            self.content.verify(form.digest)
            raise
        return self._done("Pushed", facts, form)

    def _done(self, status: str, facts: LayerFacts, form: Descriptor) -> Descriptor:
        self.sink(Update(status, facts.diff_id.short))
        return Descriptor(form.media_type, form.digest, form.size)


class Compressing:
    """See `distribution.upload.Outgoing`: the gzip of a layer's tar, out of a worker through a pipe."""

    def __init__(self, layers: Layers, workers: Workers, facts: LayerFacts, sink: Sink) -> None:
        self._layers, self._workers, self._facts, self._sink = layers, workers, facts, sink
        self._made: dict[str, Any] = {}

    @contextmanager
    def piped(self) -> Iterator[Piped]:
        """See `Outgoing.piped`. What the worker raises (LayerDamaged: the tar is another by now), and what the sink does, comes out where the
        bytes end."""
        reader, writer = wide_pipe()
        failures: list[BaseException] = []
        thread = Thread(target=self._run, args=(writer, failures), name="push-compress", daemon=True)
        thread.start()

        def ended() -> None:
            thread.join()
            if failures:
                raise failures[0]

        try:
            yield Piped(reader, ended)
        finally:
            # Where it is not read to its end, the worker finds nobody at the pipe.
            os.close(reader)
            thread.join()

    def descriptor(self) -> Descriptor:
        """See `Outgoing.descriptor`. Raises RegistryFailed: the registry had enough before they were all made."""
        if not self._made:
            raise RegistryFailed(f"the registry took layer {self._facts.diff_id} before all of it was sent")
        return Descriptor(mediatype.OCI_LAYER_GZIP, Digest.parse(self._made["digest"]), self._made["size"])

    def _run(self, writer: int, failures: list[BaseException]) -> None:
        progress = Paced(self._sink, "Pushing", self._facts.diff_id.short, self._facts.tar_size)
        try:
            tar = self._layers.tar(self._facts.diff_id).params()
            params = {"tar": tar, "level": LEVEL, "threads": min(len(os.sched_getaffinity(0)), _MOST_THREADS)}
            self._made = self._workers.run("lamina.image.compress:gzip", params, [writer], lambda update: progress(update["done"]))
        except BaseException as error:
            if isinstance(error, LayerDamaged):
                self._layers.distrust(self._facts.diff_id)
            failures.append(error)
        finally:
            os.close(writer)


def _forms(facts: LayerFacts, row: Descriptor | None) -> Iterator[Descriptor]:
    """Compressed forms of a layer that a registry may be given: as its manifest names it, then gzips that are known."""
    if row is not None and mediatype.compression(row.media_type):
        yield row
    for source in dict.fromkeys((*facts.sources, *facts.pushed)):
        if mediatype.compression(source.media_type) == "gzip" and (row is None or source.digest != row.digest):
            yield source
