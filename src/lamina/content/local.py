"""The driver on a local file system: an OCI image layout (image-spec image-layout.md) that other tools can read.

oci-layout  index.json  blobs/sha256/<hex>     ingest/: what is not a blob yet, on the same file system
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

import msgspec

from lamina.content.durability import Durability
from lamina.content.files import disk_bytes, move, write_file
from lamina.content.ingest import FileIngest, open_keyed
from lamina.content.store import DOCUMENT_LIMIT, BlobDamaged, BlobInfo, BlobNotFound, full_disk
from lamina.errors import Exhausted, LaminaError
from lamina.linux.removing import discard_tree, remove_path
from lamina.spec import manifest
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch

_KEYED = "key-"
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
"""What the file oci-layout holds."""


class LocalContent:
    """See `ContentStore`. `root` is created where it is not there."""

    def __init__(self, root: str, durability: Durability) -> None:
        self._root, self._durability = root, durability
        self._ingests = os.path.join(root, "ingest")
        for directory in ("blobs/sha256", "ingest"):
            os.makedirs(os.path.join(root, directory), mode=0o755, exist_ok=True)
        layout = os.path.join(root, "oci-layout")
        if not os.path.exists(layout):
            write_file(layout, OCI_LAYOUT)
        if not os.path.exists(self._index):
            self.set_names(())

    def stat(self, digest: Digest) -> BlobInfo:
        """See `ContentStore.stat`."""
        try:
            return BlobInfo(digest, os.stat(self._place(digest)).st_size)
        except FileNotFoundError:
            raise BlobNotFound(f"no such blob: {digest}") from None

    def usage(self, digest: Digest) -> int:
        """See `ContentStore.usage`."""
        return disk_bytes(self._place(digest))

    def open(self, digest: Digest) -> BinaryIO:
        """See `ContentStore.open`."""
        path = self.path(digest)
        try:
            return open(path, "rb")
        except FileNotFoundError:
            raise BlobNotFound(f"no such blob: {digest}") from None

    def read(self, digest: Digest, limit: int = DOCUMENT_LIMIT) -> bytes:
        """See `ContentStore.read`."""
        try:
            with open(self._place(digest), "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise BlobNotFound(f"no such blob: {digest}") from None
        except OSError as error:
            raise BlobDamaged(f"damaged blob: {digest} cannot be read: {error.strerror}") from None
        if len(data) > limit:
            raise Exhausted(f"blob {digest} is larger than the {limit} bytes that are read of it")
        if Digest.of(data, digest.algorithm) != digest:
            self._durability.distrust(self._place(digest))
            raise BlobDamaged(f"damaged blob: {digest}")
        return data

    def path(self, digest: Digest) -> str:
        """See `ContentStore.path`."""
        path = self._place(digest)
        try:
            trusted = self._durability.trusted(path)
        except FileNotFoundError:
            raise BlobNotFound(f"no such blob: {digest}") from None
        if not trusted:
            self.verify(digest)
        return path

    def verify(self, digest: Digest) -> None:
        """See `ContentStore.verify`."""
        path = self._place(digest)
        try:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, digest.algorithm).hexdigest()
        except FileNotFoundError:
            raise BlobNotFound(f"no such blob: {digest}") from None
        except OSError as error:
            raise BlobDamaged(f"damaged blob: {digest} cannot be read: {error.strerror}") from None
        if found != digest.encoded:
            self._durability.distrust(path)
            raise BlobDamaged(f"damaged blob: {digest}", hint="pull or load the images again that use it")
        self._durability.confirm(path)

    def ingest(self, key: str = "") -> FileIngest:
        """See `ContentStore.ingest`."""
        with full_disk(self._root):
            if key:
                path = os.path.join(self._ingests, _KEYED + hashlib.sha256(key.encode()).hexdigest()[:40])
                fd = open_keyed(path)
            else:
                fd, path = tempfile.mkstemp(dir=self._ingests)
                os.fchmod(fd, 0o644)
        return FileIngest(fd, path, keep=bool(key), settle=self._settle)

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """See `ContentStore.put`."""
        digest = Digest.of(data)
        path = self._place(digest)
        # A small blob that is there may be one that a crash of the machine has cut.
        if not os.path.exists(path) or os.stat(path).st_size != len(data) or not self._durability.trusted(path):
            write_file(path, data)
            self._durability.settle(path)
        return Descriptor(media_type, digest, len(data))

    def adopt(self, path: str, digest: Digest, size: int) -> None:
        """See `ContentStore.adopt`."""
        found = os.stat(path).st_size
        if found != size:
            raise DigestMismatch(f"the file for {digest} has {found} bytes instead of {size}")
        self._settle(path, digest, size)

    def delete(self, digest: Digest) -> int:
        """See `ContentStore.delete`."""
        path = self._place(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        size = os.fstat(fd).st_size
        remove_path(path)
        # The last close gives back the blocks, a tenth of a second for a large file: nobody need wait for that.
        threading.Thread(target=os.close, args=(fd,), name="free", daemon=True).start()
        return size

    def walk(self) -> Iterator[BlobInfo]:
        """See `ContentStore.walk`."""
        blobs = os.path.join(self._root, "blobs")
        for algorithm in os.listdir(blobs):
            for name in os.listdir(os.path.join(blobs, algorithm)):
                with suppress(LaminaError):
                    yield self.stat(Digest.parse(f"{algorithm}:{name}"))

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """See `ContentStore.scratch`."""
        with full_disk(self._root):
            directory = tempfile.mkdtemp(dir=self._ingests)
        try:
            yield directory
        finally:
            discard_tree(directory)

    def set_names(self, named: Sequence[Descriptor]) -> None:
        """See `ContentStore.set_names`."""
        document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
        write_file(self._index, msgspec.json.encode({**document, "manifests": [manifest.descriptor_json(each) for each in named]}))

    def names(self) -> tuple[Descriptor, ...]:
        """See `ContentStore.names`."""
        try:
            with open(self._index, "rb") as file:
                document = msgspec.json.decode(file.read())
            return tuple(manifest.parse_descriptor(each) for each in document["manifests"])
        except (OSError, LaminaError, msgspec.MsgspecError, ValueError, KeyError, TypeError):
            return ()

    def clean(self, *, keep_seconds: float = 24 * 3600.0) -> None:
        """See `ContentStore.clean`."""
        for entry in list(os.scandir(self._ingests)):
            if entry.is_dir(follow_symlinks=False):
                discard_tree(entry.path)
            elif not entry.name.startswith(_KEYED) or time.time() - entry.stat().st_mtime > keep_seconds:
                os.unlink(entry.path)
        for algorithm in list(os.scandir(os.path.join(self._root, "blobs"))):
            for entry in list(os.scandir(algorithm.path)):
                if entry.name.endswith(".tmp"):
                    os.unlink(entry.path)

    @property
    def _index(self) -> str:
        return os.path.join(self._root, "index.json")

    def _place(self, digest: Digest) -> str:
        return f"{self._root}/blobs/{digest.algorithm}/{digest.encoded}"

    def _settle(self, path: str, digest: Digest, size: int) -> None:
        """Rename `path` to its place, unless the same blob is there and sound."""
        place = self._place(digest)
        if os.path.exists(place) and os.stat(place).st_size == size and self._durability.trusted(place):
            os.unlink(path)
            return
        with full_disk(self._root):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            move(path, place)
        self._durability.settle(place)
