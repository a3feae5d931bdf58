"""Layers whose facts are lost in both copies, and a database that is damaged while the engine runs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

from .conftest import Store
from .tars import SECOND, child, imported, tar


def lose_facts(store: Store, layer: Digest) -> None:
    """Both copies of what is known of a layer, while nobody uses the root."""
    (store.root / "layers" / f"{layer.encoded}.json").unlink()
    with closing(sqlite3.connect(store.root / "metadata.db")) as database, database:
        database.execute("DELETE FROM layers WHERE id = ?", (str(layer),))


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)], ids=["base", "top", "both"])
def test_a_layer_whose_facts_are_lost_is_known_again_from_its_image_and_its_bytes(store: Store, which: tuple[int, ...]) -> None:
    base = imported(store)
    top = child(store, base, "top", SECOND)
    before = [store.layers.get(layer) for layer in top.layers]
    store.close()
    for number in which:
        lose_facts(store, top.layers[number])
    again = Store(store.root, store.driver, store.boot).open()
    try:
        after = [again.layers.get(layer) for layer in top.layers]
        for was, now in zip(before, after, strict=True):
            assert (now.id, now.diff_id, now.parent, now.name) == (was.id, was.diff_id, was.parent, was.name)
            assert (now.tar_size, now.content_size, now.entries, now.created_by) == (
                was.tar_size,
                was.content_size,
                was.entries,
                was.created_by,
            )
        assert sum("were lost" in line for line in again.warnings) == len(which)
        again.images.collect()
        assert [finding.line for finding in again.images.check()] == []
    finally:
        again.close()
        store.open()


def test_a_layer_that_is_lost_with_its_bytes_is_named_and_comes_with_a_load(store: Store, tmp_path: Path) -> None:
    base = imported(store)
    top = child(store, base, "top", SECOND)
    with open(tmp_path / "saved.tar", "wb") as archive:
        store.images.save(["top"], archive.fileno())
    facts = store.layers.get(top.layers[1])
    blobs = [store.content.path(digest) for digest in (facts.diff_id, *(s.digest for s in facts.sources)) if exists(store, digest)]
    store.close()
    lose_facts(store, facts.id)
    for path in [*blobs, *(store.root / "layers").glob(f"{facts.name}.skeleton")]:
        os.unlink(path)
    store.open()
    lost = [finding for finding in store.images.check(repair=True) if finding.state == "lost"]
    assert str(top.id) in " ".join(finding.what for finding in lost)
    with open(tmp_path / "saved.tar", "rb") as archive:
        store.images.load(archive.fileno())
    assert [finding.line for finding in store.images.check(repair=True) if finding.state == "lost"] == []
    assert list(store.images.check()) == []


def exists(store: Store, digest: Digest) -> bool:
    return any(blob.digest == digest for blob in store.content.walk())


def flip(path: Path) -> None:
    """A bit of every page."""
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        for at in range(0, len(data), 512):
            data[at] ^= 0x40
        file.seek(0)
        file.write(data)


def replaced(path: Path) -> None:
    beside = path.with_name("other")
    beside.write_bytes(b"no database" * 1000)
    beside.rename(path)


def emptied(path: Path) -> None:
    beside = path.with_name("other")
    sqlite3.connect(beside).close()
    beside.touch()
    beside.rename(path)


def dropped(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE names")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit of each page": flip,
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "deleted": os.unlink,
    "replaced by something else": replaced,
    "replaced by an empty database": emptied,
    "without a table": dropped,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("found", ["by a check", "by use", "by the hourly look"])
def test_a_database_that_is_damaged_while_the_engine_runs_is_mended_without_a_restart(
    any_store: Store, damage: Callable[[Path], object], found: str
) -> None:
    store = any_store
    base = imported(store)
    store.metadata.cache_put("step", {"v": 1}, [base.id])
    for number in range(40):  # More pages than one.
        child(store, base, f"many:{number}", tar({f"file{number}": b"x"}))
    again = store.again()  # What was written is in the database's own file now, and not its log.
    try:
        images, names = {image.id for image in again.images.list(all=True)}, len(again.catalog.names())
        damage(again.root / "metadata.db")
        if found == "by a check":
            assert {finding.state for finding in again.images.check(repair=True) if finding.what == "metadata.db"} == {"repaired"}
        elif found == "by the hourly look":
            again.images.tend()
        extra = child(again, base, "new", SECOND)
        again.images.tag(str(base.id), Reference.parse("other:name"))
        assert [finding.line for finding in again.images.check(repair=found == "by use") if finding.state != "repaired"] == []
        assert list(again.images.check()) == []
        last = again.again()
        try:
            assert {image.id for image in last.images.list(all=True)} == images | {extra.id}
            assert len(last.catalog.names()) == names + 2
            assert not any("database" in line for line in last.warnings)
        finally:
            last.close()
    finally:
        store.open()
