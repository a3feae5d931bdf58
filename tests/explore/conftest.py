"""An explorer over a store of each driver, and containers that are only directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lamina.container.model import ContainerNotFound
from lamina.explore.explorer import Explorer
from lamina.image.model import Image
from lamina.layer.tar.member import Member
from lamina.snapshot.protocol import Own
from lamina.worker import InlineWorkers
from tests.contracts.snapshotter import tar
from tests.image.conftest import DRIVERS, Store
from tests.image.tars import child, imported

Members = list[tuple[Member, bytes]]


class CountingWorkers(InlineWorkers):
    """Runs jobs here, and says which."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def run(self, job: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        self.jobs.append(job)
        return super().run(job, *arguments, **more)


@dataclass
class FakeContainers:
    """Containers by name."""

    known: dict[str, Any] = field(default_factory=dict)

    def get(self, ref: str) -> Any:
        if ref not in self.known:
            raise ContainerNotFound(f"no such container: {ref}")
        return self.known[ref]

    @property
    def snapshots(self) -> Any:
        return SimpleNamespace(chain=lambda base: [], named=lambda text: None)


@dataclass
class Lab:
    """A store, and questions to it."""

    store: Store
    containers: FakeContainers
    workers: CountingWorkers
    explorer: Explorer

    def image(self, name: str, *layers: Members) -> Image:
        """An image of these layers, base first."""
        first, *rest = layers
        image = imported(self.store, f"{name}.0" if rest else name, tar(*first))
        for number, members in enumerate(rest, 1):
            image = child(self.store, image, name if number == len(rest) else f"{name}.{number}", tar(*members))
        return image

    def container(self, name: str, image: Image) -> Path:
        """A container of an image; the directory it writes to."""
        upper = self.store.root / "upper" / name / "diff"
        upper.mkdir(parents=True)
        below = [facts.name for facts in self.store.layers.chain(image.layers[-1])]
        self.store.snapshotter.prepare(Own(str(upper), str(upper.parent / "work"), ""), below)
        self.containers.known[name] = SimpleNamespace(
            id="c" * 64,
            name=name,
            image=str(image.id),
            layer=str(image.layers[-1]),
            upper=str(upper),
            writes=str(upper),
            base="",
            created_ns=10**18,
        )
        return upper

    def delete(self, upper: Path, path: str) -> None:
        """Delete a file in a container, as its driver's kernel does."""
        if self.store.driver == "native":
            (upper / path).unlink()
        else:
            os.mknod(upper / path, stat.S_IFCHR)


@pytest.fixture(params=DRIVERS)
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    store = Store(tmp_path, request.param).open()
    containers, workers = FakeContainers(), CountingWorkers()
    explorer = Explorer(store.images, store.layers, containers, workers, str(tmp_path))  # type: ignore[arg-type]
    yield Lab(store, containers, workers, explorer)
    store.close()
