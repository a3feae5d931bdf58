"""The driver in memory: for tests, and for stores that live no longer than their process."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from lamina.content.ingest import FileIngest
from lamina.content.store import DOCUMENT_LIMIT, BlobDamaged, BlobInfo, BlobNotFound
from lamina.errors import Exhausted
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch


class MemoryContent:
    """See `ContentStore`. Each blob is a memfd, so that it has a descriptor and a path like any other."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, int] = {}
        self._partial: dict[str, int] = {}
        self._names: tuple[Descriptor, ...] = ()
        self._lock = threading.RLock()
        self._busy = threading.Condition(self._lock)
        self._open: set[str] = set()

    def stat(self, digest: Digest) -> BlobInfo:
        """See `ContentStore.stat`."""
        return BlobInfo(digest, os.fstat(self._fd(digest)).st_size)

    def usage(self, digest: Digest) -> int:
        """See `ContentStore.usage`."""
        try:
            return self.stat(digest).size
        except BlobNotFound:
            return 0

    def open(self, digest: Digest) -> BinaryIO:
        """See `ContentStore.open`."""
        return open(self.path(digest), "rb")

    def read(self, digest: Digest, limit: int = DOCUMENT_LIMIT) -> bytes:
        """See `ContentStore.read`."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Exhausted(f"blob {digest} is larger than the {limit} bytes that are read of it")
        if Digest.of(data, digest.algorithm) != digest:
            raise BlobDamaged(f"damaged blob: {digest}")
        return data

    def path(self, digest: Digest) -> str:
        """See `ContentStore.path`."""
        return f"/proc/self/fd/{self._fd(digest)}"

    def verify(self, digest: Digest) -> None:
        """See `ContentStore.verify`."""
        self.read(digest, self.stat(digest).size)

    def ingest(self, key: str = "") -> FileIngest:
        """See `ContentStore.ingest`."""
        with self._lock:
            while key and key in self._open:
                self._busy.wait()
            fd = self._partial.pop(key, -1) if key else -1
            if key:
                self._open.add(key)
        if fd < 0:
            fd = os.memfd_create("ingest", os.MFD_CLOEXEC)
        return _MemoryIngest(self, fd, key)

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """See `ContentStore.put`."""
        with self.ingest() as ingest:
            ingest.write(data)
            found = ingest.commit()
        return Descriptor(media_type, found.digest, found.size)

    def adopt(self, path: str, digest: Digest, size: int) -> None:
        """See `ContentStore.adopt`."""
        found = os.stat(path).st_size
        if found != size:
            raise DigestMismatch(f"the file for {digest} has {found} bytes instead of {size}")
        fd = os.memfd_create("blob", os.MFD_CLOEXEC)
        with open(path, "rb") as source, open(os.dup(fd), "wb") as target:
            shutil.copyfileobj(source, target)
        self.keep(digest, fd)
        os.unlink(path)

    def delete(self, digest: Digest) -> int:
        """See `ContentStore.delete`."""
        with self._lock:
            fd = self._blobs.pop(digest, -1)
        if fd < 0:
            return 0
        size = os.fstat(fd).st_size
        os.close(fd)
        return size

    def walk(self) -> Iterator[BlobInfo]:
        """See `ContentStore.walk`."""
        for digest in list(self._blobs):
            yield self.stat(digest)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """See `ContentStore.scratch`."""
        with tempfile.TemporaryDirectory() as directory:
            yield directory

    def clean(self, *, keep_seconds: float = 24 * 3600.0) -> None:
        """See `ContentStore.clean`; a dead process left nothing here."""

    def set_names(self, named: Sequence[Descriptor]) -> None:
        """See `ContentStore.set_names`."""
        self._names = tuple(named)

    def names(self) -> tuple[Descriptor, ...]:
        """See `ContentStore.names`."""
        return self._names

    def keep(self, digest: Digest, fd: int) -> None:
        """Take `fd` over as the blob's bytes."""
        with self._lock:
            if digest in self._blobs:
                os.close(fd)
            else:
                self._blobs[digest] = fd

    def leave(self, key: str, fd: int) -> None:
        """A keyed ingest ended; `fd` holds bytes to be resumed, or is -1."""
        with self._lock:
            self._open.discard(key)
            if fd >= 0:
                self._partial[key] = fd
            self._busy.notify_all()

    def _fd(self, digest: Digest) -> int:
        try:
            return self._blobs[digest]
        except KeyError:
            raise BlobNotFound(f"no such blob: {digest}") from None


class _MemoryIngest(FileIngest):
    """Bytes in a memfd; its path is the descriptor's, so there is nothing to unlink."""

    def __init__(self, store: MemoryContent, fd: int, key: str) -> None:
        super().__init__(fd, f"/proc/self/fd/{fd}", keep=bool(key), settle=self._store_blob)
        self._store, self._key = store, key

    def abort(self) -> None:
        """See `Ingest.abort`."""
        self._close()

    def _store_blob(self, path: str, digest: Digest, size: int) -> None:
        self._store.keep(digest, os.dup(self._fd))

    def __exit__(self, *exc: object) -> None:
        kept = os.dup(self._fd) if self._key and self._fd >= 0 else -1
        self._close()
        if self._key:
            self._store.leave(self._key, kept)
