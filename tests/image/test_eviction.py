"""Compressed originals of pulled layers: given up where the disk gets full or by setting, and what is left works."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.image.eviction import ALWAYS, NEVER, PRESSURE, Evictor
from lamina.image.model import Image
from tests.image.exchange import Store, some_tars
from tests.image.test_pull_push import MakeStore, pushed, reference
from tests.registry.servers import Faulty

GIB = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MakeStore]:
    made: list[Store] = []

    def make(driver: str = "erofs", name: str = "") -> Store:
        made.append(Store(tmp_path / (name or f"store{len(made)}"), driver))
        return made[-1]

    yield make
    for each in made:
        each.close()


def evictor(store: Store, keep: str, space: Callable[[], tuple[int, int]] = lambda: (GIB, GIB)) -> Evictor:
    return Evictor(store.layers, store.content, store.leases, space, keep)


def pulled(faulty: Faulty, store: MakeStore, driver: str = "erofs") -> tuple[Store, Image]:
    pushed(faulty, store(name="origin"), tars=some_tars(3, 40_000))
    here = store(driver)
    return here, here.puller.pull(reference(faulty))[0]


def test_where_they_are_never_kept_all_go_and_what_is_left_is_whole(faulty: Faulty, store: MakeStore) -> None:
    here, image = pulled(faulty, store)
    sizes = [each.size for each in evictor(here, ALWAYS).originals()]
    assert len(sizes) == 3
    assert evictor(here, ALWAYS).run() == 0
    assert evictor(here, NEVER).run() == sum(sizes)
    assert [facts.sources for facts in here.layers.chain(image.layers[-1])] == [(), (), ()]
    assert list(here.images.check()) == []
    here.layers.verify_stack(image.layers[-1])
    before = faulty.requests("GET", "/blobs/")
    assert here.puller.pull(reference(faulty))[0].id == image.id
    assert faulty.requests("GET", "/blobs/") == before, "what is here does not come again"
    with open(here.root / "saved.tar", "wb") as archive:
        here.images.save([str(reference(faulty))], archive.fileno())
    there = store()
    with open(here.root / "saved.tar", "rb") as archive:
        assert there.images.load(archive.fileno())[0].id == image.id
    assert here.pusher.push(reference(faulty))


def test_on_a_full_disk_the_least_recently_used_go_until_a_tenth_is_free(faulty: Faulty, store: MakeStore) -> None:
    here, image = pulled(faulty, store)
    order = [facts.sources[0].digest for facts in here.layers.chain(image.layers[-1])]
    for number, digest in enumerate(reversed(order)):
        path = here.content.path(digest)
        os.utime(path, ns=(os.stat(path).st_mtime_ns + (number + 1) * 10**9, os.stat(path).st_mtime_ns))
    evicting = evictor(here, PRESSURE)
    assert [each.digest for each in evicting.originals()] == order[::-1]
    assert evicting.run() == 0, "the disk is empty"
    size = evicting.originals()[0].size
    left = [GIB // 10 - size - 1]
    assert evictor(here, PRESSURE, lambda: (left[0], GIB)).run() >= size + 1
    assert [each.digest for each in evicting.originals()] == order[:1]
    assert list(here.images.check()) == []


def test_nothing_goes_while_an_operation_is_under_way(faulty: Faulty, store: MakeStore) -> None:
    here, _ = pulled(faulty, store)
    with here.leases.hold():
        assert evictor(here, NEVER).run() == 0
    assert evictor(here, NEVER).run() > 0


@pytest.mark.root
def test_a_driver_without_tars_keeps_what_its_trees_are_mended_from(faulty: Faulty, store: MakeStore) -> None:
    here, _ = pulled(faulty, store, "overlay")
    assert evictor(here, NEVER).originals() == []
    assert evictor(here, NEVER).run() == 0


def test_a_damaged_tar_keeps_its_original_and_stops_nobody(faulty: Faulty, store: MakeStore) -> None:
    here, image = pulled(faulty, store)
    damaged = here.layers.chain(image.layers[-1])[0]
    path = Path(here.content.path(damaged.diff_id))
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))
    assert evictor(here, NEVER).run() > 0
    assert [bool(facts.sources) for facts in here.layers.chain(image.layers[-1])] == [True, False, False]
