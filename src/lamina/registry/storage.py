"""Where a registry keeps its things: the contract of storage drivers.

A blob is stored once; a repository has it by a link. Tags point at digests of manifests, which are blobs with a link
of their own that knows the media type. Every change is atomic: a reader sees it in whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from lamina.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was put: `data` are its very bytes."""

    media_type: str
    digest: Digest
    data: bytes


@dataclass(frozen=True, slots=True)
class Swept:
    """What garbage collection removed; `freed` in bytes."""

    blobs: int
    uploads: int
    freed: int


class Upload(Protocol):
    """A blob on its way in, held by one request at a time."""

    @property
    def offset(self) -> int:
        """How many bytes are in."""
        ...

    def write(self, data: memoryview) -> None:
        """Append and hash."""
        ...

    def commit(self, digest: Digest) -> None:
        """Make it a blob of its repository.

        Raises:
            DigestInvalid: the bytes have another digest; the upload is gone.
        """
        ...


class Storage(Protocol):
    """All methods are thread-safe; several processes may work on one storage."""

    def repositories(self) -> Iterator[str]:
        """Names in byte order of those that hold a manifest."""
        ...

    def exists(self, repository: str) -> bool:
        """Whether anything was ever stored in it."""
        ...

    def blob_size(self, repository: str, digest: Digest) -> int:
        """In bytes. Raises BlobUnknown where the repository has no link to it."""
        ...

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO:
        """A real file; the caller closes it. Raises BlobUnknown."""
        ...

    def link_blob(self, source: str, repository: str, digest: Digest) -> None:
        """Give `repository` the blob that `source` has. Raises BlobUnknown."""
        ...

    def unlink_blob(self, repository: str, digest: Digest) -> None:
        """Take it away from the repository; the bytes stay until collected. Raises BlobUnknown."""
        ...

    def begin(self, repository: str) -> str:
        """Start an upload; its ID."""
        ...

    def upload(self, repository: str, upload_id: str) -> AbstractContextManager[Upload]:
        """The upload, for this request alone. Raises BlobUploadUnknown."""
        ...

    def cancel(self, repository: str, upload_id: str) -> None:
        """Drop it. Raises BlobUploadUnknown."""
        ...

    def put_manifest(self, repository: str, manifest: StoredManifest, tag: str, needs: Sequence[Digest], subject: Digest | None) -> None:
        """Store it, and point `tag` (where not empty) at it.

        Raises:
            ManifestBlobUnknown: the repository lacks one of `needs`; nothing was stored.
        """
        ...

    def manifest(self, repository: str, reference: str | Digest) -> StoredManifest:
        """By tag or digest. Raises ManifestUnknown."""
        ...

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """It, and every tag that points at it. Raises ManifestUnknown."""
        ...

    def delete_tag(self, repository: str, tag: str) -> None:
        """The tag alone. Raises ManifestUnknown."""
        ...

    def tags(self, repository: str) -> list[str]:
        """In byte order. Raises NameUnknown."""
        ...

    def referrers(self, repository: str, subject: Digest) -> list[StoredManifest]:
        """Manifests whose subject it is, by digest."""
        ...

    def sweep(self, *, older_than: float) -> Swept:
        """Remove blobs that no manifest of any repository needs, and uploads that nobody wrote to, both for that many seconds."""
        ...
