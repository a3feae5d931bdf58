"""The storage driver over a directory.

    ROOT/version                                   {"version": 1}
    ROOT/blobs/<algorithm>/<2 hex>/<hex>           bytes, each once
    ROOT/uploads/<id>                              bytes so far; the name carries the repository's digest
    ROOT/repositories/NAME/_blobs/<algorithm>/<hex>       empty: the repository has the blob
    ROOT/repositories/NAME/_manifests/<algorithm>/<hex>   the media type
    ROOT/repositories/NAME/_tags/<tag>                    a digest
    ROOT/repositories/NAME/_referrers/<hex of subject>/<hex>   the manifest's digest
    ROOT/lock                                      shared by whoever stores a manifest, exclusive for the sweep

No part of a repository's name begins with an underscore, so the two never meet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from lamina.errors import Unsupported
from lamina.registry.documents import read_needs
from lamina.registry.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
)
from lamina.registry.storage import StoredManifest, Swept
from lamina.spec.digest import Digest, InvalidDigest

VERSION = 1

_SPARE = 4 << 20  # bytes


class FileStorage:
    """See `Storage`. `clock` gives seconds since 1970, as files' mtimes are."""

    def __init__(self, root: str, *, clock: Callable[[], float] = time.time) -> None:
        self._root, self._clock = Path(root), clock
        self._hashes: dict[str, tuple[int, hashlib._Hash]] = {}
        self._lock = Lock()
        for part in ("blobs", "uploads", "repositories"):
            (self._root / part).mkdir(parents=True, exist_ok=True)
        self._check_version()

    # --- repositories

    def repositories(self) -> Iterator[str]:
        """See `Storage.repositories`."""
        base = self._root / "repositories"
        found = []
        for directory, folders, _ in os.walk(base):
            if "_manifests" in folders and any((Path(directory) / "_manifests").glob("*/*")):
                found.append(str(Path(directory).relative_to(base)))
            folders[:] = [name for name in folders if not name.startswith("_")]
        yield from sorted(found)

    def exists(self, repository: str) -> bool:
        """See `Storage.exists`."""
        return any((self._repository(repository) / part).is_dir() for part in ("_manifests", "_blobs"))

    def tags(self, repository: str) -> list[str]:
        """See `Storage.tags`."""
        if not self.exists(repository):
            raise NameUnknown(f"repository name not known to registry: {repository}")
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self._repository(repository) / "_tags") if not name.startswith("."))
        return []

    # --- blobs

    def blob_size(self, repository: str, digest: Digest) -> int:
        """See `Storage.blob_size`."""
        with self._found(repository, digest):
            # Whoever asks may be about to rely on it: the sweep spares what was asked for lately.
            os.utime(self._blob(digest))
            return self._blob(digest).stat().st_size

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO:
        """See `Storage.open_blob`."""
        with self._found(repository, digest):
            return self._blob(digest).open("rb", buffering=0)

    def link_blob(self, source: str, repository: str, digest: Digest) -> None:
        """See `Storage.link_blob`."""
        self.blob_size(source, digest)
        _write(self._blob_link(repository, digest), b"")

    def unlink_blob(self, repository: str, digest: Digest) -> None:
        """See `Storage.unlink_blob`."""
        with self._found(repository, digest):
            self._blob_link(repository, digest).unlink()

    # --- uploads

    def begin(self, repository: str) -> str:
        """See `Storage.begin`."""
        upload_id = secrets.token_hex(16)
        self._upload_path(repository, upload_id).touch()
        return upload_id

    @contextmanager
    def upload(self, repository: str, upload_id: str) -> Iterator[FileUpload]:
        """See `Storage.upload`; a second request for the same upload waits for the first."""
        path = self._upload_path(repository, upload_id)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobUploadUnknown(f"blob upload unknown to registry: {upload_id}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Who held the lock may have made a blob of the file meanwhile, or dropped it.
            if not _leads_to(path, fd):
                raise BlobUploadUnknown(f"blob upload unknown to registry: {upload_id}")
            upload = FileUpload(fd, self._hash_so_far(upload_id, fd), lambda digest: self._settle(path, repository, digest))
            try:
                yield upload
            except DigestInvalid:
                path.unlink(missing_ok=True)
                raise
            finally:
                with self._lock:
                    self._hashes.pop(upload_id, None)
                    if not upload.done:
                        self._hashes[upload_id] = (upload.offset, upload.hash)
        finally:
            os.close(fd)

    def cancel(self, repository: str, upload_id: str) -> None:
        """See `Storage.cancel`."""
        try:
            self._upload_path(repository, upload_id).unlink()
        except FileNotFoundError:
            raise BlobUploadUnknown(f"blob upload unknown to registry: {upload_id}") from None
        with self._lock:
            self._hashes.pop(upload_id, None)

    # --- manifests

    def put_manifest(self, repository: str, manifest: StoredManifest, tag: str, needs: Sequence[Digest], subject: Digest | None) -> None:
        """See `Storage.put_manifest`."""
        with self._locked(fcntl.LOCK_SH):
            for digest in needs:
                if not self._has(repository, digest):
                    raise ManifestBlobUnknown(f"manifest references a blob or manifest unknown to {repository}: {digest}")
            _write(self._blob(manifest.digest), manifest.data)
            _write(self._manifest_link(repository, manifest.digest), manifest.media_type.encode())
            if subject:
                _write(self._referrer(repository, subject, manifest.digest), str(manifest.digest).encode())
            if tag:
                _write(self._repository(repository) / "_tags" / tag, str(manifest.digest).encode())

    def manifest(self, repository: str, reference: str | Digest) -> StoredManifest:
        """See `Storage.manifest`."""
        try:
            digest = reference
            if isinstance(digest, str):
                digest = Digest.parse((self._repository(repository) / "_tags" / digest).read_text())
            media_type = self._manifest_link(repository, digest).read_text()
            return StoredManifest(media_type, digest, self._blob(digest).read_bytes())
        except FileNotFoundError:
            if not self.exists(repository):
                raise NameUnknown(f"repository name not known to registry: {repository}") from None
            raise ManifestUnknown(f"manifest unknown: {repository} {reference}") from None

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See `Storage.delete_manifest`."""
        with self._locked(fcntl.LOCK_SH):
            stored = self.manifest(repository, digest)
            for tag in self.tags(repository):
                with suppress(FileNotFoundError):
                    path = self._repository(repository) / "_tags" / tag
                    if path.read_text() == str(digest):
                        path.unlink()
            subject = _subject(stored)
            if subject:
                self._referrer(repository, subject, digest).unlink(missing_ok=True)
            self._manifest_link(repository, digest).unlink(missing_ok=True)

    def delete_tag(self, repository: str, tag: str) -> None:
        """See `Storage.delete_tag`."""
        try:
            (self._repository(repository) / "_tags" / tag).unlink()
        except FileNotFoundError:
            raise ManifestUnknown(f"manifest unknown: {repository} {tag}") from None

    def referrers(self, repository: str, subject: Digest) -> list[StoredManifest]:
        """See `Storage.referrers`."""
        found = []
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._referrer(repository, subject, subject).parent)):
                with suppress(ManifestUnknown, InvalidDigest):
                    found.append(self.manifest(repository, Digest.parse(f"{subject.algorithm}:{name}")))
        return found

    # --- the sweep

    def sweep(self, *, older_than: float) -> Swept:
        """See `Storage.sweep`."""
        with self._locked(fcntl.LOCK_EX):
            before = self._clock() - older_than
            kept = self._needed()
            blobs, freed = 0, 0
            for path in (self._root / "blobs").glob("*/*/*"):
                size = path.stat().st_size
                if (path.parts[-3], path.name) not in kept and path.stat().st_mtime < before:
                    path.unlink()
                    blobs, freed = blobs + 1, freed + size
            uploads, more = self._sweep_uploads(before)
            self._drop_dead_links()
            return Swept(blobs, uploads, freed + more)

    def _needed(self) -> set[tuple[str, str]]:
        kept: set[tuple[str, str]] = set()
        for link in (self._root / "repositories").glob("**/_manifests/*/*"):
            if link.name.startswith("."):
                continue  # Being written: see _write.
            digest = Digest(link.parent.name, link.name)
            kept.add((digest.algorithm, digest.encoded))
            with suppress(FileNotFoundError, ManifestInvalid):
                needs = read_needs(self._blob(digest).read_bytes(), link.read_text())
                kept.update((need.algorithm, need.encoded) for need in (*needs.blobs, *needs.manifests))
        return kept

    def _sweep_uploads(self, before: float) -> tuple[int, int]:
        count, freed = 0, 0
        for path in (self._root / "uploads").iterdir():
            if path.stat().st_mtime < before:
                freed += path.stat().st_size
                path.unlink()
                count += 1
        return count, freed

    def _drop_dead_links(self) -> None:
        for link in (self._root / "repositories").glob("**/_blobs/*/*"):
            if not link.name.startswith(".") and not self._blob(Digest(link.parent.name, link.name)).exists():
                link.unlink(missing_ok=True)

    # --- parts

    def _check_version(self) -> None:
        path = self._root / "version"
        if not path.exists():
            _write(path, json.dumps({"version": VERSION}).encode() + b"\n")
        if json.loads(path.read_bytes())["version"] > VERSION:
            raise Unsupported(f"registry storage {self._root} was written by a newer version")

    def _has(self, repository: str, digest: Digest) -> bool:
        linked = self._blob_link(repository, digest).exists() or self._manifest_link(repository, digest).exists()
        return linked and self._blob(digest).exists()

    def _settle(self, path: Path, repository: str, digest: Digest) -> None:
        with self._locked(fcntl.LOCK_SH):
            target = self._blob(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.utime(path)
            os.replace(path, target)
            _write(self._blob_link(repository, digest), b"")

    def _hash_so_far(self, upload_id: str, fd: int) -> tuple[int, hashlib._Hash]:
        size = os.fstat(fd).st_size
        with self._lock:
            known = self._hashes.get(upload_id)
        if known is not None and known[0] == size:
            return known
        fresh = hashlib.sha256()
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            while piece := file.read(1 << 20):
                fresh.update(piece)
        return size, fresh

    @contextmanager
    def _found(self, repository: str, digest: Digest) -> Iterator[None]:
        try:
            if not self._blob_link(repository, digest).exists():
                # Manifests are blobs too, but have a link of their own kind.
                os.stat(self._manifest_link(repository, digest))
            yield
        except FileNotFoundError:
            raise BlobUnknown(f"blob unknown to {repository}: {digest}") from None

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, how)
            yield
        finally:
            os.close(fd)

    def _repository(self, repository: str) -> Path:
        return self._root / "repositories" / repository

    def _blob(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.encoded[:2] / digest.encoded

    def _blob_link(self, repository: str, digest: Digest) -> Path:
        return self._repository(repository) / "_blobs" / digest.algorithm / digest.encoded

    def _manifest_link(self, repository: str, digest: Digest) -> Path:
        return self._repository(repository) / "_manifests" / digest.algorithm / digest.encoded

    def _referrer(self, repository: str, subject: Digest, digest: Digest) -> Path:
        return self._repository(repository) / "_referrers" / subject.encoded / digest.encoded

    def _upload_path(self, repository: str, upload_id: str) -> Path:
        # An upload belongs to its repository: under another name it is not found.
        return self._root / "uploads" / f"{upload_id}.{hashlib.sha256(repository.encode()).hexdigest()[:16]}"


class FileUpload:
    """See `Upload`. Borrows the descriptor `fd`. Large blobs leave the page cache, which has better use for its pages."""

    def __init__(self, fd: int, so_far: tuple[int, hashlib._Hash], settle: Callable[[Digest], None]) -> None:
        self._fd, self._settle = fd, settle
        self.offset, self.hash = so_far
        self._spared = self.offset
        self.done = False

    def write(self, data: memoryview) -> None:
        """See `Upload.write`."""
        self.hash.update(data)
        while data:
            count = os.pwrite(self._fd, data, self.offset)
            self.offset += count
            data = data[count:]
        if self.offset - self._spared >= _SPARE:
            # Not waited for: what is new is on its way to the disk now, and found there by the next call.
            os.posix_fadvise(self._fd, 0, self.offset, os.POSIX_FADV_DONTNEED)
            self._spared = self.offset

    def commit(self, digest: Digest) -> None:
        """See `Upload.commit`."""
        self.done = True
        found = Digest(digest.algorithm, self._hex(digest.algorithm))
        if found != digest:
            raise DigestInvalid(f"provided digest did not match uploaded content: {found}")
        self._settle(digest)

    def _hex(self, algorithm: str) -> str:
        if algorithm == "sha256":
            return self.hash.hexdigest()
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            return hashlib.file_digest(file, algorithm).hexdigest()


def _subject(stored: StoredManifest) -> Digest | None:
    with suppress(ManifestInvalid):
        return read_needs(stored.data, stored.media_type).subject
    return None


def _leads_to(path: Path, fd: int) -> bool:
    """Whether that is still the path of the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    """Put a file in its place in one step; its directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:64]}.{secrets.token_hex(6)}")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
