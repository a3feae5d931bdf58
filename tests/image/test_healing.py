"""Random damage: after a repair the store is what it was, or each thing that is lost was named, and comes back from its origin."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lamina.errors import LaminaError
from lamina.image.checking import LOST, Finding

from .conftest import DRIVERS, Store
from .tars import SECOND, child, imported, tar

KINDS = ("bit", "truncate", "remove", "swap", "stray", "row", "rows", "copy", "facts", "folder")


@dataclass(frozen=True)
class Damage:
    """One accident: `kind`, and numbers by which it chooses files, positions and rows. `quiet`: times of modification stay."""

    kind: str
    file: int
    other: int
    at: float
    bit: int
    quiet: bool


def noise(size: int) -> bytes:
    """The same bytes each time, of which none is like another."""
    return hashlib.shake_256(b"noise").digest(size)


DAMAGES = st.lists(
    st.builds(
        Damage,
        st.sampled_from(KINDS),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.floats(0, 0.9999),
        st.integers(0, 7),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module", params=DRIVERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of three images on one base, closed: each example begins with a copy of it."""
    root = tmp_path_factory.mktemp(f"model-{request.param}")
    store = Store(root, request.param).open()
    base = imported(store, data=tar({"etc/passwd": b"root:x:0:0", "bin/sh": noise(9000), "empty": b"", "d": None, "d/e": b"x" * 600}))
    child(store, child(store, base, "middle", SECOND), "top", tar({"opt/tool": noise(5000), ".wh.empty": b""}))
    store.metadata.cache_put("key", {"v": 1}, [base.id])
    assert list(store.images.check()) == []
    store.close()
    (root / "driver.txt").write_text(request.param)
    yield root


ROUNDS = os.environ.get("LAMINA_TORTURE_ROUNDS", "")


@settings(
    max_examples=int(ROUNDS or "25"),
    derandomize=not ROUNDS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(damages=DAMAGES)
def test_what_was_damaged_is_mended_or_named(model: Path, damages: list[Damage]) -> None:
    driver = (model / "driver.txt").read_text()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(model, root, symlinks=True, copy_function=copied)
        (root / "driver.txt").unlink()
        before = contents(model, driver, Path(folder) / "before")
        for damage in damages:
            perform(damage, root)
        store = Store(root, driver).open()
        try:
            first = [finding.line for finding in store.images.check(repair=True)]
            left = left_of(store)
            assert all(finding.state == LOST for finding in left), "\n".join([*first, "--", *(finding.line for finding in left)])
            compare(before, shown(store), left, store)
            reload(store, Path(folder) / "before", driver)
            assert [finding.line for finding in store.images.check(repair=True) if finding.state == LOST] == []
            assert list(store.images.check()) == []
            assert tars(shown(store)) == tars(before)
        finally:
            store.close()


@settings(
    max_examples=int(ROUNDS or "15"),
    derandomize=not ROUNDS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(damages=DAMAGES)
def test_what_is_damaged_while_the_store_is_open_is_mended_or_named(model: Path, damages: list[Damage]) -> None:
    driver = (model / "driver.txt").read_text()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(model, root, symlinks=True, copy_function=copied)
        (root / "driver.txt").unlink()
        before = contents(model, driver, Path(folder) / "before")
        store = Store(root, driver).open()
        try:
            for damage in damages:
                perform(damage, root, open=True)
            first = [finding.line for finding in store.images.check(repair=True)]
            left = left_of(store)
            assert all(finding.state == LOST for finding in left), "\n".join([*first, "--", *(finding.line for finding in left)])
            reload(store, Path(folder) / "before", driver)
            assert [finding.line for finding in store.images.check(repair=True) if finding.state == LOST] == []
            assert list(store.images.check()) == []
            assert tars(shown(store)) == tars(before)
        finally:
            store.close()


def test_a_directory_in_the_place_of_any_file_is_mended_or_named(model: Path, tmp_path: Path) -> None:
    driver = (model / "driver.txt").read_text()
    files = sorted(
        path.relative_to(model) for room in ("content", "images", "layers") for path in (model / room).rglob("*") if path.is_file()
    )
    before = contents(model, driver, tmp_path / "before")
    for file in files:
        root = tmp_path / "root"
        shutil.copytree(model, root, symlinks=True, copy_function=copied)
        replaced(root / file)
        store = Store(root, driver).open()
        try:
            list(store.images.check(repair=True))
            left = left_of(store)
            assert all(finding.state == LOST for finding in left), f"{file}: {left}"
            compare(before, shown(store), left, store)
        finally:
            store.close()
            shutil.rmtree(root)


def test_an_image_whose_manifest_and_row_are_lost_takes_the_manifest_of_an_archive(store: Store, tmp_path: Path) -> None:
    image = child(store, imported(store), "top", SECOND)
    with open(tmp_path / "all.tar", "w+b") as archive:
        store.images.save(["top"], archive.fileno())
        store.content.delete(image.manifest.digest)
        with store.metadata.transaction() as change:
            change.execute("DELETE FROM images WHERE id = ?", str(image.id))
        assert [finding.state for finding in store.images.check()] == [LOST, LOST]
        assert {finding.state for finding in store.images.check(repair=True)} == {LOST}
        archive.seek(0)
        store.images.load(archive.fileno())
    assert LOST not in {finding.state for finding in store.images.check(repair=True)}
    assert list(store.images.check()) == []
    assert store.content.read(store.images.resolve("top").manifest.digest)


def copied(source: str, target: str) -> str:
    """A file with everything the store looks at."""
    if os.path.isfile(source) and not os.path.islink(source):
        shutil.copyfile(source, target)
    else:
        os.mknod(target, os.lstat(source).st_mode, os.lstat(source).st_rdev)
    os.chown(target, os.lstat(source).st_uid, os.lstat(source).st_gid)
    shutil.copystat(source, target, follow_symlinks=False)
    return target


def contents(model: Path, driver: str, folder: Path) -> dict[str, object]:
    """What the model shows; `folder` is left with archives to load from again."""
    folder.mkdir()
    root = folder / "root"
    shutil.copytree(model, root, symlinks=True, copy_function=copied)
    (root / "driver.txt").unlink()
    store = Store(root, driver).open()
    try:
        with open(folder / "all.tar", "wb") as archive:
            store.images.save(["base", "middle", "top"], archive.fileno())
        return shown(store)
    finally:
        store.close()


def left_of(store: Store) -> list[Finding]:
    """What a repair leaves. Strays stay where something is lost, whose remains they may be."""
    found = list(store.images.check())
    return [each for each in found if each.what != "stray"] or found


def shown(store: Store) -> dict[str, object]:
    """Names, and of each layer that can be read what it is and holds."""
    layers: dict[str, object] = {}
    for facts in store.layers.all():
        try:
            store.layers.verify(facts.id)
            with closing(store.layers.open_tar(facts.diff_id)) as file:
                layers[str(facts.id)] = (facts.parent, facts.created_by, facts.entries, facts.tar_size, file.read())
        except LaminaError as error:
            layers[str(facts.id)] = error.code
    names = {name.familiar: str(image.id) for image in store.images.list(all=True) for name in image.names}
    return {"names": names, "layers": layers, "configs": {str(image.id): image.config_bytes for image in store.images.list(all=True)}}


def tars(contents: dict[str, object]) -> dict[str, bytes]:
    """The bytes of each layer: what a load tells of a layer besides may be less than what was known."""
    layers = contents["layers"]
    assert isinstance(layers, dict)
    return {key: value[-1] for key, value in layers.items()}


def compare(before: dict[str, object], after: dict[str, object], left: list[Finding], store: Store) -> None:
    """Everything is as before, but for what was named."""
    told = " ".join([*(finding.line for finding in left), *store.warnings])
    for what in ("names", "layers", "configs"):
        was, now = before[what], after[what]
        assert isinstance(was, dict)
        assert isinstance(now, dict)
        for key in now.keys() - was.keys():
            raise AssertionError(f"{what} gained {key}")
        for key, value in was.items():
            if now.get(key) != value:
                known = (key, key.removesuffix(":latest"))
                assert any(word in told for word in known) or not now.get(key), f"{what} {key} changed without a word: {told}"


def reload(store: Store, folder: Path, driver: str) -> None:
    """What a pull would bring: the same images from elsewhere."""
    with open(folder / "all.tar", "rb") as archive:
        store.images.load(archive.fileno())


def perform(damage: Damage, root: Path, *, open: bool = False) -> None:
    """`open`: the store is in use; what SQLite maps into memory is left alone then, since cutting that ends the process."""
    database = root / "metadata.db"
    if damage.kind in ("row", "rows"):
        rows(damage, database)
        return
    if damage.kind == "facts":
        facts(damage, root)
        return
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and path.name not in ("version", "lock"))
    if open:
        files = [path for path in files if not path.name.endswith(("-shm", "-wal"))]
    if not files:
        return
    path, other = files[damage.file % len(files)], files[damage.other % len(files)]
    status = path.stat()
    if damage.kind == "bit" and status.st_size:
        data = bytearray(path.read_bytes())
        data[int(damage.at * len(data))] ^= 1 << damage.bit
        path.write_bytes(data)
    elif damage.kind == "truncate":
        os.truncate(path, int(damage.at * status.st_size))
    elif damage.kind == "remove":
        path.unlink()
        return
    elif damage.kind == "folder":
        replaced(path)
        return
    elif damage.kind == "swap" and path != other:
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)
    elif damage.kind == "stray":
        (path.parent / f"stray{damage.other}").write_bytes(b"stray")
    elif damage.kind == "copy":
        (path.parent / f"{path.stem}.copy{path.suffix}").write_bytes(path.read_bytes())
    if damage.quiet:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    """A directory with something in it in the place of a file."""
    path.unlink()
    path.mkdir()
    (path / "within").write_bytes(b"stray")


def facts(damage: Damage, root: Path) -> None:
    """Both copies of what is known of one layer."""
    found = sorted((root / "layers").glob("*.json"))
    if found:
        path = found[damage.file % len(found)]
        path.unlink()
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(root / "metadata.db")) as connection, connection:
            connection.execute("DELETE FROM layers WHERE id = ?", (f"sha256:{path.stem}",))


def rows(damage: Damage, database: Path) -> None:
    table = ("layers", "images", "names", "build_cache")[damage.file % 4]
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            if damage.kind == "rows":
                connection.execute(f"DELETE FROM {table}")
                return
            found = connection.execute(f"SELECT * FROM {table}").fetchall()
            if not found:
                return
            key = found[damage.other % len(found)][0]
            column = [each[0] for each in connection.execute(f"SELECT * FROM {table}").description]
            connection.execute(f"DELETE FROM {table} WHERE {column[0]} = ?", (key,))
    except sqlite3.DatabaseError:
        pass  # An accident before this one hit the database.
