"""Several threads at once: the daemon has one a connection."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lamina.errors import LaminaError
from lamina.image import lookup
from lamina.image.archive.pieces import SavePlan
from lamina.image.documents import decode_facts, encode_facts
from lamina.image.leases import Leases
from lamina.image.ledger import Ledger
from lamina.image.model import ImageNotFound, LayerFacts, LayerNote
from lamina.image.pruning import Pruner
from lamina.image.remove import InUse
from lamina.layer.staged import Staged
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from tests.harness import eventually

from .conftest import Store
from .tars import BASE, SECOND, child, imported, stacked, tar
from .test_archive import GOOD


def test_threads_that_come_and_go_leave_a_whole_store(any_store: Store) -> None:
    store = any_store
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(6):
                base = imported(store, f"own{number}", BASE)
                child(store, base, f"top{number}", tar({"x": b"%d" % turn}), parent=False)
                store.images.load(io.BytesIO(GOOD))
                store.images.tag(f"top{number}", Reference.parse("common:1"))
                for text in ("common:1", f"own{number}", f"top{number}", "x:1"):
                    try:
                        store.images.remove(text)
                    except LaminaError as error:
                        # Another thread may have been faster; nothing else may happen.
                        assert error.code in ("not_found", "conflict")
                store.images.list(all=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert failures == []
    store.images.prune({"dangling": ["false"]})
    assert store.images.list(all=True) == []
    assert store.layers.all() == ()
    assert os.listdir(store.root / "content/blobs/sha256") == []
    assert store.warnings == []


def test_collecting_beside_a_build_takes_nothing_from_it(any_store: Store) -> None:
    store, stop = any_store, threading.Event()

    def collect() -> None:
        # With a pause, or who collects has the locks again before who builds has woken.
        while not stop.wait(0.001):
            store.images.collect()

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for number in range(10):
            base = imported(store, f"b{number}", tar({"n": b"%d" % number}))
            top = child(store, base, f"c{number}", SECOND)
            with store.layers.union(top.layers[-1]) as union:
                assert union.lookup(b"srv/new") is not None
    finally:
        stop.set()
        thread.join(120)


def test_a_layer_that_a_lease_kept_goes_with_the_one_below_it(any_store: Store) -> None:
    store = any_store
    base = imported(store)
    with store.leases.hold():
        top = child(store, base, "top", SECOND, parent=False)
        store.images.remove("top")
        assert store.layers.has(top.layers[-1])
    store.images.remove("base")
    assert store.layers.all() == ()
    store.images.prune({"dangling": ["false"]})
    assert [*store.images.check()] == []


def test_what_is_removed_beside_unfinished_work_goes_when_that_has_ended(any_store: Store) -> None:
    store = any_store
    with store.leases.hold():
        imported(store)
        store.images.remove("base")
        assert store.layers.all() != () and list(store.content.walk())
    assert [*store.images.check()] == []  # a check waits for it
    eventually(lambda: store.layers.all() == () and not list(store.content.walk()), "what nothing names stays")


def test_an_image_removed_while_it_is_made_again_has_its_documents(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = any_store
    image = imported(store)
    put = store.content.put

    def removed_meanwhile(data: bytes, media_type: str) -> Descriptor:
        described = put(data, media_type)
        if described.digest == image.id and store.images.list():
            store.images.remove("base")
        return described

    with store.leases.hold():
        store.layers.find(None, store.layers.get(image.layers[0]).diff_id)
        monkeypatch.setattr(store.content, "put", removed_meanwhile)
        again = store.images.create(image.config_bytes, store.layers.chain(image.layers[-1]), names=[Reference.parse("again")])
    assert again.id == image.id
    assert store.content.read(again.id) == image.config_bytes
    assert store.content.read(again.manifest.digest)
    assert [*store.images.check()] == []


def test_what_is_touched_is_not_deleted_and_what_is_deleted_is_not_touched_meanwhile() -> None:
    leases, one = Leases(), Digest.of(b"1")
    deleted: list[Digest] = []

    def delete(digest: Digest) -> int:
        deleted.append(digest)
        return 5

    assert leases.unless_kept(one, delete) == 5
    with leases.hold():
        assert leases.unless_kept(one, delete) == 5
        leases.touch(one)
        assert leases.unless_kept(one, delete) == 0
    with leases.hold(one):
        assert leases.unless_kept(one, delete) == 0
    leases.pin("container:x", [one])
    assert (leases.unless_kept(one, delete), leases.pinned(one)) == (0, ["container:x"])
    assert deleted == [one, one]


def test_a_lease_keeps_what_is_touched_while_it_lasts() -> None:
    leases = Leases()
    one, two, three = (Digest.of(bytes([n])) for n in range(3))
    leases.touch(one)
    with leases.hold(two):
        leases.touch(three)
        assert leases.kept() == {two, three}
        with leases.hold():
            assert leases.kept() == {two, three}
        assert leases.kept() == {two, three}
    assert leases.kept() == set()
    leases.pin("container", [one])
    leases.pin("container", [two])
    assert leases.kept() == {two}
    leases.unpin("container")
    leases.unpin("container")
    assert leases.kept() == set()


def test_a_check_and_a_collection_at_once_both_end(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store, entered, go, quiet = any_store, threading.Event(), threading.Event(), any_store.leases.quiet
    imported(store)

    @contextmanager
    def held_up() -> Iterator[bool]:
        with quiet() as alone:
            if threading.current_thread() is checking:
                entered.set()
                go.wait(30)
            yield alone

    def taken() -> bool:
        if store.catalog.lock.acquire(blocking=False):
            store.catalog.lock.release()
            return False
        return True

    checking = threading.Thread(target=lambda: list(store.images.check()), daemon=True)
    collecting = threading.Thread(target=store.images.collect, daemon=True)
    monkeypatch.setattr(store.leases, "quiet", held_up)
    checking.start()
    assert entered.wait(30)
    collecting.start()
    eventually(taken, "nobody has the catalog's lock")
    go.set()
    for thread in (checking, collecting):
        thread.join(30)
        assert not thread.is_alive(), "one waits for the other"


def test_who_hears_slowly_of_strays_keeps_nobody_waiting(any_store: Store) -> None:
    store = any_store
    for name in ("one", "two"):
        (store.root / "layers" / name).write_bytes(b"")
    found = store.images.check()
    assert next(found).what == "stray"
    working = threading.Thread(target=lambda: imported(store), daemon=True)
    working.start()
    working.join(30)
    assert not working.is_alive() and len([*found]) == 1


def test_what_is_collected_is_not_walked_through_while_everybody_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.leases.hold():
        imported(store)
        store.images.remove("base")
    monkeypatch.setattr(store.snapshotter, "usage", pytest.fail)
    store.images.collect()
    assert store.layers.all() == () and store.snapshotter.names() == []


def test_a_layer_is_read_for_another_parent_while_nobody_waits_and_a_full_disk_leaves_nothing_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, data, note = imported(store), tar({"etc/deep/new": b"content"}), LayerNote("2024-01-01T00:00:00Z", "RUN x", "RUN x")
    stage, taken = store.layers.stage, []

    def staged(*arguments: Any) -> Staged:
        def take() -> None:
            if store.layers.lock.acquire(timeout=5):
                taken.append(True)
                store.layers.lock.release()

        other = threading.Thread(target=take)
        other.start()
        other.join()
        return stage(*arguments)

    with store.leases.hold():
        stacked(store, base.layers[-1], data)
        before = set(store.snapshotter.names())
        monkeypatch.setattr(store.layers, "stage", staged)
        with monkeypatch.context() as full:
            full.setattr(store.layers, "_record", lambda _: pytest.fail("the disk is full"))
            with pytest.raises(pytest.fail.Exception):
                store.layers.reuse(None, Digest.of(data), note)
        assert set(store.snapshotter.names()) == before
        again = store.layers.reuse(None, Digest.of(data), note)
        assert again is not None and again.parent is None
        with store.layers.union(again.id) as union:
            assert union.lookup(b"etc/deep/new") is not None
    assert taken == [True, True]


def test_an_image_that_is_removed_while_it_is_looked_at_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = imported(store, "gone")
    found = lookup.resolve(store.catalog, "gone")
    monkeypatch.setattr(lookup, "resolve", lambda *_: store.images.remove("gone") and found)
    assert store.images.resolve("gone").id == image.id
    assert os.listdir(store.root / "images") == os.listdir(store.root / "content/blobs/sha256") == store.warnings == []


def test_facts_that_change_while_they_are_looked_at_stay_as_they_became(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = imported(store).layers[0]
    form = Descriptor("application/x", Digest.of(b"form"), 4)

    def changed(facts: LayerFacts) -> bytes:
        """As the file is about to be compared, another thread writes it."""
        monkeypatch.setattr("lamina.image.layers.encode_facts", encode_facts)
        store.layers.note_pushed(layer, form)
        return encode_facts(facts)

    monkeypatch.setattr("lamina.image.layers.encode_facts", changed)
    assert store.layers.get(layer).pushed == (form,)
    assert form in decode_facts((store.root / "layers" / f"{layer.encoded}.json").read_bytes()).pushed and store.warnings == []


def test_an_image_that_goes_while_the_disk_is_measured_is_left_out(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = any_store
    base = imported(store)
    child(store, base, "top", SECOND, parent=False)
    measured = Pruner.ledger

    def and_then_removed(pruner: Pruner, in_use: InUse) -> Ledger:
        found = measured(pruner, in_use)
        store.images.remove("top")
        return found

    monkeypatch.setattr(Pruner, "ledger", and_then_removed)
    total, rows = store.images.usage()
    assert [row.image.id for row in rows] == [base.id] and total > 0


def test_an_image_that_goes_before_it_is_saved_is_told_as_gone(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(any_store)
    look = SavePlan.look

    def and_removed_before(plan: SavePlan) -> None:
        any_store.images.remove("base")
        look(plan)

    monkeypatch.setattr(SavePlan, "look", and_removed_before)
    with pytest.raises(ImageNotFound, match="No such image: sha256:"):
        any_store.images.saving(["base"])
