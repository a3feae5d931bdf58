"""A full disk: one sentence, the store as before, and room again afterwards."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from lamina.content import DiskFull
from lamina.errors import LaminaError
from lamina.image.metadata import Metadata
from tests.harness import fill

from .conftest import DRIVERS, Store
from .tars import imported, tar
from .test_archive import GOOD, WAYS, config_of, docker_archive


@pytest.fixture(params=DRIVERS)
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store on a file system of 4 MB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", str(tmp_path)], check=True)
    try:
        store = Store(tmp_path, request.param).open()
        imported(store, "first")
        yield store
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


BIG = tar({"big": os.urandom(8 << 20)})


@pytest.mark.root
def test_an_import_that_does_not_fit_says_so_and_leaves_nothing(small: Store) -> None:
    before = shape(small)
    for _ in range(3):
        with pytest.raises(LaminaError, match="no space left") as refusal:
            imported(small, "big", BIG)
        assert refusal.value.code == "exhausted"
        assert shape(small) == before
    imported(small, "second", tar({"x": b"y"}))


@pytest.mark.root
def test_a_load_that_does_not_fit_says_so_whatever_lies_behind_the_layer(small: Store) -> None:
    archive = docker_archive(config_of(BIG), {"a.tar": BIG}, names=["big:1"])
    for way in (WAYS[0], WAYS[2]):  # a file would lie on the same disk
        before = shape(small)
        with pytest.raises(LaminaError, match="no space left") as refusal:
            way(small, archive)
        assert refusal.value.code == "exhausted" and shape(small) == before


@pytest.mark.root
def test_a_disk_without_a_byte_left_refuses_every_change(small: Store) -> None:
    for way in WAYS:
        before = shape(small)
        fill(small.root / "filler")
        with pytest.raises(LaminaError):
            way(small, GOOD) if way is not WAYS[1] else small.images.load(io.BytesIO(GOOD))
        with pytest.raises(LaminaError):
            imported(small, "other", tar({"x": b"y"}))
        (small.root / "filler").unlink()
        assert shape(small) == before
    small.images.remove("first")
    assert os.listdir(small.root / "content/blobs/sha256") == []


@pytest.mark.root
def test_a_database_on_a_full_disk_is_not_taken_for_a_damaged_one(small: Store) -> None:
    filled = small.root / "filler"
    assert list(small.images.check(repair=True)) == []
    fill(filled)
    assert list(small.images.check(repair=True)) == []
    filled.unlink()
    small.close()
    fill(filled)
    before = os.stat(small.root / "metadata.db").st_ino
    with pytest.raises(DiskFull, match="metadata"):
        Metadata(str(small.root / "metadata.db"), pytest.fail)
    assert os.stat(small.root / "metadata.db").st_ino == before
    filled.unlink()
    small.open()


@pytest.mark.root
@pytest.mark.parametrize("driver", DRIVERS)
def test_images_are_removed_from_a_full_disk(tmp_path: Path, driver: str) -> None:
    """What goes has to be written down, and the database must grow for that."""
    disk, image = tmp_path / "disk", tmp_path / "ext4"
    disk.mkdir()
    with open(image, "wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    try:
        store = Store(disk / "root", driver).open()
        for number in range(3):
            imported(store, f"image:{number}", tar({"x": os.urandom(1 << 20)}))
        for count in range(2):
            fill(disk / f"filler{count}", 4096 if count else 1 << 20)
        with pytest.raises(LaminaError, match="no space left"):
            imported(store, "more", tar({"x": b"y"}))
        store.images.remove("image:0")
        store.images.prune({"dangling": ["false"]})
        assert not store.images.list(all=True)
        os.unlink(disk / "filler0")
        imported(store, "image:1", tar({"x": b"y"}))
        store.images.remove("image:1")
        assert (disk / "root/reserve").stat().st_blocks * 512 >= 4 << 20, "it is there again for the next time"
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def shape(store: Store) -> object:
    return (
        [image.id for image in store.images.list(all=True)],
        [facts.id for facts in store.layers.all()],
        sorted(os.listdir(store.root / "content/ingest")),
        sorted(os.listdir(store.root / "content/blobs/sha256")),
        sorted(name for name in os.listdir(store.root / "layers") if name.endswith(".json")),
        sorted(store.snapshotter.names()),
    )


def test_layers_that_cannot_be_written_down_as_removed_go_with_the_next_sweep(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = any_store
    with store.leases.hold():
        imported(store, "first")
        store.images.remove("first")
        [layer] = store.layers.all()
    monkeypatch.setattr(store.metadata, "transaction", full)
    with pytest.raises(DiskFull):
        store.images.collect()
    monkeypatch.undo()
    assert store.layers.all() == (layer,)
    assert store.images.collect().layers == (layer.id,)
    assert store.snapshotter.names() == [] and list(store.content.walk()) == []


def test_an_image_that_cannot_be_written_down_leaves_no_record(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = any_store
    base = imported(store, "first")
    monkeypatch.setattr(store.metadata, "transaction", full)
    with pytest.raises(DiskFull):
        store.images.create(base.config_bytes.replace(b"Imported", b"imported"), store.layers.chain(base.layers[-1]))
    monkeypatch.undo()
    assert os.listdir(store.root / "images") == [f"{base.id.encoded}.json"]


def full() -> NoReturn:
    raise DiskFull("no space left on the disk")
