"""What a content store is: the protocol that every driver keeps, run as tests/contracts/test_content.py.

A blob is bytes under their digest: it never changes, it is there in whole or not at all. Bytes come in through an
`Ingest`, which hashes while it writes, or as a file that somebody else has hashed (`adopt`). All methods are
thread-safe; a blob that is deleted while it is open stays readable for whoever has it open.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from lamina.errors import Corrupt, Exhausted, NotFound
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest

DOCUMENT_LIMIT = 8 << 20
"""The largest blob that is read into memory by default, in bytes."""


class BlobNotFound(NotFound):
    """No blob has that digest."""


class BlobDamaged(Corrupt):
    """A stored blob no longer has its digest."""


class DiskFull(Exhausted):
    """The disk of the data root has no space, or the quota is used up."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob. `size` is in bytes."""

    digest: Digest
    size: int


class Ingest(Protocol):
    """A blob on its way in. One thread at a time. Leaving the context without commit drops the bytes, or keeps them where a key was
    given."""

    @property
    def offset(self) -> int:
        """How many bytes are in: where a resumed transfer goes on."""
        ...

    @property
    def path(self) -> str:
        """Host path of the bytes so far; it is gone after commit and abort."""
        ...

    def fileno(self) -> int:
        """The file the bytes are in, readable with pread. What is written to it directly is not hashed."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append and hash.

        Raises:
            DiskFull: the ingest is of no more use than to be aborted or kept.
        """
        ...

    def commit(self, expected: Descriptor | None = None) -> BlobInfo:
        """Verify the bytes against `expected` (digest and size) and make them a blob, atomically.

        Idempotent across ingests: returning means that the blob is stored, not that this call stored it.

        Raises:
            DigestMismatch: nothing was committed, the bytes are dropped (also of a keyed ingest).
        """
        ...

    def abort(self) -> None:
        """Drop the bytes, also of a keyed ingest. After commit it does nothing."""
        ...

    def __enter__(self) -> Ingest: ...

    def __exit__(self, *exc: object) -> None: ...


class ContentStore(Protocol):
    """Blobs by digest."""

    def stat(self, digest: Digest) -> BlobInfo:
        """Raises BlobNotFound."""
        ...

    def usage(self, digest: Digest) -> int:
        """Bytes that the blob takes on disk, 0 where there is none."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """The blob for reading, seekable, with a real `fileno()`; the caller closes it.

        Raises:
            BlobNotFound, BlobDamaged: see `path`.
        """
        ...

    def read(self, digest: Digest, limit: int = DOCUMENT_LIMIT) -> bytes:
        """The whole blob, verified against its digest now. For documents.

        Raises:
            BlobNotFound: there is none.
            BlobDamaged: its bytes do not have the digest.
            Exhausted: it is larger than `limit` bytes.
        """
        ...

    def path(self, digest: Digest) -> str:
        """The blob's host path, for mounts and for workers; never write to it.

        A blob whose bytes may not have reached the disk before a crash of the machine is hashed here, once.

        Raises:
            BlobNotFound: there is none.
            BlobDamaged: that hash differs.
        """
        ...

    def ingest(self, key: str = "") -> Ingest:
        """Begin to take bytes in. The same `key` finds the bytes of an earlier ingest that did not end; a second
        ingest under a key waits until the first is left."""
        ...

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store a small blob."""
        ...

    def adopt(self, path: str, digest: Digest, size: int) -> None:
        """Make the file at `path` (same file system, in `scratch`) the blob; the caller has hashed it.

        Idempotent: where the blob is there already, the file is removed.

        Raises:
            DigestMismatch: the file's size is not `size`; the file stays.
        """
        ...

    def delete(self, digest: Digest) -> int:
        """Remove the blob; returns the bytes freed, 0 where there was none."""
        ...

    def walk(self) -> Iterator[BlobInfo]:
        """All blobs, in no order; those that come and go meanwhile may be missed."""
        ...

    def scratch(self) -> AbstractContextManager[str]:
        """A fresh directory on the store's file system, removed with all that is in it when the context is left."""
        ...

    def verify(self, digest: Digest) -> None:
        """Hash the blob now.

        Raises:
            BlobNotFound, BlobDamaged
        """
        ...

    def clean(self, *, keep_seconds: float = 24 * 3600.0) -> None:
        """At start, before any ingest: remove what a dead process left half done, except bytes under a key that are younger than
        `keep_seconds`."""
        ...

    def set_names(self, named: Sequence[Descriptor]) -> None:
        """Replace the list of what has a name (OCI layout's index.json); names are annotations of the descriptors."""
        ...

    def names(self) -> tuple[Descriptor, ...]:
        """What `set_names` was last given; empty where nothing readable is there."""
        ...


@contextmanager
def full_disk(path: str) -> Iterator[None]:
    """Turns ENOSPC and EDQUOT of what happens inside into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no space left on the disk of {path}", hint="free some, or run `lamina image prune`") from None
