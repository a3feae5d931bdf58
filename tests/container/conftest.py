"""An engine with an image to copy out of, by each driver, and containers of it that run or do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lamina.container.containers import Containers
from lamina.daemon.engine import Engine
from lamina.errors import LaminaError, Unsupported
from lamina.spec.reference import Reference
from tests.harness import busybox_root, end_helpers

IMAGE = "busybox:files"
SECRET = "the host's own"


@dataclass(frozen=True)
class House:
    """An engine, and a folder of the host with a secret in it, to which links in the image lead."""

    engine: Engine
    host: Path

    @property
    def containers(self) -> Containers:
        return self.engine.containers


@dataclass(frozen=True)
class Box:
    """One container."""

    containers: Containers
    id: str
    running: bool

    def read(self, path: str) -> bytes:
        """The tar of a path."""
        return received(lambda out: self.containers.archive_get(self.id, path, out))

    def write(self, path: str, data: bytes, **options: bool) -> None:
        """Extract a tar, given as a file."""
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            self.containers.archive_put(self.id, path, file.fileno(), **options)


def received(write: Callable[[int], object]) -> bytes:
    """What `write` writes into the descriptor it is given."""
    with tempfile.TemporaryFile() as file:
        write(file.fileno())
        file.seek(0)
        return file.read()


@pytest.fixture(scope="package", params=["erofs", "overlay", "native"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The engine with the image."""
    base = tmp_path_factory.mktemp(f"house-{request.param}")
    host = base / "host"
    host.mkdir()
    (host / "secret").write_text(SECRET)
    tar = _image_tar(base / "tree", host, base / "image.tar")
    try:
        engine = Engine.open(base / "root", storage_driver=request.param)
    except Unsupported as error:
        pytest.skip(str(error))
    try:
        with engine, open(tar, "rb") as file:
            engine.images.import_(file.fileno(), name=Reference.parse(IMAGE))
            yield House(engine, host)
    finally:
        end_helpers(base)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def make(house: House) -> Iterator[Callable[..., Box]]:
    """Makes containers, which are removed at the end: `make(running, config=…, **host_config)`."""
    made: list[str] = []

    def make_one(running: bool = False, config: dict[str, Any] | None = None, **host: Any) -> Box:
        asked = {"Image": IMAGE, "Cmd": ["sleep", "1000"], **(config or {})}
        created = house.containers.create(asked, {"NetworkMode": "none", **host})
        made.append(created.id)
        if running:
            house.containers.start(created.id)
        return Box(house.containers, created.id, running)

    yield make_one
    for identity in made:
        with suppress(LaminaError):
            house.containers.remove(identity, force=True, volumes=True)


@pytest.fixture(params=["stopped", "running"])
def box(request: pytest.FixtureRequest, make: Callable[..., Box]) -> Box:
    """A container that runs, and one that does not."""
    return make(request.param == "running")


def _image_tar(tree: Path, host: Path, tar: Path) -> Path:
    """A busybox with files of every kind, and links that lead to the host's folder if they are followed wrongly."""
    busybox_root(tree)
    (tree / "folder/deep").mkdir(parents=True)
    (tree / "folder/file").write_text("hello")
    os.utime(tree / "folder/file", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    os.chown(tree / "folder/file", 1000, 1001)
    os.chmod(tree / "folder/file", 0o4751)  # after chown, which clears set-id bits
    os.link(tree / "folder/file", tree / "folder/twin")
    (tree / "folder/deep/big").write_bytes(os.urandom(3 << 20))
    os.setxattr(tree / "folder/deep/big", "user.mark", b"a\nb\xff\0c")
    os.mkfifo(tree / "folder/fifo")
    os.mknod(tree / "folder/null", 0o20666, os.makedev(1, 3))
    (tree / "folder/relative").symlink_to("deep/big")
    (tree / "to-folder").symlink_to("/folder")
    (tree / "out").symlink_to(host)
    (tree / "up").symlink_to("../../../../../../.." + str(host))
    (tree / "circle").symlink_to("circle")
    (tree / "stock/below").mkdir(parents=True)
    (tree / "stock/below/item").write_text("in stock")
    (tree / "stock/link").symlink_to("below/item")
    os.chown(tree / "stock", 33, 34)
    os.chmod(tree / "stock", 0o2770)
    subprocess.run(["tar", "--xattrs", "-C", str(tree), "-cf", str(tar), "--format=pax", "."], check=True)
    shutil.rmtree(tree)
    return tar
