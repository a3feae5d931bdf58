"""Layers: from a tar to facts, files and mounts; each known by its chain ID, each kept once however many images stand on it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from lamina.content.durability import Durability
from lamina.content.files import disk_bytes, write_file
from lamina.content.store import BlobNotFound, ContentStore
from lamina.errors import LaminaError
from lamina.image.copies import Copies
from lamina.image.documents import decode_facts, encode_facts
from lamina.image.layerbytes import LayerBytes, blobs_of, files_of, merged
from lamina.image.leases import Leases
from lamina.image.metadata import Metadata, Transaction, Warn
from lamina.image.model import LayerFacts, LayerNote
from lamina.image.twins import document_path, heal, reconcile
from lamina.layer.errors import LayerDamaged
from lamina.layer.index import LayerIndex
from lamina.layer.union import Union
from lamina.snapshot.protocol import Change, LayerNotFound, Lower, Own, RootMount, Snapshotter, Staged, StagedBlob
from lamina.spec.chain import chain_id
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest


class Layers(LayerBytes):
    """All layers that are here. Thread-safe; `lock` makes several calls one step (after the catalog's, where both are taken).

    `directory` holds facts, one JSON file per layer, beside the driver's files. `verify`: `verify_stack` each time a container gets one.
    """

    def __init__(
        self,
        directory: str,
        content: ContentStore,
        snapshotter: Snapshotter,
        metadata: Metadata,
        leases: Leases,
        durability: Durability,
        warn: Warn,
        *,
        verify: bool = False,
    ) -> None:
        self._directory, self._content, self._snapshotter, self._metadata = directory, content, snapshotter, metadata
        self._leases, self._durability, self._warn = leases, durability, warn
        self._verify = verify
        self.lock = threading.RLock()
        self._facts: dict[Digest, LayerFacts] = {}
        self._looked_at: set[Digest] = set()
        self._damaged: set[str] = set()
        self._uses: Counter[str | Digest] = Counter()
        self._usage: dict[Digest, int] = {}
        self.copies = Copies(self, leases, warn)
        os.makedirs(directory, exist_ok=True)

    @property
    def driver(self) -> Snapshotter:
        """What makes layers mountable on this root."""
        return self._snapshotter

    def open(self) -> None:
        """At start, before anything else: read facts from files and database, heal what differs."""
        rows = self._metadata.layers()
        twins = reconcile(self._directory, rows, decode_facts, removed=self._metadata.removed(), what="layer", warn=self._warn)
        with self.lock:
            self._facts = {facts.id: facts for facts in twins.values.values()}
            self._uses = Counter(file for facts in self._facts.values() for file in files_of(facts))
        if twins.to_rows:
            with self._metadata.transaction() as change:
                for key in twins.to_rows:
                    change.put_layer(Digest.parse(key), encode_facts(twins.values[key]))
        self._metadata.kept_by(self._keep)
        if self.uncopied():
            self.copies.request()

    def _keep(self, change: Transaction) -> None:
        """Write all facts into a database that is made anew."""
        for facts in tuple(self._facts.values()):
            change.put_layer(facts.id, encode_facts(facts))

    @contextmanager
    def staging(self) -> Iterator[str]:
        """A scratch directory for `stage`; what was not registered when it is left is gone."""
        with self._content.scratch() as scratch:
            yield scratch

    def register(self, staged: Staged, parent: Digest | None, note: LayerNote, sources: Sequence[Descriptor] = ()) -> LayerFacts:
        """Make a staged layer one of the layers, on top of `parent`.

        Idempotent: where it is here already, what was staged is dropped and the facts that stand are answered.
        `sources` are compressed forms of the tar whose blobs are in the content store.

        Raises:
            LayerNotFound: `parent` is not here.
            DiskFull: nothing was registered.
        """
        layer = chain_id(parent, staged.diff_id)
        with self.lock:
            known = self._sound(layer)
            if known is not None:
                self._snapshotter.discard(staged)
                return self._with_sources(known, sources)
            below = [facts.name for facts in self.chain(parent)]
            for blob in staged.blobs:
                self._content.adopt(blob.path, blob.digest, blob.size)
                self._leases.touch(blob.digest)
            name = (layer if staged.contextual else staged.diff_id).encoded
            if name in self._damaged:
                self._snapshotter.replace(staged, name, below)
                self._damaged.discard(name)
            else:
                self._snapshotter.publish(staged, name, below)
            own = [Descriptor(blob.media_type, blob.digest, blob.size) for blob in staged.blobs if blob.digest != staged.diff_id]
            facts = LayerFacts(
                layer, staged.diff_id, parent, name, staged.tar_size, staged.content_size, staged.entries,
                note.created, note.created_by, note.instruction, merged(own, sources), crc32=staged.crc32,
            )  # fmt: skip
            try:
                self._record(facts)
            except BaseException:  # a full disk, say
                if layer not in self._facts:  # nobody would find its files again
                    self._delete_files(facts)
                raise
            self._durability.seal(self._snapshotter.index(name))
            self._looked_at.add(layer)
            if self.lacks_copy(facts):
                self.copies.request()
            return facts

    def reuse(self, parent: Digest | None, diff_id: Digest, note: LayerNote) -> LayerFacts | None:
        """The layer `diff_id` on top of `parent`, made of one that is here on another parent; None where there is no such layer."""
        for twin in [facts for facts in self.all() if facts.diff_id == diff_id]:
            if (sound := self._sound(twin.id)) is None:
                continue
            if twin.name != diff_id.encoded:  # what it implies looks like what is below
                if (facts := self._put_on(sound, parent, note)) is not None:
                    return facts
                continue
            with self.lock:
                if (known := self._facts.get(twin.id)) is None:
                    continue
                layer = chain_id(parent, diff_id)
                facts = replace(
                    known, id=layer, parent=parent, created=note.created, created_by=note.created_by, instruction=note.instruction
                )
                self._record(facts)
                self._looked_at.add(layer)
                return facts
        return None

    def _put_on(self, twin: LayerFacts, parent: Digest | None, note: LayerNote) -> LayerFacts | None:
        """The layer made once more from its bytes, which are read while nobody waits; None where it was removed meanwhile."""
        with self.staging() as scratch:
            _, staged, tar_is_sound = self._staged(twin, scratch)
            with self.lock:
                if (facts := self._facts.get(twin.id)) is None:
                    self._snapshotter.discard(staged)
                    return None
                for blob in () if tar_is_sound else staged.blobs:
                    self._content.delete(blob.digest)
                return self.register(staged, parent, note, facts.sources)

    def commit_upper(
        self, upper: str, parent: Digest | None, note: LayerNote, *, over: Sequence[str] = (), cached: bool = True
    ) -> LayerFacts:
        """Make a layer of what an upper directory changed on the stack `parent`; nobody may be writing to it.

        What the upper directories that it stands on (`over`, top first) changed is part of it. `cached`: see Snapshotter.stage_upper.
        """
        names = [facts.name for facts in self.chain(parent)]
        with self.staging() as scratch:
            staged = self._snapshotter.stage_upper(upper, names, scratch, over=over, cached=cached)
            return self.register(staged, parent, note)

    def find(self, parent: Digest | None, diff_id: Digest, *, verify: bool = False) -> LayerFacts | None:
        """The layer `diff_id` on top of `parent` if it is here and sound; a lease that is held keeps it from now on.

        Sizes, marks and superblock are looked at, with `verify` every byte. What can be made anew from what is here is. One whose
        bytes are gone or damaged is not found: registering it again repairs it.
        """
        return self._sound(chain_id(parent, diff_id), verify=verify)

    def rewrite(self, layer: Digest) -> None:
        """Write the facts of a layer again, file and row."""
        with self.lock:
            self._record(self._get(layer))

    def forget_source(self, digest: Digest) -> None:
        """A compressed form is here no more: delete it, and say so in the facts of its layers."""
        with self.lock:
            for facts in self.all():
                left = tuple(source for source in facts.sources if source.digest != digest)
                if left != facts.sources:
                    self._record(replace(facts, sources=left))
            self._content.delete(digest)

    def verify(self, layer: Digest) -> None:
        """Look at every byte of a layer that a container may read.

        Raises:
            LayerNotFound, LayerDamaged, BlobDamaged: names it and says what is wrong.
        """
        facts = self._get(layer)
        self._snapshotter.check(facts.name)
        if self._snapshotter.tree(facts.name) is None:
            # The kernel compares every byte of a sealed tar when it is read.
            if not self._durability.sealed(self._content.path(facts.diff_id)):
                self._content.verify(facts.diff_id)
        else:
            self.learn(facts)
        self._snapshotter.check(facts.name, deep=True)

    def verify_stack(self, layer: Digest | None) -> None:
        """`verify` of every layer of a stack, on all processors. What was merged of it and is damaged is made anew."""
        chain = self.chain(layer)
        with ThreadPoolExecutor(os.cpu_count() or 1, "verify") as threads:
            list(threads.map(lambda facts: self.verify(facts.id), chain))
        for key, _ in self._snapshotter.damaged_stacks([facts.name for facts in chain]):
            self._snapshotter.mend_stack(key)

    def add_source(self, layer: Digest, source: Descriptor) -> LayerFacts:
        """Note a compressed form of the layer whose blob is in the content store now."""
        with self.lock:  # a copy may be noted meanwhile
            return self._with_sources(self.get(layer), (source,))

    def keep_copy(self, layer: Digest, blob: StagedBlob) -> LayerFacts | None:
        """See `Uncopied.keep_copy`."""
        with self.lock:
            if (facts := self._facts.get(layer)) is None:
                return None
            self._content.adopt(blob.path, blob.digest, blob.size)
            self._leases.touch(blob.digest)
            return self._with_sources(facts, (Descriptor(blob.media_type, blob.digest, blob.size),))

    def note_pushed(self, layer: Digest, form: Descriptor) -> None:
        """Note a compressed form of the layer that a registry was given, and that is not kept here."""
        with self.lock:
            facts = self._get(layer)
            pushed = merged(facts.pushed, (form,))
            if pushed != facts.pushed:
                self._record(replace(facts, pushed=pushed))

    def get(self, layer: Digest) -> LayerFacts:
        """Raises LayerNotFound. A facts file that went missing is written again."""
        self._get(layer)
        self._heal(layer)
        return self._get(layer)

    def chain(self, layer: Digest | None) -> tuple[LayerFacts, ...]:
        """The stack that ends in `layer`, base first; empty for None.

        Raises:
            LayerNotFound: a layer of it is not here.
        """
        stack: list[LayerFacts] = []
        while layer is not None:
            stack.append(self._get(layer))
            layer = stack[-1].parent
        return tuple(reversed(stack))

    def all(self) -> tuple[LayerFacts, ...]:
        """All layers, in no order."""
        with self.lock:
            return tuple(self._facts.values())

    def lowers(self, layer: Digest | None) -> tuple[Lower, ...]:
        """The stack as overlayfs takes it, top first. Each layer is looked at before its first mount since start.

        Raises:
            LayerNotFound, LayerDamaged: names the layer; nothing was mounted of it.
        """
        return self._snapshotter.lowers(self._sound_names(layer))

    def prepare(self, layer: Digest | None, own: Own) -> None:
        """Make a new container's upper directory ready for the stack. See Snapshotter.prepare."""
        self._snapshotter.prepare(own, self._sound_names(layer))

    def root(self, layer: Digest | None, own: Own, *, writable: bool = True) -> RootMount:
        """The root file system of a container on the stack. See Snapshotter.root, and `lowers`."""
        if self._verify:
            self.verify_stack(layer)
        return self._snapshotter.root(own, self._sound_names(layer), writable=writable)

    def changes(self, layer: Digest | None, upper: str, over: Sequence[str] = ()) -> list[Change]:
        """What was written to an upper directory on the stack. See Snapshotter.changes."""
        return self._snapshotter.changes(upper, [facts.name for facts in self.chain(layer)], over)

    def changed(self, layer: Digest | None, upper: str) -> bool:
        """Whether anything was written to an upper directory on the stack."""
        return self._snapshotter.changed(upper, [facts.name for facts in self.chain(layer)])

    def written(self, layer: Digest | None, upper: str) -> int:
        """Bytes on disk of what was written to an upper directory on the stack."""
        return self._snapshotter.written(upper, [facts.name for facts in self.chain(layer)])

    def index(self, layer: Digest) -> LayerIndex:
        """What the one layer holds, from its metadata image; the caller closes it."""
        facts = self._get(layer)
        self._look_at(facts)
        return LayerIndex.open(self._snapshotter.index(facts.name))

    def index_path(self, layer: Digest) -> str:
        """Where the layer's metadata image lies, for workers. See `index`."""
        facts = self._get(layer)
        self._look_at(facts)
        return self._snapshotter.index(facts.name)

    def union(self, layer: Digest | None) -> Union:
        """The stack as one tree, from the metadata images, without mounting; the caller closes it."""
        return Union([self.index(facts.id) for facts in self.chain(layer)])

    def remake(self, layer: Digest) -> None:
        """Make what the driver keeps of a layer anew from its tar.

        Raises:
            LayerDamaged: the tar is not what it was.
        """
        facts = self._get(layer)
        self._remake(facts)
        self._durability.settle(document_path(self._directory, str(layer)))

    def has(self, layer: Digest) -> bool:
        """Whether the layer is known here."""
        return layer in self._facts

    def facts_usage(self, layer: Digest) -> int:
        """Bytes on disk of the layer's facts."""
        return disk_bytes(document_path(self._directory, str(layer)))

    def uses(self, blob: Digest) -> bool:
        """Whether the blob is a layer's tar, or a compressed form of one."""
        return self._uses[blob] > 0

    def usage(self, layer: Digest) -> int:
        """Bytes on disk of one layer: blobs, metadata image, extracted tree; 0 for one that was removed meanwhile."""
        if layer in self._usage:
            return self._usage[layer]
        if (facts := self._facts.get(layer)) is None:
            return 0
        total = self._snapshotter.usage(facts.name)
        for digest in (facts.diff_id, *(source.digest for source in facts.sources)):
            with suppress(BlobNotFound):
                total += self._content.stat(digest).size
        self._usage[layer] = total
        return total

    def release(self, tops: Iterable[Digest]) -> None:
        """At a clean stop: let go of what is mounted but for the stacks that end in `tops`, on which containers run."""
        with self.lock:
            self._snapshotter.release([facts.name for facts in self.chain(top)] for top in tops if top in self._facts)

    def sweep(self, wanted: Container[str]) -> None:
        """At start: delete what the driver keeps under names that no facts have, but for those `wanted`.

        Such files stay where a layer was published and its facts could not be written (a full disk, the end of the process).
        """
        with self.lock:
            for name in self._snapshotter.names():
                if not self._uses[name] and name not in wanted:
                    self._snapshotter.remove(name)

    def trim(self, tops: Iterable[Digest]) -> None:
        """Let the driver forget what it merged for other stacks than those that end in `tops`; unknown ones are passed over."""
        with self.lock:
            self._snapshotter.trim([facts.name for facts in self.chain(top)] for top in tops if top in self._facts)

    def remove(self, layers: Sequence[Digest]) -> None:
        """Remove layers that nothing stands on, top ones first in `layers`. Unknown ones are passed over."""
        with self.lock:
            gone = [self._facts[layer] for layer in layers if layer in self._facts]
            if not gone:
                return
            with self._metadata.transaction() as change:
                change.delete_layers(facts.id for facts in gone)
            for facts in gone:
                self._uses.subtract(files_of(self._facts.pop(facts.id)))
            for facts in gone:
                self._delete_files(facts)
            self._uses += Counter()

    def _delete_files(self, facts: LayerFacts) -> None:
        """Delete what no other layer uses."""
        self._looked_at.discard(facts.id)
        self._usage.pop(facts.id, None)
        with suppress(FileNotFoundError):
            os.unlink(document_path(self._directory, str(facts.id)))
        if not self._uses[facts.name] and self._snapshotter.exists(facts.name):
            self._snapshotter.remove(facts.name)
        for digest in blobs_of(facts):
            if not self._uses[digest]:
                self._content.delete(digest)

    def _sound_names(self, layer: Digest | None) -> list[str]:
        """The driver's names of a stack, base first, each layer looked at."""
        stack = self.chain(layer)
        for facts in stack:
            self._look_at(facts)
        return [facts.name for facts in stack]

    def _get(self, layer: Digest) -> LayerFacts:
        try:
            return self._facts[layer]
        except KeyError:
            raise LayerNotFound(f"no such layer: {layer}") from None

    def _heal(self, layer: Digest) -> None:
        heal(self._directory, str(layer), partial(self._facts.get, layer), encode_facts, self.lock, what="layer", warn=self._warn)

    def _record(self, facts: LayerFacts) -> None:
        """File first, then row: where a crash comes between, the next start takes it from the file."""
        data = encode_facts(facts)
        path = document_path(self._directory, str(facts.id))
        write_file(path, data)
        with self._metadata.transaction() as change:
            change.put_layer(facts.id, data)
        before = self._facts.get(facts.id)
        self._uses.update(files_of(facts))
        self._uses.subtract(files_of(before) if before else ())
        self._facts[facts.id] = facts
        self._usage.pop(facts.id, None)
        self._leases.touch(facts.id)
        self._durability.settle(path)

    def _with_sources(self, facts: LayerFacts, sources: Sequence[Descriptor]) -> LayerFacts:
        more = merged(facts.sources, sources)
        with self.lock:
            if more != facts.sources:
                facts = replace(facts, sources=more)
                self._record(facts)
            return facts

    def _sound(self, layer: Digest, *, verify: bool = False) -> LayerFacts | None:
        with self.lock:
            if (facts := self._facts.get(layer)) is None:
                return None
            self._leases.touch(layer)
        try:
            if facts.name in self._damaged:
                raise LayerDamaged("found damaged before")
            self._look_at(facts)
            if verify:
                self.verify(layer)
            self._check_bytes(facts)
            self._snapshotter.check(facts.name)
            return facts
        except LaminaError as error:
            self._warn(f"layer {layer} is damaged: {error.message}")
            return self._mended(facts)

    def _mended(self, facts: LayerFacts) -> LayerFacts | None:
        """The layer made whole from what is here; None where it must come again: then what is damaged of it is out of the way."""
        try:
            self._remake(facts)
            return facts
        except LaminaError as error:
            self._warn(f"layer {facts.id} must come again: {error.message}")
        self._damaged.add(facts.name)
        for digest in blobs_of(facts):
            try:
                self._content.verify(digest)
            except LaminaError:
                self._content.delete(digest)
        return None

    def _look_at(self, facts: LayerFacts) -> None:
        """Before first use: one that a crash of the machine may have hurt, or whose derived files are gone, is made anew from its tar."""
        if facts.id in self._looked_at:
            return
        path = document_path(self._directory, str(facts.id))
        if not os.path.exists(path):
            self._heal(facts.id)
            self._durability.settle(path)
        elif not self._snapshotter.exists(facts.name):
            self._warn(f"the files of layer {facts.id} were gone: made anew from its tar")
            self._remake(facts)
        elif not self._durability.trusted(path) or self._durability.sealed(self._snapshotter.index(facts.name)) is False:
            self._remake(facts)
            self._durability.confirm(path)
        self._looked_at.add(facts.id)

    def _remake(self, facts: LayerFacts) -> None:
        """See `LayerBytes`; the tar is made anew too where only a compressed form of it is sound."""
        with self.staging() as scratch:
            facts, staged, tar_is_sound = self._staged(facts, scratch)
            with self.lock:
                for blob in () if tar_is_sound else staged.blobs:
                    self._content.delete(blob.digest)
                    self._content.adopt(blob.path, blob.digest, blob.size)
                # Only a layer that implies directories needs the ones below: it may be mended while these are lost.
                below = [each.name for each in self.chain(facts.parent)] if staged.contextual else []
                self._snapshotter.replace(staged, facts.name, below)
                self._damaged.discard(facts.name)
