"""system check: damage is named, and what can be made anew is."""

from __future__ import annotations

import os

from .conftest import Store
from .tars import SECOND, child, imported


def test_a_sound_store_has_no_problems(store: Store) -> None:
    child(store, imported(store), "top", SECOND)
    assert list(store.images.check()) == []


def test_a_damaged_metadata_image_is_named_and_repaired(store: Store) -> None:
    image = imported(store)
    [facts] = store.layers.chain(image.layers[0])
    os.truncate(store.snapshotter.index(facts.name), 1000)
    [problem] = store.images.check()
    assert str(facts.id) in problem.what
    assert not problem.repaired
    [problem] = store.images.check(repair=True)
    assert problem.repaired
    assert list(store.images.check()) == []


def test_damaged_bytes_are_named(store: Store) -> None:
    image = imported(store)
    for blob in list(store.content.walk()):
        path = store.root / "content/blobs/sha256" / blob.digest.encoded
        path.write_bytes(bytes(blob.size))
    problems = " ".join(problem.what for problem in store.images.check(repair=True))
    assert str(image.id) in problems
    assert str(image.layers[0]) in problems
