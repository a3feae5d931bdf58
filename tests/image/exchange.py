"""Whole stores for tests of pull and push: all that a data root has, without a daemon."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamina.content.durability import Durability
from lamina.content.local import LocalContent
from lamina.distribution.client import Registries
from lamina.distribution.transport import RegistryOptions, Transport
from lamina.image.catalog import Catalog
from lamina.image.eviction import ALWAYS
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.metadata import Metadata
from lamina.image.model import Image, LayerNote
from lamina.image.pull import Puller
from lamina.image.push import Pusher
from lamina.image.store import Images
from lamina.snapshot.erofs import ErofsSnapshotter
from lamina.snapshot.fdstore import MemoryFdStore
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.protocol import TarSource
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.progress import Update
from lamina.spec.reference import Reference
from lamina.worker.workers import InlineWorkers

AMD64 = Platform("linux", "amd64")


@dataclass
class Recorder:
    """A sink that keeps what it is told; `fail_at` is a status at which it raises."""

    updates: list[Update] = field(default_factory=list)
    fail_at: str = ""

    def __call__(self, update: Update) -> None:
        self.updates.append(update)
        if self.fail_at and update.status.startswith(self.fail_at):
            raise KeyboardInterrupt

    def lines(self) -> list[str]:
        """Each status once, with its ID, progress left out."""
        shown = (f"{update.id}: {update.status}" if update.id else update.status for update in self.updates if update.status)
        return list(dict.fromkeys(shown))


class Store:
    """One data root."""

    def __init__(self, root: Path, driver: str = "erofs") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, workers, warnings = root, InlineWorkers(), []
        durability, self.leases = Durability(str(root), "boot"), Leases()
        self.content = LocalContent(str(root / "content"), durability)
        erofs = ErofsSnapshotter(str(root), self._blob, workers, MemoryFdStore())
        snapshotter = erofs if driver == "erofs" else OverlaySnapshotter(str(root), workers)
        self._metadata = Metadata(str(root / "metadata.db"), warnings.append)
        self.layers = Layers(str(root / "layers"), self.content, snapshotter, self._metadata, self.leases, durability, warnings.append)
        catalog = Catalog(str(root / "images"), self.content, self.layers, self._metadata, self.leases, durability, warnings.append)
        self.images = Images(catalog, self.layers, self.content, self.leases, workers, host=AMD64, clock=time.time, originals=ALWAYS)
        self.images.open()
        self.registries = Registries(transport=Transport(RegistryOptions(retries=3, read_timeout=120), sleep=lambda _: None))
        self.puller = Puller(self.registries, self.content, self.layers, self.images, host=AMD64)
        self.pusher = Pusher(self.registries, self.content, self.layers, self.images, workers)

    def close(self) -> None:
        self.registries.close()
        self.images.close()
        self._metadata.close()

    def make(self, name: str, tars: Sequence[bytes], architecture: str = "amd64") -> Image:
        """An image of layers from uncompressed tars, base first."""
        rows, parent = [], None
        with self.leases.hold():
            for tar in tars:
                path = self.root / "layer.tar"
                path.write_bytes(tar)
                with path.open("rb") as file, self.layers.staging() as scratch:
                    staged = self.layers.stage(TarSource(file.fileno()), scratch)
                    rows.append(self.layers.register(staged, parent, LayerNote(created_by="test")))
                parent = rows[-1].id
            config = {
                "architecture": architecture,
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [str(row.diff_id) for row in rows]},
                "history": [{"created_by": f"/bin/sh -c step {number}"} for number in range(len(rows))],
            }
            return self.images.create(json.dumps(config).encode(), rows, names=[Reference.parse(name)])

    def _blob(self, name: str) -> str:
        return self.content.path(Digest("sha256", name))


def tar_of(name: str, data: bytes) -> bytes:
    """A tar of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def some_tars(count: int = 3, size: int = 400_000) -> list[bytes]:
    """Tars that do not compress, so that their blobs have a size to count on."""
    return [tar_of(f"file{number}", os.urandom(size)) for number in range(count)]
