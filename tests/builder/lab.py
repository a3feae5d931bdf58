"""A store of its own and a builder on it, for tests that build whole Dockerfiles."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina.builder.build import Builder
from lamina.builder.cache import Cache
from lamina.builder.cachemounts import CacheMounts
from lamina.builder.engine import Engine
from lamina.builder.execute import Executor
from lamina.builder.request import BuildRequest, Cancellation, Context
from lamina.content.durability import Durability
from lamina.content.local import LocalContent
from lamina.image.catalog import Catalog
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.metadata import Metadata
from lamina.image.model import Image, ImageNotFound
from lamina.image.store import Images
from lamina.runtime.launch import Attach, Exit, Launch
from lamina.snapshot.choose import open_driver
from lamina.snapshot.fdstore import MemoryFdStore
from lamina.snapshot.native import NativeSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.probe import probe
from lamina.snapshot.protocol import Snapshotter
from lamina.spec.platform import Platform
from lamina.spec.progress import Update
from lamina.spec.reference import Reference
from lamina.worker.workers import InlineWorkers
from tests.harness import unmount_below

HOST = Platform("linux", "amd64")
Command = Callable[[Path, Launch], tuple[int, str]]


ERRORS = "\0"
"""Stands around what a faked command prints to its standard error."""


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class FakeProcess:
    """A process that has ended before anybody looks."""

    pid = 0

    def __init__(self, code: int) -> None:
        self._code = code

    def wait(self, timeout: float | None = None) -> Exit:
        return Exit(self._code)

    def signal(self, number: int) -> None:
        pass


class FakeRuntime:
    """Carries out, instead of a command, what `commands` has for its last argument, on the writable layer."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.launches: list[Launch] = []

    def start(self, launch: Launch, attaches: Sequence[Attach] = ()) -> Any:
        self.launches.append(launch)
        assert launch.root is not None and launch.root.upper is not None
        line = launch.spec["process"]["args"][-1]
        code, output = self.commands.get(line, touch)(Path(launch.root.upper), launch)
        for number, text in enumerate(output.split(ERRORS)):
            os.write(attaches[0].fd, frame(1 + number % 2, text.encode()))
        return FakeProcess(code)

    def adopt(self, directory: str) -> Any:
        return None


def touch(upper: Path, launch: Launch) -> tuple[int, str]:
    """A command that nobody described: it makes a file of which its line is the content."""
    name = f"ran-{len(list(upper.parent.parent.iterdir()))}"
    (upper / name).write_text(launch.spec["process"]["args"][-1])
    return 0, ""


class NoRegistry:
    """A registry that has nothing; it notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pull(self, reference: Reference, **options: Any) -> Sequence[Image]:
        self.asked.append(reference.familiar)
        raise ImageNotFound(f"pull access denied for {reference.familiar_name}")


@dataclass
class Lab:
    """A builder over the overlay driver with commands that are faked."""

    root: Path
    closing: ExitStack
    runtime: Any = field(default_factory=FakeRuntime)
    registry: NoRegistry = field(default_factory=NoRegistry)
    workers: Any = field(default_factory=InlineWorkers)
    driver: str = "overlay"
    time: int = 1_700_000_000 * 10**9

    def __post_init__(self) -> None:
        root = str(self.root)
        durability = Durability(root, "boot", sync=lambda path: None)
        self.closing.callback(durability.flush)
        content = LocalContent(f"{root}/content", durability)
        self.metadata = metadata = Metadata(f"{root}/metadata.db", print)
        self.closing.callback(metadata.close)
        leases = Leases()
        snapshotter: Snapshotter = (NativeSnapshotter if self.driver == "native" else OverlaySnapshotter)(root, self.workers)
        if self.driver == "erofs":
            fds = MemoryFdStore()
            self.closing.callback(fds.close)
            self.closing.callback(unmount_below, self.root)
            snapshotter = open_driver(
                probe(root, "erofs"), root, blob_path=lambda hex: f"{root}/content/blobs/sha256/{hex}", workers=self.workers, fds=fds
            )
        self.layers = Layers(f"{root}/layers", content, snapshotter, metadata, leases, durability, print)
        catalog = Catalog(f"{root}/images", content, self.layers, metadata, leases, durability, print)
        self.images = Images(catalog, self.layers, content, leases, self.workers, host=HOST, clock=lambda: self.time / 1e9)
        self.images.open()
        self.closing.callback(self.images.close)
        executor = Executor(self.runtime, f"{root}/run/build", self.workers)
        cache = Cache(metadata, self.images, self.layers)
        self.builder = Builder(
            Engine(
                self.images,
                self.layers,
                leases,
                cache,
                executor,
                self.workers,
                self.registry,
                f"{root}/run",
                HOST,
                self.now,
                CacheMounts(f"{root}/caches"),
            )
        )
        self.context = self.root / "context"
        self.context.mkdir()

    def now(self) -> int:
        self.time += 1
        return self.time

    def base(self, name: str = "base", **files: str) -> Image:
        """An image of one layer."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for path, content in {"etc/passwd": "me:x:7:8::/:\n", **files}.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
        source = self.root / "base.tar"
        source.write_bytes(out.getvalue())
        with open(source, "rb") as file:
            return self.images.import_(file.fileno(), name=Reference.parse(name).with_default_tag())

    def build(self, text: str, cancellation: Cancellation | None = None, **options: Any) -> tuple[Image, str]:
        """Build; the image and all that was told."""
        told: list[Update] = []
        request = BuildRequest(context=options.pop("context", Context(directory=str(self.context))), text=text, **options)
        try:
            image = self.builder.build(request, told.append, cancellation)
        finally:
            self.told = told
        return image, "".join(update.stream for update in told)

    def read(self, image: Image, path: str) -> str:
        return b"".join(self.images.cat(str(image.id), path)[1]).decode()
