"""What a restart finds: healed twins, nothing half done, nothing lost that was reported done."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from lamina.errors import Corrupt
from lamina.layer.errors import LayerDamaged
from lamina.snapshot.protocol import LayerNotFound

from .conftest import Store
from .tars import SECOND, child, imported, tar


@pytest.fixture
def filled(store: Store) -> Iterator[Store]:
    child(store, imported(store), "top", SECOND)
    store.metadata.cache_put("key", {"v": 1}, [store.images.resolve("top").id])
    yield store


def shape(store: Store) -> object:
    """Everything there is to know of a store."""
    return (
        sorted(store.images.list(all=True), key=lambda image: image.id),
        sorted(store.layers.all(), key=lambda facts: facts.id),
        [store.images.which(image.id.short, "/etc/hosts").layer for image in sorted(store.images.list(), key=lambda image: image.id)],
    )


def test_a_restart_finds_everything(filled: Store) -> None:
    before = shape(filled)
    after = filled.again()
    assert shape(after) == before
    assert after.images.collect().layers == ()
    assert shape(after) == before
    assert after.warnings == []
    assert after.metadata.cache_get("key") == {"v": 1}
    after.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_layer_whose_facts_cannot_be_written_leaves_nothing_at_once_or_after_the_next_start(
    filled: Store, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    known = filled.snapshotter.names()
    monkeypatch.setattr("lamina.image.layers.write_file", full)
    if killed:
        monkeypatch.setattr(filled.layers, "_delete_files", lambda facts: None)
    with pytest.raises(OSError, match="No space left"):
        imported(filled, "other", tar({"only": b"here"}))
    monkeypatch.undo()
    assert (filled.snapshotter.names() == known) is not killed
    after = filled.again()
    after.images.collect()
    assert after.snapshotter.names() == known
    assert list(after.images.check()) == []
    after.close()


def documents(store: Store, room: str) -> list[Path]:
    return [path for path in (store.root / room).iterdir() if path.suffix == ".json"]


def database_gone(store: Store) -> None:
    for path in store.root.glob("metadata.db*"):
        path.unlink()


def database_damaged(store: Store) -> None:
    (store.root / "metadata.db").write_bytes(os.urandom(9000))


def database_cut(store: Store) -> None:
    data = (store.root / "metadata.db").read_bytes()
    (store.root / "metadata.db").write_bytes(data[: len(data) // 2])


def rows_gone(store: Store) -> None:
    with sqlite3.connect(store.root / "metadata.db") as connection:
        connection.execute("DELETE FROM layers")
        connection.execute("DELETE FROM images")


def rows_damaged(store: Store) -> None:
    with sqlite3.connect(store.root / "metadata.db") as connection:
        connection.execute("UPDATE layers SET facts = '{'")
        connection.execute("UPDATE images SET record = 'x'")


def files_gone(store: Store) -> None:
    for path in documents(store, "layers") + documents(store, "images"):
        path.unlink()


def files_damaged(store: Store) -> None:
    for path in documents(store, "layers") + documents(store, "images"):
        path.write_bytes(b'{"version": 1, "id": 7}')


def files_empty(store: Store) -> None:
    for path in documents(store, "layers") + documents(store, "images"):
        path.write_bytes(b"")


def configurations_gone(store: Store) -> None:
    for image in store.images.list(all=True):
        store.content.delete(image.id)
        store.content.delete(image.manifest.digest)


def index_gone(store: Store) -> None:
    (store.root / "content/index.json").unlink()


def driver_files_gone(store: Store) -> None:
    for name in store.snapshotter.names():
        store.snapshotter.remove(name)


DAMAGES = [
    database_gone,
    database_damaged,
    database_cut,
    rows_gone,
    rows_damaged,
    files_gone,
    files_damaged,
    files_empty,
    configurations_gone,
    driver_files_gone,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_rebuilt_from_its_twin_with_a_warning(filled: Store, damage: Callable[[Store], None]) -> None:
    before = shape(filled)
    filled.close()
    damage(filled)
    after = Store(filled.root, filled.driver).open()
    assert shape(after) == before
    assert after.warnings != []
    assert len(documents(after, "layers")) == len(documents(after, "images")) == 2
    again = after.again()
    assert shape(again) == before
    assert again.warnings == []
    again.close()


def test_a_lost_index_is_written_anew(filled: Store) -> None:
    filled.close()
    index_gone(filled)
    after = Store(filled.root, filled.driver).open()
    assert len(after.content.names()) == 2
    after.close()


@pytest.mark.parametrize("damage", [files_gone, files_damaged])
def test_a_file_that_goes_while_we_run_is_written_on_first_use(filled: Store, damage: Callable[[Store], None]) -> None:
    damage(filled)
    for name in ("base", "top"):
        image = filled.images.resolve(name)
        for layer in image.layers:
            filled.layers.get(layer)
    assert len(documents(filled, "layers")) == len(documents(filled, "images")) == 2
    assert len(filled.warnings) == 4


def test_an_image_that_cannot_be_read_at_all_is_left_out_with_a_warning(filled: Store) -> None:
    filled.close()
    for damage in (database_gone, configurations_gone):
        damage(filled)
    after = Store(filled.root, filled.driver).open()
    assert after.images.list() == []
    assert "left out" in " ".join(after.warnings)
    after.close()


# -- crashes of the machine


def unmark(root: Path) -> None:
    """As if nothing of this boot had been synced."""
    for directory, _, files in os.walk(root):
        for name in files:
            path = os.path.join(directory, name)
            for mark in ("user.lamina.durable",):
                if not os.path.islink(path) and mark in os.listxattr(path):
                    os.removexattr(path, mark)


def layer_blobs(store: Store) -> list[Path]:
    facts = store.layers.all()
    digests = [each.diff_id for each in facts] + [source.digest for each in facts for source in each.sources]
    places = [store.root / "content/blobs/sha256" / digest.encoded for digest in digests]
    return [path for path in places if path.exists()]


def test_after_a_crash_of_the_machine_layers_are_made_anew_from_what_is_whole(filled: Store) -> None:
    before = shape(filled)
    filled.close()
    unmark(filled.root)
    after = Store(filled.root, filled.driver, "boot-2").open()
    top = after.images.resolve("top").layers[-1]
    with after.layers.union(top) as union:
        assert union.lookup(b"srv/new") is not None
    assert shape(after) == before
    after.close()


def test_after_a_crash_of_the_machine_a_damaged_layer_is_named_and_never_used(filled: Store) -> None:
    filled.close()
    unmark(filled.root)
    for path in layer_blobs(filled):
        path.write_bytes(bytes(path.stat().st_size))
    after = Store(filled.root, filled.driver, "boot-2").open()
    top = after.images.resolve("top").layers[-1]
    with pytest.raises(Corrupt, match=r"damaged|cut"):
        after.layers.lowers(top)
    base = imported(after)
    assert base.layers[0] == after.images.resolve("top").layers[0]
    with after.layers.union(base.layers[0]) as union:
        assert union.lookup(b"etc/hosts") is not None
    after.close()


def test_a_layer_that_was_loaded_again_is_repaired(filled: Store) -> None:
    image = filled.images.resolve("base")
    [facts] = filled.layers.chain(image.layers[0])
    index = filled.snapshotter.index(facts.name)
    os.truncate(index, 600)
    with pytest.raises((LayerDamaged, LayerNotFound), match=facts.name[:12]):
        filled.snapshotter.check(facts.name)
    imported(filled)
    filled.snapshotter.check(facts.name)
    assert "damaged" in filled.warnings[0]


# -- a killed process

VICTIM = """
    import itertools, sys
    from pathlib import Path
    from tests.image.conftest import Store
    from tests.image.tars import imported, child, tar
    store = Store(Path(sys.argv[1]), sys.argv[2]).open()
    print("ready", flush=True)
    archive = Path(sys.argv[1]) / "a.tar"
    for number in itertools.count():
        base = imported(store, f"n{number}", tar({"f": b"%d" % number}))
        print("+", f"n{number}:latest", flush=True)
        child(store, base, f"c{number}", tar({"g": b"%d" % number}))
        print("+", f"c{number}:latest", flush=True)
        with open(archive, "wb") as file:
            store.images.save([f"c{number}"], file.fileno())
        store.images.remove(f"c{number}")
        print("-", f"c{number}:latest", flush=True)
        with open(archive, "rb") as file:
            store.images.load(file)
        print("+", f"c{number}:latest", flush=True)
        store.images.remove(f"n{number}", force=True)
        print("-", f"n{number}:latest", flush=True)
"""


@pytest.mark.parametrize("lines", range(1, 26, 3))
def test_a_kill_at_any_moment_loses_nothing_that_was_reported(store: Store, lines: int) -> None:
    root, driver = store.root, store.driver
    store.close()
    tests = Path(__file__).parents[2]
    victim = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VICTIM), str(root), driver],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
    )  # fmt: skip
    assert victim.stdout is not None
    told: list[str] = []
    for line in victim.stdout:
        told.append(line.strip())
        if len(told) > lines:
            break
    os.kill(victim.pid, signal.SIGKILL)
    told += [line.strip() for line in victim.stdout.read().splitlines()]
    victim.wait()
    present: dict[str, bool] = {}
    for line in told[1:]:
        sign, _, name = line.partition(" ")
        present[name] = sign == "+"
    after = Store(root, driver).open()
    after.images.collect()
    names = {name.familiar for image in after.images.list(all=True) for name in image.names}
    # The operation that was under way may or may not have happened.
    last = told[-1].partition(" ")[2] if len(told) > 1 else ""
    lost = {name for name, there in present.items() if there} - names
    assert lost <= _under_way(last)
    for image in after.images.list(all=True):
        with after.layers.union(image.layers[-1]) as union:
            assert union.listdir(b"")
        for layer in image.layers:
            after.snapshotter.check(after.layers.get(layer).name)
            after.layers.open_tar(after.layers.get(layer).diff_id).close()
    needed = {facts.name for facts in after.layers.all()}
    assert set(after.snapshotter.names()) == needed
    wanted = {layer for image in after.images.list(all=True) for layer in image.layers}
    assert {facts.id for facts in after.layers.all()} == wanted
    assert os.listdir(root / "content/ingest") == []
    shutil.rmtree(root / "content/ingest")
    os.mkdir(root / "content/ingest")
    assert msgspec.json.decode((root / "content/index.json").read_bytes())["schemaVersion"] == 2
    after.close()


def _under_way(last: str) -> set[str]:
    """What the operation after the last report may have removed."""
    number = last[1:].partition(":")[0]
    return {f"c{number}:latest", f"n{number}:latest"}


def test_what_was_removed_is_forgotten_in_time(filled: Store) -> None:
    top = filled.images.resolve("top")
    filled.images.remove("top")
    assert str(top.id) in filled.metadata.removed() and str(top.layers[-1]) in filled.metadata.removed()
    (filled.root / "images" / f"{top.id.encoded}.json").write_text("left by a process that was killed")
    filled.images.tend()
    assert {key for key in filled.metadata.removed() if not key.startswith("name:")} == {str(top.id)}
    after = filled.again()
    after.images.tend()
    assert after.metadata.removed() == set()
    assert [image.names[0].familiar for image in after.images.list()] == ["base:latest"]
    after.close()
