"""What is said to come free comes free, to the byte; and what a dry run tells is what happens."""

from __future__ import annotations

import io
import os
from pathlib import Path

import msgspec
import pytest

from lamina.content.durability import sync_file_system
from lamina.errors import InvalidArgument
from lamina.image.model import Image, Removed
from lamina.image.pruning import PrunePlan
from lamina.spec import config as configs
from lamina.spec.config import History
from lamina.spec.reference import Reference

from .conftest import Store
from .tars import BASE, SECOND, child, imported, tar
from .test_archive import archive
from .test_layouts import several

KEPT = ("content/blobs/sha256", "layers", "images")


def on_disk(store: Store) -> int:
    """Bytes of all files, and of the directories below the three that are always there."""
    sync_file_system(str(store.root))
    total, seen = 0, set[int]()
    for top in KEPT:
        for path, folders, files in os.walk(store.root / top):
            # what was removed goes in the background, under a name of its own
            folders[:] = [name for name in folders if ".removing" not in name]
            for name in (*folders, *(name for name in files if ".removing" not in name)):
                status = os.lstat(f"{path}/{name}")
                if status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += status.st_blocks * 512
    return total


def step(store: Store, parent: Image, text: str) -> Image:
    """A step of a build that changed only the configuration."""
    history = (*parent.config.history, History(created="2024-01-01T00:00:00Z", created_by=text, empty_layer=True))
    config = msgspec.structs.replace(configs.replace(parent.config, user=text), history=history)
    return store.images.create(config, store.layers.chain(parent.layers[-1]), parent=parent.id, intermediate=True)


@pytest.fixture
def full(store: Store) -> Store:
    """Images on a common base, one without a name, one for two platforms, the steps of a build, one half done."""
    base = imported(store)
    child(store, base, "one", SECOND, parent=False)
    child(store, base, "two", tar({f"file{number}": b"x" * number for number in range(40)}), parent=False)
    child(store, base, "two", tar({"newer": b"y" * 9000}), parent=False)
    first = step(store, base, "USER a")
    built = step(store, first, "USER b")
    store.images.create(built.config_bytes, store.layers.chain(built.layers[-1]), names=[Reference.parse("built:1")], parent=first.id)
    step(store, step(store, base, "USER c"), "USER d")
    store.images.load(io.BytesIO(archive(several())))
    return store


def test_an_image_s_own_bytes_are_what_its_removal_frees(full: Store) -> None:
    full.images.settle()
    for name in ("one:latest", "multi:1", "built:1"):
        by_name = {row.image.names[0].familiar: row for row in full.images.usage()[1] if row.image.names}
        unique, before = by_name[name].unique, on_disk(full)
        full.images.remove(name)
        assert before - on_disk(full) == unique > 0
        assert by_name["base:latest"].unique == 0


def test_all_that_is_counted_is_all_that_is_there(full: Store) -> None:
    full.images.settle()
    total, _ = full.images.usage()
    assert total + sum(record.size for record in full.images.cache()) == on_disk(full)


@pytest.mark.parametrize("everything", [False, True])
def test_a_prune_frees_what_it_said_it_would(full: Store, everything: bool) -> None:
    used = full.images.resolve("one").id
    filters = {"dangling": ["false" if everything else "true"]}

    def in_use(image: object) -> list[tuple[str, bool]]:
        return [("abc", True)] if image == used else []

    plan = full.images.prune(filters, in_use=in_use, dry_run=True)
    before = on_disk(full)
    done = full.images.prune(filters, in_use=in_use)
    assert done.reclaimed == plan.reclaimed == before - on_disk(full) > 0
    assert plan.removed == done.removed
    assert full.images.get(used).names == (Reference.parse("one:latest").with_default_tag(),)
    left = {name.familiar for image in full.images.list() for name in image.names}
    assert ("two:latest" in left) is not everything
    assert [event.attributes["reclaimed"] for event in full.events if event.action == "prune"] == [str(done.reclaimed)]


def test_a_dry_run_tells_of_every_name_and_layer_that_goes(store: Store) -> None:
    """A name goes although its image stays: another that a container uses was built from it."""
    base = imported(store, "base:2")
    child(store, base, "app:1", SECOND)
    store.images.tag("app:1", Reference.parse("app:alias"))
    used = child(store, base, "lay:1", tar({"used": b"u"}))
    filters = {"dangling": ["false"]}

    def in_use(image: object) -> list[tuple[str, bool]]:
        return [("abc", False)] if image == used.id else []

    plan = store.images.prune(filters, in_use=in_use, dry_run=True)
    assert store.images.resolve("base:2").id == base.id and store.images.resolve("app:alias").names
    done = store.images.prune(filters, in_use=in_use)
    assert plan == done
    assert {row.name for row in done.removed if row.kind == "Untagged"} == {"app:1", "app:alias", "base:2"}
    assert len([row for row in done.removed if row.kind == "Deleted"]) == 2


def test_a_plan_of_images_and_cache_is_what_one_after_the_other_does(full: Store) -> None:
    plan = full.images.plan_prune(PrunePlan(images={"dangling": ["false"]}, cache={}, all=True))
    before = on_disk(full)
    done = full.images.prune({"dangling": ["false"]}), full.images.prune_cache(all=True)
    assert plan == done
    assert sum(each.reclaimed for each in plan) == before - on_disk(full) > 0
    assert full.images.list(all=True) == []


def test_a_filter_that_says_both_is_refused_by_plan_and_deed(full: Store) -> None:
    for dry_run in (True, False):
        with pytest.raises(InvalidArgument, match="invalid filter 'dangling=false,true'"):
            full.images.prune({"dangling": ["false", "true"]}, dry_run=dry_run)
    assert full.images.resolve("one").names


def test_build_cache_is_what_no_image_stands_on(full: Store) -> None:
    full.images.settle()
    records = {record.description: record for record in full.images.cache()}
    assert {text: record.shared for text, record in records.items()} == {"USER a": True, "USER c": False, "USER d": False}
    before, size = on_disk(full), sum(record.size for record in records.values())
    assert full.images.prune_cache(dry_run=True).reclaimed == size > 0
    assert full.images.prune().removed != ()
    before = on_disk(full)
    assert full.images.prune_cache().reclaimed == size == before - on_disk(full)
    assert [record.description for record in full.images.cache()] == ["USER a"]
    assert full.images.resolve("built:1").parent is not None


def test_a_base_without_a_name_that_only_steps_need_is_build_cache(store: Store) -> None:
    base = imported(store, "base:1")
    step(store, base, "USER a")
    store.images.remove("base:1")
    store.images.settle()
    shown, before = store.images.cache(), on_disk(store)
    assert base.id in {record.image.id for record in shown} and store.images.usage()[1] == []
    assert store.images.usage()[0] + sum(record.size for record in shown) == before
    assert store.images.prune_cache({}, all=True).reclaimed == sum(record.size for record in shown)
    assert store.images.cache() == []


def test_build_cache_is_chosen_by_filters(full: Store) -> None:
    newest = next(record for record in full.images.cache() if record.description == "USER d")
    chosen = full.images.prune_cache({"id": [newest.image.id.encoded[:12]]}, dry_run=True)
    assert chosen.removed == (Removed("Deleted", str(newest.image.id)),)
    assert full.images.prune_cache({"id": [newest.image.id.encoded[:12]]}).removed == chosen.removed
    step(full, full.images.get(next(record.image.id for record in full.images.cache() if record.description == "USER c")), "USER d")
    # a step on which another stands stays
    assert full.images.prune_cache({"description": ["USER c"]}, dry_run=True).removed == ()
    assert full.images.prune_cache({"until": ["1h"]}, dry_run=True).removed == ()
    assert full.images.prune_cache({"inuse": ["true"]}, dry_run=True).removed == ()
    assert len(full.images.prune_cache({"private": ["true"]}, all=True, dry_run=True).removed) == 2
    assert full.images.prune_cache(keep=1 << 30, dry_run=True).removed == ()
    for filters in ({"nonsense": ["1"]}, {"until": ["soon"]}, {"until": ["1h", "2h"]}):
        with pytest.raises(InvalidArgument):
            full.images.prune_cache(filters)


def test_all_forgets_what_builds_remember(full: Store) -> None:
    image = full.images.resolve("built:1")
    full.metadata.cache_put("step:1", {"image": str(image.id)}, [image.id])
    full.images.prune_cache()
    assert full.metadata.cache_get("step:1") is not None
    full.images.prune_cache(all=True)
    assert full.metadata.cache_get("step:1") is None
    assert full.images.resolve("built:1").id == image.id


def test_what_a_stopped_container_s_image_left_behind_goes_when_nobody_needs_it(store: Store, tmp_path: Path) -> None:
    image = imported(store, data=BASE)
    store.leases.pin("container:x", (image.id, *image.layers))
    store.images.remove("base", force=True)
    assert store.images.prune(dry_run=True).reclaimed == store.images.prune().reclaimed == 0
    store.leases.after = lambda: None  # who would be faster than the prune
    store.leases.unpin("container:x")
    before = on_disk(store)
    plan = store.images.prune(dry_run=True)
    assert plan.reclaimed == store.images.prune().reclaimed == before - on_disk(store) > 0
