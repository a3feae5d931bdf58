"""system check: everything that is wrong is named in a line, and what can be made anew is."""

from __future__ import annotations

import io
import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.content.later import Later
from lamina.content.store import BlobDamaged
from lamina.image.checking import LOST, REPAIRABLE, REPAIRED, Finding
from lamina.layer.errors import LayerDamaged
from lamina.spec import manifest as manifests
from lamina.spec.descriptor import Descriptor
from lamina.spec.reference import Reference
from tests.harness import overwrite

from .conftest import Store
from .tars import BASE, SECOND, child, imported, tar
from .test_archive import REF, archive
from .test_layouts import platform_image, several


def found(store: Store, *, repair: bool = False) -> list[Finding]:
    return list(store.images.check(repair=repair))


def healed(store: Store) -> None:
    """Each thing is found, then mended, then gone."""
    before = found(store)
    assert before
    assert {finding.state for finding in before} == {REPAIRABLE}, [finding.line for finding in before]
    after = found(store, repair=True)
    assert {finding.state for finding in after} == {REPAIRED}, [finding.line for finding in after]
    assert found(store) == []


def flip(path: Path, at: float = 0.5) -> None:
    """Turn one bit over, as a disk does: nothing says that the file was written to."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    overwrite(path, data)


def test_a_sound_store_has_no_problems(store: Store) -> None:
    child(store, imported(store), "top", SECOND)
    assert found(store) == []


@pytest.mark.parametrize("at", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_a_flipped_bit_of_a_metadata_image_is_found_and_mended(store: Store, at: float) -> None:
    image = imported(store)
    [facts] = store.layers.chain(image.layers[0])
    before = Path(store.snapshotter.index(facts.name)).read_bytes()
    flip(Path(store.snapshotter.index(facts.name)), at)
    assert [(store.root / finding.where).exists() for finding in found(store)] == [True]
    healed(store)
    assert Path(store.snapshotter.index(facts.name)).read_bytes() == before


def test_damage_of_what_was_merged_is_found_and_mended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(store)
    bad = {"key": "is damaged"}
    monkeypatch.setattr(store.snapshotter, "damaged_stacks", lambda: iter(list(bad.items())))
    monkeypatch.setattr(store.snapshotter, "mend_stack", bad.pop)
    assert [(finding.what, finding.where, finding.problem) for finding in found(store)] == [("merged layers", "stacks/key", "is damaged")]
    healed(store)


def test_a_tree_in_which_anything_differs_is_found_and_mended_in_place(store: Store) -> None:
    if store.driver == "erofs":
        pytest.skip("there is no tree")
    image = imported(store)
    [facts] = store.layers.chain(image.layers[0])
    assert found(store) == []
    tree = Path(store.snapshotter.tree(facts.name) or "")
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size)
    victim = files[0]
    content, status = victim.read_bytes(), victim.stat()

    def other_bytes() -> None:
        flip(victim)

    def other_mode() -> None:
        victim.chmod(0o7 ^ (status.st_mode & 0o777))

    def missing() -> None:
        victim.unlink()

    def stray() -> None:
        (victim.parent / "stray").mkdir()

    def directory() -> None:
        victim.unlink()
        victim.mkdir()

    damages: list[Callable[[], None]] = [other_bytes, other_mode, missing, stray, directory]
    for damage in damages:
        damage()
        healed(store)
        assert victim.read_bytes() == content
        assert (victim.stat().st_mode, victim.stat().st_mtime_ns) == (status.st_mode, status.st_mtime_ns)
        assert not (victim.parent / "stray").exists()


def test_lost_bytes_are_named_with_the_images_and_what_brings_them_back(store: Store) -> None:
    image = imported(store)
    for blob in list(store.content.walk()):
        if blob.digest not in (image.id, image.manifest.digest):
            flip(store.root / "content/blobs/sha256" / blob.digest.encoded)
    lost = [finding for finding in found(store, repair=True) if finding.state == LOST]
    assert lost
    for finding in lost:
        assert str(image.layers[0]) in finding.line
        assert finding.images == ("base:latest",)
        assert "load, import or build again" in finding.line
        assert "\n" not in finding.line
    assert len({finding.line for finding in lost}) == len(lost)
    stray = store.root / "layers/stray.erofs"
    stray.write_bytes(b"what may be left of it")
    assert [(each.where, each.advice[:8]) for each in found(store, repair=True) if each.state != LOST] == [
        ("layers/stray.erofs", "it stays")
    ]
    stray.unlink()
    store.images.add_digest(image.id, Reference.parse(f"registry.test/base@{image.manifest.digest}"), image.manifest)
    assert "lamina pull registry.test/base@sha256:" in found(store)[0].line


def test_documents_rows_names_and_strays_are_healed(store: Store) -> None:
    image = imported(store)
    database = store.root / "metadata.db"

    def row(statement: str) -> Callable[[], None]:
        def run() -> None:
            with sqlite3.connect(database) as connection:
                connection.execute(statement)
            connection.close()

        return run

    damages: list[Callable[[], object]] = [
        lambda: flip(store.root / f"layers/{image.layers[0].encoded}.json"),
        lambda: flip(store.root / f"images/{image.id.encoded}.json"),
        lambda: flip(store.root / f"content/blobs/sha256/{image.id.encoded}"),
        lambda: flip(store.root / f"content/blobs/sha256/{image.manifest.digest.encoded}"),
        lambda: flip(store.root / "content/index.json", 0.8),
        lambda: (store.root / "content/index.json").unlink(),
        lambda: (store.root / f"images/{image.id.encoded}.json").unlink(),
        lambda: (store.root / f"content/blobs/sha256/{image.id.encoded}").unlink(),
        lambda: (store.root / "content/blobs/sha256/stray").write_bytes(b"x"),
        lambda: (store.root / "layers/stray").mkdir(),
        lambda: (store.root / f"images/{'0' * 64}.json").write_bytes(b"{}"),
        lambda: store.content.put(b"nobody's", ""),
        row("DELETE FROM layers"),
        row("DELETE FROM images"),
        row("DELETE FROM names"),
        row("UPDATE layers SET facts = replace(facts, 'version', 'versioM')"),
        row("UPDATE images SET record = '{'"),
        row("UPDATE names SET descriptor = replace(descriptor, 'sha256', 'sha257')"),
        row("INSERT INTO names SELECT 'docker.io/library/ghost:1', image, descriptor FROM names"),
        row("INSERT INTO build_cache VALUES ('k', '{')"),
        row("INSERT INTO layers VALUES ('sha256:x', '{}')"),
    ]
    for number, damage in enumerate(damages):
        damage()
        assert found(store), f"damage {number} is not found"
        healed(store)
        assert store.images.resolve("base").id == image.id


def test_a_name_whose_row_was_lost_comes_back_from_its_twin_but_a_removed_one_does_not(store: Store) -> None:
    image = imported(store)
    store.images.tag("base", Reference.parse("other:1"))
    store.images.remove("other:1")
    store.close()
    with sqlite3.connect(store.root / "metadata.db") as connection:
        connection.execute("DELETE FROM names")
    connection.close()
    after = Store(store.root, store.driver).open()
    assert [name.familiar for name in after.images.resolve(str(image.id)).names] == ["base:latest"]
    after.close()
    store.open()


def test_the_files_by_which_other_tools_know_the_content_store_are_mended(store: Store) -> None:
    for name in ("oci-layout", "index.json"):
        (store.root / "content" / name).unlink()
        assert [finding.where for finding in found(store)] == [f"content/{name}"]
        healed(store)
        assert (store.root / "content" / name).exists()
    imported(store)
    (store.root / "content/oci-layout").write_text("{}")
    healed(store)


def test_each_damaged_form_of_a_layer_is_named_at_its_own_place(any_store: Store) -> None:
    any_store.images.load(io.BytesIO(archive(several())))
    [facts, *_] = any_store.layers.all()
    [source] = facts.sources
    for digest in (facts.diff_id, source.digest):
        flip(Path(any_store.content.path(digest)))
    places = {digest.encoded: f"content/blobs/sha256/{digest.encoded}" for digest in (facts.diff_id, source.digest)}
    lost = [finding for finding in found(any_store) if finding.what == f"layer {facts.id}"]
    assert {finding.state for finding in lost} == {LOST}
    assert len(lost) == 2
    for finding in lost:
        assert finding.where == places[finding.problem.rpartition(":")[2]], finding.line


@pytest.mark.parametrize("form", ["docker", "oci", "v1"])
def test_an_image_whose_bytes_are_lost_is_not_begun_to_be_saved(any_store: Store, form: str) -> None:
    image = child(any_store, imported(any_store), "top", SECOND)
    facts = any_store.layers.get(image.layers[-1])
    flip(Path(any_store.content.path(facts.diff_id)))
    assert {finding.state for finding in found(any_store)} == {LOST}
    with pytest.raises(BlobDamaged, match=f"damaged blob: {facts.diff_id}"):
        any_store.images.saving(["top"], form=form)
    any_store.content.delete(facts.diff_id)
    with pytest.raises(LayerDamaged, match=f"the bytes of layer {facts.diff_id} are missing"):
        any_store.images.saving(["top"], form=form)
    assert any_store.images.saving(["base"], form=form).size > 0


@pytest.mark.parametrize("form", ["docker", "oci", "v1"])
def test_damage_that_nobody_has_seen_is_noticed_by_a_save(any_store: Store, tmp_path: Path, form: str) -> None:
    image = child(any_store, imported(any_store), "top", SECOND)
    facts = any_store.layers.get(image.layers[-1])
    plan = any_store.images.saving(["top"], form=form)
    flip(Path(any_store.content.path(facts.diff_id)))
    with (tmp_path / "archive").open("wb") as target, pytest.raises(LayerDamaged, match=f"damaged layer: {facts.diff_id}"):
        plan.write(target.fileno())
    assert (tmp_path / "archive").stat().st_size < plan.size
    with pytest.raises((LayerDamaged, BlobDamaged)):
        any_store.images.saving(["top"], form=form)


def test_damage_to_a_compressed_form_is_noticed_by_a_save(any_store: Store, tmp_path: Path) -> None:
    made, files = platform_image("amd64", BASE)
    named = Descriptor(made.media_type, made.descriptor.digest, len(made.raw), annotations=((REF, "packed:1"),))
    any_store.images.load(io.BytesIO(archive({**files, "index.json": manifests.new_index([named]).raw})))
    [source] = made.layers
    plan = any_store.images.saving(["packed:1"])
    flip(Path(any_store.content.path(source.digest)))
    with (tmp_path / "archive").open("wb") as target, pytest.raises(BlobDamaged, match=f"damaged blob: {source.digest}"):
        plan.write(target.fileno())
    assert (tmp_path / "archive").stat().st_size < plan.size
    with pytest.raises(BlobDamaged):
        any_store.images.saving(["packed:1"])


def test_a_name_that_is_given_while_a_check_looks_is_not_told_as_lost(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(any_store)
    flush, numbers = Later.flush, itertools.count()

    def and_then_tagged(later: Later) -> None:
        flush(later)
        any_store.images.tag("base", Reference.parse(f"base:{next(numbers)}"))

    monkeypatch.setattr(Later, "flush", and_then_tagged)
    assert found(any_store) == []
    monkeypatch.undo()
    assert found(any_store) == []


def test_what_a_removal_beside_other_work_left_while_a_check_looks_is_no_stray(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    base = imported(any_store)
    images = [child(any_store, base, f"top{number}", tar({"number": b"%d" % number}), parent=False) for number in range(20)]
    flush = Later.flush

    def and_then_removed(later: Later) -> None:
        flush(later)
        if images:
            with any_store.leases.hold(images[-1].id):
                any_store.images.remove(images.pop().names[0].familiar)

    monkeypatch.setattr(Later, "flush", and_then_removed)
    assert found(any_store) == []
    monkeypatch.undo()
    assert found(any_store) == []


def test_what_goes_while_a_check_looks_is_not_told_as_lost(any_store: Store) -> None:
    store = any_store
    first, second = imported(store, "first", tar({"a": b"1"})), imported(store, "second", tar({"b": b"2"}))
    (store.root / "layers" / f"{first.layers[0].encoded}.json").write_text("{}")
    (store.root / "images" / f"{first.id.encoded}.json").write_text("{}")
    for repair in (False, True):
        found = store.images.check(repair=repair)
        told = [next(found)]
        if not repair:
            store.images.remove("second")
        told += found
        assert {finding.what for finding in told} == {f"layer {first.layers[0]}", f"image {first.id}"}
    assert second.id.encoded not in {path.stem for path in (store.root / "images").iterdir()}
    assert [*store.images.check()] == []
