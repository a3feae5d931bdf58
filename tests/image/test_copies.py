"""What a tree is mended from is made after its layer; whatever happens before that, nothing wrong is believed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.layer.compression import inflater
from lamina.spec.config import History, RootFS
from lamina.spec.reference import Reference

from .conftest import DRIVERS, Store
from .tars import imported, read_all

DATA = hashlib.shake_256(b"data").digest(300_000)


@pytest.fixture(params=[param for param in DRIVERS if param.values != ("erofs",)])
def trees(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store whose driver keeps trees."""
    store = Store(tmp_path, request.param).open()
    yield store
    store.close()


def committed(store: Store, name: str = "made") -> Image:
    """An image with one layer more, made of a directory as a commit does it; no copy is made before somebody waits for it."""
    base = imported(store)
    upper = store.root / "upper"
    upper.mkdir()
    (upper / "data").write_bytes(DATA)
    (upper / "note").write_bytes(b"a note")
    with store.leases.hold():
        facts = store.layers.commit_upper(str(upper), base.layers[-1], LayerNote(created_by="commit"))
        rootfs = RootFS(diff_ids=(*base.config.rootfs.diff_ids, str(facts.diff_id)))
        config = msgspec.structs.replace(base.config, rootfs=rootfs, history=(*base.config.history, History(created_by="commit")))
        return store.images.create(config, store.layers.chain(facts.id), names=[Reference.parse(name)], parent=base.id)


def top(store: Store, image: Image) -> LayerFacts:
    return store.layers.get(image.layers[-1])


def damage(store: Store, image: Image) -> Path:
    """Change bytes of a file of the layer's tree; its size and time stay."""
    tree = store.layers.driver.tree(top(store, image).name)
    assert tree is not None
    path = Path(tree, "data")
    status = path.stat()
    path.write_bytes(b"x" + DATA[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path


def test_a_committed_layer_is_whole_at_once_and_gets_its_copy_later(trees: Store) -> None:
    image = committed(trees)
    facts = top(trees, image)
    assert facts.sources == ()
    assert trees.layers.find(facts.parent, facts.diff_id) == facts
    trees.layers.copies.flush()
    [copy] = top(trees, image).sources
    stream = inflater("zstd")
    plain = b"".join(piece for piece in stream.feed(Path(trees.content.path(copy.digest)).read_bytes()))
    assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == str(facts.diff_id)
    assert list(trees.images.check()) == []
    path = damage(trees, image)
    # What each file holds was noted by the first look; the copy has it all.
    assert [finding.state for finding in trees.images.check(repair=True)] == ["repaired"]
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("form", ["docker", "oci", "v1"])
def test_an_image_is_saved_with_the_same_bytes_before_and_after_its_copy_is_made(trees: Store, tmp_path: Path, form: str) -> None:
    committed(trees)
    for name in ("before", "after"):
        with open(tmp_path / name, "wb") as archive:
            trees.images.save(["made"], archive.fileno(), form=form)
        trees.layers.copies.flush()
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
    assert len(read_all(tmp_path / "after")) > 3


def test_what_a_killed_process_did_not_come_to_is_made_after_the_next_start(trees: Store) -> None:
    image = committed(trees)
    trees.close()
    assert top(trees, image).sources == ()
    with closing(Store(trees.root, trees.driver, trees.boot).open()) as again:
        again.layers.copies.flush()
        assert len(top(again, image).sources) == 1
        assert list(again.images.check()) == []
    trees.open()


def test_a_tree_that_a_crash_may_have_hurt_is_made_anew_or_its_layer_is_not_believed(trees: Store) -> None:
    image = committed(trees)
    facts_file = str(trees.root / "layers" / f"{image.layers[-1].encoded}.json")
    trees.close()
    trees.durability.distrust(facts_file)
    with closing(Store(trees.root, trees.driver, "another boot").open()) as sound:
        facts = top(sound, image)
        assert sound.layers.find(facts.parent, facts.diff_id) is not None
        assert len(top(sound, image).sources) == 1
    trees.open()


def test_a_tree_that_is_damaged_before_its_copy_is_made_is_named_and_never_copied(trees: Store) -> None:
    image = committed(trees)
    damage(trees, image)
    trees.layers.copies.flush()
    assert top(trees, image).sources == ()
    assert any("no copy of layer" in line for line in trees.warnings)
    [finding] = trees.images.check(repair=True)
    assert finding.state == "lost"
    assert "made" in str(finding.line)


def test_an_image_that_is_removed_before_its_copy_is_made_leaves_nothing(trees: Store) -> None:
    image = committed(trees)
    name = top(trees, image).name
    trees.images.remove("made")
    trees.layers.copies.flush()
    assert not trees.layers.driver.exists(name)
    assert list(trees.images.check()) == []
    assert os.listdir(trees.root / "content" / "ingest") == []


def test_large_files_that_leave_the_page_cache_make_the_same_layer(store: Store) -> None:
    upper = store.root / "upper"
    upper.mkdir()
    for number, size in enumerate((0, 1, 1 << 20, (1 << 20) + 1, 3_333_333)):
        (upper / f"file{number}").write_bytes(hashlib.shake_256(b"%d" % number).digest(size))
    facts = [store.layers.commit_upper(str(upper), None, LayerNote(), cached=cached) for cached in (True, False)]
    assert facts[0] == facts[1]
    store.layers.remove([facts[0].id])
    again = store.layers.commit_upper(str(upper), None, LayerNote(), cached=False)
    assert again.diff_id == facts[0].diff_id
    store.layers.copies.flush()
    store.layers.verify(again.id)
