"""One layer on its way in: the bytes go to a file, and from that file through a pipe to the worker that unpacks them.

The socket is read in one thread: what it wrote is handed on by sendfile, which moves references to the page cache, not bytes. So
inflating, hashing and indexing run in another process meanwhile, and a download that is resumed hands on what an earlier one left. The
socket waits for the worker only where that is far behind, and never long, since registries end connections that stand still.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread

from lamina.content.store import BlobDamaged, BlobNotFound, ContentStore, Ingest
from lamina.distribution.client import RegistryClient
from lamina.image.layers import Layers
from lamina.linux.pipe import wide_pipe
from lamina.linux.scheduling import take_long_turns, take_short_turns
from lamina.snapshot.protocol import Staged, TarSource
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import DigestMismatch
from lamina.spec.progress import Sink, Update

_EVERY = 0.1
_STEP, _SPARE, _LEAD = 1 << 20, 4 << 20, 32 << 20  # bytes
_STANDSTILL = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Arrival:
    """What brings a layer here. `scratch` is where it is staged (`Layers.staging`)."""

    client: RegistryClient
    content: ContentStore
    layers: Layers
    scratch: str
    sink: Sink

    def bring(self, descriptor: Descriptor) -> Staged:
        """Download, verify and stage the layer; its compressed blob is in the content store afterwards.

        A blob that is there already is not fetched. What was downloaded when this fails is kept for the next time,
        except where the digest was wrong.

        Raises:
            DigestMismatch: the registry sent other bytes.
            InvalidArchive: the bytes are those promised, and no layer.
        """
        if (staged := self._from_blob(descriptor)) is not None:
            return staged
        return self.client.sound(lambda: self._fetched(descriptor))

    def _fetched(self, descriptor: Descriptor) -> Staged:
        try:
            return self._resumed(descriptor)
        except _StaleStart:
            return self._resumed(descriptor)

    def _resumed(self, descriptor: Descriptor) -> Staged:
        with self.content.ingest(_key(descriptor)) as ingest:
            # Whoever held the ingest until now may have brought the blob.
            if (staged := self._from_blob(descriptor)) is not None:
                ingest.abort()
                return staged
            left = ingest.offset
            try:
                return self._download(descriptor, ingest)
            except DigestMismatch:
                # What an earlier pull left may have been wrong: that is dropped now, and all comes anew, once.
                if left:
                    raise _StaleStart from None
                raise

    def drop(self, descriptors: Iterable[Descriptor]) -> None:
        """Give up what was downloaded of these layers and is no blob yet."""
        for descriptor in descriptors:
            with self.content.ingest(_key(descriptor)) as ingest:
                ingest.abort()

    def stage(self, descriptor: Descriptor) -> Staged:
        """Stage the layer from the content store's blob.

        Raises:
            BlobNotFound: it is not there.
        """
        progress = Paced(self.sink, "Extracting", short(descriptor), descriptor.size)
        with self.content.open(descriptor.digest) as blob:
            compression = mediatype.compression(descriptor.media_type) or None
            return self.layers.stage(
                TarSource(blob.fileno(), 0, descriptor.size, compression, kept=True, verified=True), self.scratch, progress
            )

    def _from_blob(self, descriptor: Descriptor) -> Staged | None:
        try:
            self.content.verify(descriptor.digest)
        except BlobNotFound:
            return None
        except BlobDamaged:
            self.content.delete(descriptor.digest)
            return None
        staged = self.stage(descriptor)
        self.sink(Update("Download complete", short(descriptor)))
        return staged

    def _download(self, descriptor: Descriptor, ingest: Ingest) -> Staged:
        name = short(descriptor)
        with Staging(self.layers, self.scratch, descriptor, ingest) as staging:
            progress = Paced(self.sink, "Downloading", name, descriptor.size)

            def write(piece: bytes) -> None:
                ingest.write(piece)
                staging.advance(ingest.offset)
                progress(ingest.offset)
                staging.let_catch_up(ingest.offset)

            staging.advance(ingest.offset)
            self.client.download(descriptor, ingest.offset, write)
            self.sink(Update("Verifying Checksum", name))
            ingest.commit(descriptor)
            self.sink(Update("Download complete", name))
            return staging.result(Paced(self.sink, "Extracting", name, descriptor.size))


def _key(descriptor: Descriptor) -> str:
    """What the layer's ingest is called, in this process and the next."""
    return f"pull {descriptor.digest}"


class _StaleStart(Exception):
    """A download that went on where an earlier one broke has the wrong digest."""


class Staging:
    """Stages a layer while its bytes still come: two threads that wait, one for the file to grow, one for the worker."""

    def __init__(self, layers: Layers, scratch: str, descriptor: Descriptor, ingest: Ingest) -> None:
        self._layers, self._scratch, self._descriptor = layers, scratch, descriptor
        self._file = os.dup(ingest.fileno())
        self._reader, self._writer = wide_pipe()
        self._grown = Condition()
        self._here, self._ended = 0, False
        self._taken, self._caught_up = 0, Condition()
        self._spared = 0
        self._staged: Future[Staged] = Future()
        self._progress: Callable[[int], None] | None = None
        self._threads = [Thread(target=run, name=f"pull-{run.__name__}", daemon=True) for run in (self._feed, self._stage)]

    def __enter__(self) -> Staging:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End both threads; where the worker has not had all bytes, it sees them end early and fails."""
        with self._grown:
            self._ended = True
            self._grown.notify()
        for thread in self._threads:
            thread.join()
        os.close(self._file)

    def advance(self, here: int) -> None:
        """The first `here` bytes of the file are good to read."""
        with self._grown:
            self._here = here
            self._grown.notify()

    def let_catch_up(self, here: int) -> None:
        """Wait while the worker is more than `_LEAD` bytes behind: the page cache need not hold a whole download. A second at most."""
        if here - self._taken > _LEAD:
            with self._caught_up:
                self._caught_up.wait_for(lambda: here - self._taken <= _LEAD, _STANDSTILL)

    def result(self, progress: Callable[[int], None]) -> Staged:
        """Wait for the worker; `progress` sees how far it is, and what it raises ends the work."""
        self._progress = progress
        return self._staged.result()

    def _feed(self) -> None:
        take_long_turns()
        try:
            offset = 0
            while offset < self._descriptor.size:
                here = self._wait(offset)
                if here <= offset or self._ended:
                    return
                while offset < here and not self._ended:
                    offset += os.sendfile(self._writer, self._file, offset, min(here - offset, _STEP))
                    self._spare(offset)
                    self._now_at(offset)
        except BrokenPipeError:
            pass  # The worker has failed; it says so itself.
        finally:
            os.close(self._writer)
            self._now_at(self._descriptor.size)

    def _now_at(self, taken: int) -> None:
        with self._caught_up:
            self._taken = taken
            self._caught_up.notify()

    def _spare(self, taken: int) -> None:
        """Let the first bytes of the file leave the page cache: a push or a save may want them again, no container does.

        The disk is not waited for: a call has what is new there written, and later ones find it on the disk.
        """
        if taken - self._spared >= _SPARE:
            os.posix_fadvise(self._file, 0, taken, os.POSIX_FADV_DONTNEED)
            self._spared = taken

    def _wait(self, offset: int) -> int:
        """How many bytes are here, once that is more than `offset`, or no more will come."""
        with self._grown:
            self._grown.wait_for(lambda: self._here > offset or self._ended)
            return self._here

    def _stage(self) -> None:
        take_short_turns()
        try:
            compression = mediatype.compression(self._descriptor.media_type) or None
            source = TarSource(self._reader, 0, None, compression, kept=True, verified=True)
            self._staged.set_result(self._layers.stage(source, self._scratch, self._tell))
        except BaseException as error:
            self._staged.set_exception(error)
        finally:
            os.close(self._reader)

    def _tell(self, done: int) -> None:
        if self._progress:
            self._progress(done)


class Paced:
    """Tells a sink how far something is, at most ten times a second, and at its end."""

    def __init__(self, sink: Sink, status: str, name: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink, self._status, self._name, self._total, self._clock = sink, status, name, total, clock
        self._next = 0.0

    def __call__(self, done: int) -> None:
        now = self._clock()
        if now >= self._next or done >= self._total:
            self._next = now + _EVERY
            self._sink(Update(self._status, self._name, done, self._total))


def short(descriptor: Descriptor) -> str:
    """A layer's ID in progress lines: the first twelve characters of its compressed digest."""
    return descriptor.digest.short
