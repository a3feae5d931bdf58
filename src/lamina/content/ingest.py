"""Taking bytes in, hashed while they are written; with a key, to be resumed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress

from lamina.content.store import BlobInfo, full_disk
from lamina.linux.pieces import PIECE
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch

_CHUNK = 1 << 20


class FileIngest:
    """See `Ingest`. Owns the descriptor `fd` of `path`; `settle(path, digest, size)` makes the file the blob."""

    def __init__(self, fd: int, path: str, *, keep: bool, settle: Callable[[str, Digest, int], None]) -> None:
        self._fd, self._path, self._keep, self._settle = fd, path, keep, settle
        self._hash = hashlib.sha256()
        self._offset = 0
        while chunk := os.pread(fd, _CHUNK, self._offset):
            self._hash.update(chunk)
            self._offset += len(chunk)

    @property
    def offset(self) -> int:
        """See `Ingest.offset`."""
        return self._offset

    @property
    def path(self) -> str:
        """See `Ingest.path`."""
        return self._path

    def fileno(self) -> int:
        """See `Ingest.fileno`."""
        return self._fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `Ingest.write`."""
        view = memoryview(data).cast("B")
        while view:
            with full_disk(self._path):
                written = os.pwrite(self._fd, view[:PIECE], self._offset)
            self._hash.update(view[:written])
            self._offset += written
            view = view[written:]

    def commit(self, expected: Descriptor | None = None) -> BlobInfo:
        """See `Ingest.commit`."""
        digest = Digest("sha256", self._hash.hexdigest())
        if expected is not None and expected.digest.algorithm != "sha256":
            digest = self._digest(expected.digest.algorithm)
        if expected is not None and (digest, self._offset) != (expected.digest, expected.size):
            self.abort()
            raise DigestMismatch(
                f"the bytes are {self._offset} with the digest {digest}, but {expected.size} with {expected.digest} were promised"
            )
        self._settle(self._path, digest, self._offset)
        self._close()
        return BlobInfo(digest, self._offset)

    def abort(self) -> None:
        """See `Ingest.abort`."""
        if self._fd >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._close()

    def __enter__(self) -> FileIngest:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._keep:
            self._close()
        else:
            self.abort()

    def _digest(self, algorithm: str) -> Digest:
        """The digest by another algorithm, from the file: nobody knew of it while the bytes came."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_keyed(path: str) -> int:
    """The file of a keyed ingest, created where there is none, locked until it is closed; waits for whoever has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Who held the lock may have committed or dropped the file meanwhile: then this one has no name any more.
        if os.fstat(fd).st_nlink and os.path.exists(path) and os.stat(path).st_ino == os.fstat(fd).st_ino:
            return fd
        os.close(fd)
