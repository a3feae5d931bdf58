"""Content stores: blobs under their digests, verified as they arrive."""

from __future__ import annotations

from lamina.content.local import LocalContent
from lamina.content.memory import MemoryContent
from lamina.content.store import BlobDamaged, BlobInfo, BlobNotFound, ContentStore, DiskFull, Ingest

__all__ = ["BlobDamaged", "BlobInfo", "BlobNotFound", "ContentStore", "DiskFull", "Ingest", "LocalContent", "MemoryContent"]
