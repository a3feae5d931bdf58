"""save and load: what comes back, what others load, and what must not be loaded."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.errors import LaminaError
from lamina.image.model import ImageNotFound
from lamina.layer.errors import LayerDamaged
from lamina.spec import config as configs
from lamina.spec import manifest as manifests
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RootFS
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

from .conftest import Store
from .tars import BASE, SECOND, child, imported, tar


def saved(store: Store, *names: str, form: str = "docker", platform: Platform | None = None) -> bytes:
    reader, writer = os.pipe()
    out = io.BytesIO()

    def drain() -> None:
        while data := os.read(reader, 1 << 16):
            out.write(data)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        store.images.save(list(names), writer, form=form, platform=platform)
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)
    return out.getvalue()


def test_an_image_that_is_removed_while_it_is_saved_is_no_failure_of_the_save(store: Store) -> None:
    imported(store, "going")
    imported(store, "staying")
    names = ["going", "staying", "absent:1"]
    with tempfile.TemporaryFile() as file:
        store.images.saving(names[:2]).write(file.fileno())
    store.images.remove("going")
    store.images.saved(names)


def emptied(store: Store) -> None:
    # Children before parents.
    for image in sorted(store.images.list(all=True), key=lambda image: -len(image.layers)):
        if image in store.images.list(all=True):
            store.images.remove(str(image.id), force=True, prune=False)
    assert store.images.list(all=True) == []
    assert os.listdir(store.root / "content/blobs/sha256") == []


def through_pipe(store: Store, data: bytes) -> list[Any]:
    reader, writer = os.pipe()

    def feed() -> None:
        with open(writer, "wb") as file:
            try:
                file.write(data)
            except BrokenPipeError:
                pass

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        return store.images.load(reader)
    finally:
        os.close(reader)
        thread.join()


def through_file(store: Store, data: bytes) -> list[Any]:
    path = store.root / "archive.tar"
    path.write_bytes(data)
    try:
        with open(path, "rb") as file:
            return store.images.load(file)
    finally:
        path.unlink()


def through_memory(store: Store, data: bytes) -> list[Any]:
    return store.images.load(io.BytesIO(data))


WAYS: list[Callable[[Store, bytes], list[Any]]] = [through_pipe, through_file, through_memory]


@pytest.mark.parametrize("load", WAYS)
def test_an_archive_may_end_with_the_last_byte_of_its_last_member(any_store: Store, load: Callable[[Store, bytes], list[Any]]) -> None:
    data = docker_archive(config_of(BASE), {"a.tar": BASE}).rstrip(b"\0")
    assert len(data) % 512
    [image] = load(any_store, data)
    assert image.id == Digest.of(config_of(BASE))


@pytest.mark.parametrize("load", WAYS)
def test_what_is_saved_is_loaded_again(store: Store, load: Callable[[Store, bytes], list[Any]]) -> None:
    base = imported(store)
    top = child(store, base, "top:2", SECOND)
    store.images.tag("top:2", Reference.parse("registry.example:5000/other/name:x"))
    data = saved(store, "top:2", "registry.example:5000/other/name:x", "base")
    emptied(store)
    images = load(store, data)
    assert [image.id for image in images] == [top.id, base.id]
    assert [name.familiar for name in images[0].names] == ["top:2", "registry.example:5000/other/name:x"]
    assert images[0].config_bytes == top.config_bytes
    assert saved(store, "top:2", "registry.example:5000/other/name:x", "base") == data
    assert os.listdir(store.root / "content/ingest") == []
    again = load(store, data)
    assert [image.id for image in again] == [top.id, base.id]


@pytest.mark.parametrize("load", WAYS)
def test_a_compressed_archive_is_loaded(any_store: Store, load: Callable[[Store, bytes], list[Any]]) -> None:
    image = imported(any_store)
    data = gzip.compress(saved(any_store, "base"))
    emptied(any_store)
    assert [each.id for each in load(any_store, data)] == [image.id]


def test_the_size_of_an_archive_is_known_before(store: Store) -> None:
    imported(store)
    assert store.images.saving(["base"]).size == len(saved(store, "base"))


@pytest.mark.parametrize("store", ["overlay"], indirect=True)
def test_a_layer_whose_tree_is_not_what_it_was_is_never_saved_whole_and_made_anew_for_the_next(store: Store) -> None:
    base = imported(store)
    whole = saved(store, "base")
    [facts] = store.layers.chain(base.layers[0])
    path = Path(store.snapshotter.tree(facts.name) or "", "etc/hosts")
    path.write_bytes(b"127.0.0.2" + path.read_bytes()[9:])
    reader, writer = os.pipe()
    with pytest.raises(LayerDamaged, match="damaged layer"):
        store.images.save(["base"], writer)
    os.close(writer)
    with open(reader, "rb") as file:
        assert len(file.read()) < len(whole)
    assert saved(store, "base") == whole
    assert path.read_bytes().startswith(b"127.0.0.1")


def test_a_repository_is_saved_with_all_its_tags(any_store: Store) -> None:
    imported(any_store, "r:1")
    imported(any_store, "r:2", changes=["ENV a=b"])
    with tarfile.open(fileobj=io.BytesIO(saved(any_store, "r"))) as archive:
        rows = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert sorted(row["RepoTags"][0] for row in rows) == ["r:1", "r:2"]
    for absent in ("absent", "r:3"):
        with pytest.raises(ImageNotFound, match=absent):
            any_store.images.saving(["r:1", absent])


def test_an_id_is_saved_without_names(any_store: Store) -> None:
    image = imported(any_store)
    data = saved(any_store, image.id.short)
    emptied(any_store)
    sunk: list[str] = []
    [loaded] = any_store.images.load(io.BytesIO(data), lambda update: sunk.append(update.stream))
    assert loaded.names == ()
    assert sunk[-1] == f"Loaded image ID: {image.id}\n"


def test_names_of_a_loaded_archive_move(any_store: Store) -> None:
    imported(any_store)
    data = saved(any_store, "base")
    old = imported(any_store, changes=["ENV newer=1"])
    sunk: list[str] = []
    any_store.images.load(io.BytesIO(data), lambda update: sunk.append(update.stream))
    assert any(f"renaming the old one with ID {old.id}" in text for text in sunk)
    assert any_store.images.get(old.id).names == ()


# -- other writers' archives


def archive(members: dict[str, bytes], **links: str) -> bytes:
    return tar(dict(members), **links)


def config_of(*layers: bytes) -> bytes:
    rootfs = RootFS(diff_ids=tuple(str(Digest.of(layer)) for layer in layers))
    return configs.encode(ImageConfig(architecture="amd64", os="linux", rootfs=rootfs))


def docker_archive(config: bytes, layers: dict[str, bytes], *, names: list[str] | None = None, first: bool = False) -> bytes:
    manifest = {"manifest.json": json.dumps([{"Config": "c.json", "RepoTags": names, "Layers": list(layers)}]).encode()}
    rest = {"c.json": config, **layers}
    return archive({**manifest, **rest} if first else {**rest, **manifest})


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("first", [True, False])
def test_layers_may_be_compressed_and_repeated(any_store: Store, load: Callable[[Store, bytes], list[Any]], first: bool) -> None:
    layers = {"a.tar": gzip.compress(BASE), "b.tar": SECOND, "c/layer.tar": BASE}
    data = docker_archive(config_of(BASE, SECOND, BASE), layers, names=["x:1"], first=first)
    [image] = load(any_store, data)
    assert len(image.layers) == 3
    assert b"".join(any_store.images.cat("x:1", "/etc/hosts")[1]) == b"127.0.0.1 localhost\n"


def layout(config: bytes, layers: list[bytes], kinds: list[str], name: str, kind: str = mediatype.OCI_CONFIG) -> dict[str, bytes]:
    rows = [Descriptor(kinds[n], Digest.of(layer), len(layer)) for n, layer in enumerate(layers)]
    made = manifests.new_manifest(Descriptor(kind, Digest.of(config), len(config)), rows)
    named = Descriptor(made.media_type, Digest.of(made.raw), len(made.raw), annotations=((REF, name),))
    files = {f"blobs/sha256/{Digest.of(data).encoded}": data for data in (config, *layers, made.raw)}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": manifests.new_index([named]).raw, **files}


REF = "org.opencontainers.image.ref.name"


@pytest.mark.parametrize("load", WAYS)
def test_an_oci_layout_is_loaded(any_store: Store, load: Callable[[Store, bytes], list[Any]]) -> None:
    files = layout(
        config_of(BASE, SECOND), [gzip.compress(BASE), SECOND], [mediatype.OCI_LAYER_GZIP, mediatype.OCI_LAYER], "example.org/x:1"
    )
    [image] = load(any_store, archive(files))
    assert [name.familiar for name in image.names] == ["example.org/x:1"]
    assert len(image.layers) == 2


def test_a_blob_of_a_layout_must_have_its_digest(any_store: Store) -> None:
    files = layout(config_of(BASE), [BASE], [mediatype.OCI_LAYER], "x:1")
    config = f"blobs/sha256/{Digest.of(config_of(BASE)).encoded}"
    with pytest.raises(LaminaError, match="digest"):
        through_file(any_store, archive({**files, config: config_of(SECOND)}))


# -- hostile archives


HOSTILE = {
    "no archive": b"hello" * 200,
    "empty": b"",
    "no manifest": archive({"x": b"y"}),
    "manifest is no list": archive({"manifest.json": b"{}"}),
    "manifest is no JSON": archive({"manifest.json": b"["}),
    "deep JSON": archive({"manifest.json": b"[" * 100_000}),
    "row is no object": archive({"manifest.json": b"[1]"}),
    "config missing": archive({"manifest.json": b'[{"Config":"c.json","Layers":[]}]'}),
    "config is no text": archive({"manifest.json": b'[{"Config":1,"Layers":[]}]'}),
    "config malformed": docker_archive(b"[]", {}),
    "layers malformed": archive({"manifest.json": b'[{"Config":"c.json","Layers":[1]}]', "c.json": config_of()}),
    "layer missing": archive({"manifest.json": b'[{"Config":"c.json","Layers":["a.tar"]}]', "c.json": config_of(BASE)}),
    "fewer layers": docker_archive(config_of(BASE, SECOND), {"a.tar": BASE}),
    "other layer": docker_archive(config_of(BASE), {"a.tar": SECOND}),
    "layer is no tar": docker_archive(config_of(b"x" * 5000), {"a.tar": b"x" * 5000}),
    "escaping layer": docker_archive(config_of(tar({"../x": b"y"})), {"a.tar": tar({"../x": b"y"})}),
    "name malformed": docker_archive(config_of(BASE), {"a.tar": BASE}, names=["UPPER/../x"]),
    "name by digest": docker_archive(config_of(BASE), {"a.tar": BASE}, names=["x@sha256:" + "a" * 64]),
    "loop of links": archive({"manifest.json": b'[{"Config":"c.json","Layers":["l"]}]', "c.json": config_of(BASE)}, l="m", m="l"),
    "link to outside": archive({"manifest.json": b'[{"Config":"l","Layers":[]}]'}, l="../../../etc/passwd"),
    "truncated": docker_archive(config_of(BASE), {"a.tar": BASE})[:6000],
    "truncated header": docker_archive(config_of(BASE), {"a.tar": BASE})[:1300],
    "cut gzip": gzip.compress(docker_archive(config_of(BASE), {"a.tar": BASE}))[:-200],
    "damaged gzip": gzip.compress(docker_archive(config_of(BASE), {"a.tar": BASE}))[:60] + b"\xff" * 200,
    "second image bad": archive({
        "manifest.json": b'[{"Config":"c.json","Layers":["a.tar"],"RepoTags":["good:1"]},{"Config":"d.json","Layers":["a.tar"]}]',
        "c.json": config_of(BASE), "d.json": config_of(SECOND), "a.tar": BASE,
    }),
}  # fmt: skip


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(any_store: Store, name: str, load: Callable[[Store, bytes], list[Any]]) -> None:
    with pytest.raises(LaminaError) as refusal:
        load(any_store, HOSTILE[name])
    assert refusal.value.code in ("invalid_argument", "corrupt", "exhausted")
    assert "\n" not in refusal.value.message
    assert any_store.images.list(all=True) == []
    assert any_store.layers.all() == ()
    assert os.listdir(any_store.root / "content/blobs/sha256") == []
    assert os.listdir(any_store.root / "content/ingest") == []


def test_a_header_that_claims_an_absurd_size_is_refused(any_store: Store) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.size = 1 << 60
    for load in WAYS:
        with pytest.raises(LaminaError):
            load(any_store, info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


GOOD = docker_archive(config_of(BASE), {"a.tar": BASE}, names=["x:1"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=20), st.sampled_from(WAYS))
def test_any_damage_is_accepted_or_refused(any_store: Store, at: int, patch: bytes, load: Callable[[Store, bytes], list[Any]]) -> None:
    try:
        load(any_store, GOOD[:at] + patch + GOOD[at + len(patch) :])
    except LaminaError as error:
        assert error.code in ("invalid_argument", "corrupt", "exhausted", "unsupported")
    assert os.listdir(any_store.root / "content/ingest") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.integers(0, len(GOOD) - 1), st.sampled_from(WAYS))
def test_any_cut_is_accepted_or_refused(any_store: Store, at: int, load: Callable[[Store, bytes], list[Any]]) -> None:
    try:
        load(any_store, GOOD[:at])
    except LaminaError as error:
        assert error.code in ("invalid_argument", "corrupt", "exhausted")


# -- peers


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_and_writes_what_we_do(store: Store, tmp_path: Path) -> None:
    base = imported(store)
    top = child(store, base, "top", SECOND)
    ours, theirs, oci = (tmp_path / name for name in ("ours.tar", "theirs.tar", "oci.tar"))
    ours.write_bytes(saved(store, "top"))
    inspected = json.loads(run("skopeo", "inspect", "--config", "--raw", f"docker-archive:{ours}"))
    assert inspected["rootfs"]["diff_ids"] == list(top.config.rootfs.diff_ids)
    run("skopeo", "--insecure-policy", "copy", f"docker-archive:{ours}", f"docker-archive:{theirs}:top:latest")
    run("skopeo", "--insecure-policy", "copy", f"docker-archive:{ours}", f"oci-archive:{oci}:example.org/top:1")
    emptied(store)
    for path in (theirs, oci):
        for load in WAYS:
            [image] = load(store, path.read_bytes())
            assert image.layers == top.layers
            if path is theirs:
                assert image.id == top.id
            emptied(store)


@pytest.mark.peer
@pytest.mark.root
@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
def test_podman_loads_what_we_save_with_the_same_id(any_store: Store, tmp_path: Path) -> None:
    top = child(any_store, imported(any_store), "top", SECOND)
    path = tmp_path / "ours.tar"
    path.write_bytes(saved(any_store, "top"))
    # podman refuses a runroot of more than 50 characters.
    short = tempfile.TemporaryDirectory(dir="/tmp", prefix="p")
    podman = ["podman", "--root", f"{short.name}/root", "--runroot", f"{short.name}/run", "--storage-driver", "vfs"]
    run(*podman, "load", "-i", str(path))
    assert run(*podman, "images", "-q", "--no-trunc").split() == [str(top.id)]
    theirs = tmp_path / "theirs.tar"
    run(*podman, "save", "-o", str(theirs), "docker.io/library/top:latest")
    emptied(any_store)
    [image] = through_file(any_store, theirs.read_bytes())
    assert image.id == top.id
