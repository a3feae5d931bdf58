"""A layer on its way in: where its tar comes from, and what was made of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest


class Lent(Protocol):
    """A connection in which the tar arrives, lent to the job that stages it."""

    def lend(self) -> dict[str, Any]:
        """What the job is told."""

    def take_back(self, update: dict[str, Any]) -> None:
        """Hear from the job where in the connection it has stopped."""

    def over(self) -> None:
        """The job has ended."""


@dataclass(frozen=True, slots=True)
class TarSource:
    """Where a layer's tar comes from: a file, or a pipe that stands at its first byte.

    Of a file, `offset` and `length` (bytes; None: to the end) say which part; its position is left
    alone. Of a pipe, exactly `length` bytes are read, or all. `compression` is "gzip", "zstd" or ""
    (plain); None: found out. `kept` says that the caller keeps the compressed bytes as a blob, so a
    driver that does not keep the tar itself need not make a copy; `verified` that it hashes them itself, so
    they are not hashed once more. `lent`: `fd` is a connection that gives the tar among other things, see `worker.incoming`. The caller
    owns `fd`.
    """

    fd: int
    offset: int = 0
    length: int | None = None
    compression: str | None = None
    kept: bool = False
    verified: bool = False
    lent: Lent | None = None


@dataclass(frozen=True, slots=True)
class StagedBlob:
    """A file in the scratch directory whose digest is known: for `ContentStore.adopt`."""

    path: str
    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Staged:
    """A layer that is written and verified but not visible yet.

    `tar_size` and `content_size` (of all regular files) are bytes. `metadata` is the path of the
    metadata image, `tree` that of the extracted directory and `skeleton` that of what the tar has
    besides files' contents, if the driver makes these. `implied` are
    the offsets of the inodes of directories that the tar implies, with their paths; such a layer
    is `contextual`. `compressed` describes the bytes as they came, None if they came plain or `verified`. `crc32` is the tar's.
    """

    diff_id: Digest
    tar_size: int
    compressed: Descriptor | None
    blobs: tuple[StagedBlob, ...]
    metadata: str
    tree: str | None
    skeleton: str | None
    implied: tuple[tuple[int, bytes], ...]
    entries: int
    content_size: int
    crc32: int

    @property
    def paths(self) -> tuple[str, ...]:
        """Everything that was written."""
        return tuple(path for path in (self.metadata, self.skeleton, self.tree, *(blob.path for blob in self.blobs)) if path)

    @property
    def contextual(self) -> bool:
        """Whether what it looks like depends on the layers below it."""
        return bool(self.implied)

    def encode(self) -> dict[str, object]:
        """As JSON values, for the way out of a worker. `decode` undoes it."""
        fields = asdict(self)
        fields["diff_id"] = str(self.diff_id)
        fields["blobs"] = [[blob.path, str(blob.digest), blob.size, blob.media_type] for blob in self.blobs]
        fields["compressed"] = None if (c := self.compressed) is None else [c.media_type, str(c.digest), c.size]
        fields["implied"] = [[offset, path.decode(errors="surrogateescape")] for offset, path in self.implied]
        return fields

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> Staged:
        """See `encode`."""
        values = dict(fields)
        values["diff_id"] = Digest.parse(values["diff_id"])
        values["blobs"] = tuple(StagedBlob(path, Digest.parse(digest), size, media) for path, digest, size, media in values["blobs"])
        if values["compressed"] is not None:
            media, digest, size = values["compressed"]
            values["compressed"] = Descriptor(media, Digest.parse(digest), size)
        values["implied"] = tuple((offset, path.encode(errors="surrogateescape")) for offset, path in values["implied"])
        return cls(**values)
