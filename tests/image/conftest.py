"""A store on a temporary data root, by each driver, with jobs run in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lamina.apitypes.events import Event
from lamina.content.durability import Durability
from lamina.content.local import LocalContent
from lamina.image.catalog import Catalog
from lamina.image.eviction import ALWAYS
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.metadata import Metadata
from lamina.image.store import Images
from lamina.snapshot.erofs import ErofsSnapshotter, Ways
from lamina.snapshot.fdstore import MemoryFdStore
from lamina.snapshot.native import NativeSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.probe import DriverUnavailable, probe
from lamina.snapshot.protocol import Snapshotter
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.worker import InlineWorkers

_WAYS: dict[int, Ways] = {}


def ways_at(root: Path) -> Ways:
    """How this kernel takes layers on a directory's file system, found out once; where it cannot, nothing is mounted."""
    device = root.stat().st_dev
    if device not in _WAYS:
        try:
            _WAYS[device] = probe(str(root), "erofs").ways
        except (DriverUnavailable, OSError):
            _WAYS[device] = Ways()
    return _WAYS[device]


@dataclass
class Store:
    """Everything of this room on one data root. `close` and `again` make a restart."""

    root: Path
    driver: str
    boot: str = "boot-1"
    warnings: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    now: float = 1_700_000_000.0

    def open(self) -> Store:
        self.durability = Durability(str(self.root), self.boot, delay=0.0)
        self.content = LocalContent(str(self.root / "content"), self.durability)
        workers = InlineWorkers()
        self.snapshotter: Snapshotter
        if self.driver == "erofs":
            content = self.content
            blob_path = lambda hex: content.path(Digest("sha256", hex))  # noqa: E731
            self.snapshotter = ErofsSnapshotter(str(self.root), blob_path, workers, MemoryFdStore(), ways_at(self.root.parent))
        else:
            self.snapshotter = (OverlaySnapshotter if self.driver == "overlay" else NativeSnapshotter)(str(self.root), workers)
        self.metadata = Metadata(str(self.root / "metadata.db"), self.warnings.append)
        self.leases = Leases()
        parts = (self.content,)
        self.layers = Layers(
            str(self.root / "layers"), *parts, self.snapshotter, self.metadata, self.leases, self.durability, self.warnings.append
        )
        self.catalog = Catalog(
            str(self.root / "images"), self.content, self.layers, self.metadata, self.leases, self.durability, self.warnings.append
        )
        self.images = Images(
            self.catalog,
            self.layers,
            self.content,
            self.leases,
            workers,
            host=Platform(),
            clock=lambda: self.now,
            emit=self.events.append,
            originals=ALWAYS,
        )
        self.images.open()
        return self

    def close(self) -> None:
        self.images.close()
        self.durability.flush()
        self.metadata.close()

    def again(self, boot: str = "") -> Store:
        """The store after a restart of the process, or with `boot` of the machine."""
        self.close()
        return Store(self.root, self.driver, boot or self.boot, now=self.now).open()


DRIVERS = [
    pytest.param("erofs"),
    *(
        pytest.param(name, marks=[] if os.geteuid() == 0 else [pytest.mark.skip(reason="extracting as root's files needs root")])
        for name in ("overlay", "native")
    ),
]


@pytest.fixture(params=DRIVERS)
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    store = Store(tmp_path, request.param).open()
    yield store
    store.close()


@pytest.fixture
def any_store(tmp_path: Path) -> Iterator[Store]:
    """A store where the driver does not matter."""
    store = Store(tmp_path, "erofs").open()
    yield store
    store.close()


Tar = Callable[..., bytes]
