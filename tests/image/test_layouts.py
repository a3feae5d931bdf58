"""The three layouts of archives, images of several platforms in them, and what each loader finds."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from lamina.errors import InvalidArgument, LaminaError
from lamina.image.lookup import PlatformNotHere
from lamina.image.model import ImageInUse, InvalidArchive, Removed
from lamina.spec import config as configs
from lamina.spec import manifest as manifests
from lamina.spec import mediatype
from lamina.spec.config import ContainerConfig, History, ImageConfig, RootFS
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Manifest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

from .conftest import Store
from .tars import BASE, SECOND, child, imported, tar
from .test_archive import WAYS, archive, emptied, saved

ARM = Platform("linux", "arm64")
FORMS = ("docker", "oci", "v1")


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar_:
        return {member.name: tar_.extractfile(member).read() for member in tar_ if member.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("form", FORMS)
def test_each_layout_is_the_same_twice_and_comes_back(store: Store, form: str) -> None:
    top = child(store, imported(store), "team/top:2", SECOND)
    data = saved(store, "team/top:2", "base", form=form)
    assert saved(store, "team/top:2", "base", form=form) == data
    assert store.images.saving(["team/top:2", "base"], form=form).size == len(data)
    emptied(store)
    for load in WAYS:
        first, second = load(store, data)
        assert {name.familiar for image in (first, second) for name in image.names} == {"team/top:2", "base:latest"}
        again = store.images.resolve("team/top:2")
        assert again.config.rootfs == top.config.rootfs
        assert again.config.config == top.config.config
        if form != "v1":
            assert again.id == top.id
        emptied(store)


def test_the_default_is_an_oci_layout_and_a_docker_archive_at_once(store: Store) -> None:
    image = child(store, imported(store), "top", SECOND)
    found = members(saved(store, "top"))
    [row] = json.loads(found["manifest.json"])
    assert Digest.of(found[row["Config"]]) == image.id
    assert [str(Digest.of(found[path])) for path in row["Layers"]] == list(image.config.rootfs.diff_ids)
    assert row["RepoTags"] == ["top:latest"]
    assert json.loads(found["repositories"]) == {"top": {"latest": image.layers[-1].encoded}}
    index = manifests.parse_index(found["index.json"])
    assert dict(index.manifests[0].annotations) == {
        "io.containerd.image.name": "docker.io/library/top:latest", "org.opencontainers.image.ref.name": "latest"
    }  # fmt: skip
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert "manifest.json" not in members(saved(store, "top", form="oci"))
    for path, data in found.items():
        if path.startswith("blobs/"):
            assert Digest.of(data).encoded == path.rpartition("/")[2]


def v7(data: bytes) -> bytes:
    """A tar whose first header is as in 1979: without a magic."""
    header = bytearray(data[:512])
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("layer", [v7(tar({"a": b"1"})), b""], ids=["without magic", "empty"])
def test_a_layer_is_known_as_one_in_an_archive_by_whatever_kind_of_tar_it_is(store: Store, load: object, layer: bytes) -> None:
    image = imported(store, "old:1", BASE)
    top = child(store, image, "top:1", layer)
    data = saved(store, "top:1")
    emptied(store)
    assert load(store, data)[0].id == top.id  # type: ignore[operator]


def test_the_old_layout_has_a_folder_a_layer(store: Store) -> None:
    base = imported(store, changes=["ENV A=b", 'CMD ["sh"]'])
    child(store, base, "top", SECOND)
    data = saved(store, "base", "top", form="v1")
    found = members(data)
    assert "manifest.json" not in found and "index.json" not in found
    repositories = json.loads(found["repositories"])
    top = json.loads(found[f"{repositories['top']['latest']}/json"])
    parent = json.loads(found[f"{top['parent']}/json"])
    assert "parent" not in parent
    assert found[f"{top['id']}/VERSION"] == b"1.0"
    assert found[f"{top['id']}/layer.tar"] == SECOND
    assert top["container_config"]["Cmd"] == ["RUN top"]
    assert (top["config"]["Hostname"], top["config"]["NetworkDisabled"], top["config"]["Env"]) == ("", False, ["A=b"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar_:
        links = {member.name: member.linkname for member in tar_ if member.issym()}
    assert [target.partition("/")[2].partition("/")[0] for target in links.values()] == [repositories["base"]["latest"]]


def test_an_image_without_layers_has_no_old_layout(any_store: Store) -> None:
    any_store.images.create(configs.encode(ImageConfig("amd64", "linux", RootFS())), [], names=[Reference.parse("empty:1")])
    with pytest.raises(InvalidArgument, match="has no layers"):
        any_store.images.saving(["empty:1"], form="v1")
    [loaded] = any_store.images.load(io.BytesIO(saved(any_store, "empty:1")))
    assert loaded.layers == ()


def test_an_unknown_format_is_one_sentence(any_store: Store) -> None:
    imported(any_store)
    with pytest.raises(InvalidArgument, match="unknown archive format"):
        any_store.images.saving(["base"], form="zip")


# -- real old chains


def old_chain(*, manifest: bool = False) -> dict[str, bytes]:
    """What `docker save` of 2014 wrote: a chain with a container's configuration in each link."""
    identities = ["1" * 64, "2" * 64, "3" * 64]
    tars = [BASE, tar({}), SECOND]
    container = {"Hostname": "8a1f5b0c2d3e", "Domainname": "", "User": "", "Memory": 0, "MemorySwap": 0, "CpuShares": 0, "AttachStdin": False,
                 "PortSpecs": None, "ExposedPorts": {"80/tcp": {}}, "Tty": False, "Env": ["HOME=/", "PATH=/bin"], "Image": "", "Volumes": None,
                 "WorkingDir": "/srv", "Entrypoint": None, "NetworkDisabled": False, "OnBuild": []}  # fmt: skip
    files: dict[str, bytes] = {}
    for number, (identity, layer) in enumerate(zip(identities, tars, strict=True)):
        document = {
            "id": identity,
            **({"parent": identities[number - 1]} if number else {}),
            "created": f"2014-06-0{number + 1}T10:00:00.123456789Z",
            "container": "c" * 64,
            "container_config": {**container, "Cmd": ["/bin/sh", "-c", f"#(nop) step {number} <&>"]},
            "docker_version": "1.0.0",
            "author": "Somebody <some@body>",
            "config": {**container, "Cmd": ["/bin/sh"]},
            "architecture": "amd64",
            "os": "linux",
            "Size": len(layer),
        }
        files |= {f"{identity}/VERSION": b"1.0", f"{identity}/json": json.dumps(document).encode(), f"{identity}/layer.tar": layer}
    return {**files, "repositories": json.dumps({"old/app": {"1.0": identities[2], "base": identities[0]}}).encode()}


@pytest.mark.parametrize("load", WAYS)
def test_a_chain_of_2014_is_loaded(store: Store, load: object) -> None:
    app, base = load(store, archive(old_chain()))  # type: ignore[operator]
    assert {name.familiar for name in app.names} | {name.familiar for name in base.names} == {"old/app:1.0", "old/app:base"}
    app = store.images.resolve("old/app:1.0")
    assert app.config.config.env == ("HOME=/", "PATH=/bin")
    assert (app.config.config.hostname, app.config.config.working_dir, app.config.config.cmd) == ("8a1f5b0c2d3e", "/srv", ("/bin/sh",))
    assert [step.created_by for step in app.config.history] == [f"/bin/sh -c #(nop) step {number} <&>" for number in range(3)]
    assert app.config.rootfs.diff_ids == tuple(str(Digest.of(data)) for data in (BASE, tar({}), SECOND))
    assert b"".join(store.images.cat("old/app:1.0", "/etc/hosts")[1]) == b"changed\n"
    assert store.images.resolve("old/app:base").layers == app.layers[:1]


def test_an_old_archive_without_names_gives_the_tops(any_store: Store) -> None:
    files = old_chain()
    del files["repositories"]
    [image] = any_store.images.load(io.BytesIO(archive(files)))
    assert (image.names, len(image.layers)) == ((), 3)


@pytest.mark.parametrize("load", WAYS)
def test_an_unnamed_image_comes_back_beside_a_named_one_in_the_old_layout(store: Store, load: object) -> None:
    base = imported(store)
    unnamed = child(store, base, "gone:1", tar({"unnamed": b"u"}), parent=False)
    child(store, base, "named:1", SECOND, parent=False)
    child(store, base, "gone:1", tar({"instead": b"i"}), parent=False)  # takes the name
    data = saved(store, "named:1", str(unnamed.id), form="v1")
    emptied(store)
    found = load(store, data)  # type: ignore[operator]
    assert sorted((tuple(name.familiar for name in image.names), image.layers) for image in found) == [
        ((), unnamed.layers),
        (("named:1",), store.images.resolve("named:1").layers),
    ]


@pytest.mark.parametrize("load", WAYS)
def test_old_layers_in_a_circle_are_told_as_such_without_names_too(any_store: Store, load: object) -> None:
    files = {**old_chain(), **OLD_DAMAGE["circle"]}
    del files["repositories"]
    with pytest.raises(InvalidArchive, match="go round in a circle"):
        load(any_store, archive(files))  # type: ignore[operator]
    with pytest.raises(InvalidArchive, match="go round in a circle"):
        any_store.images.outline(io.BytesIO(archive(files)))


def test_layers_of_the_old_layout_may_be_links_to_others(any_store: Store) -> None:
    files = old_chain()
    del files[f"{'3' * 64}/layer.tar"]
    [app, _] = any_store.images.load(io.BytesIO(archive(files, **{f"{'3' * 64}/layer.tar": f"../{'1' * 64}/layer.tar"})))
    assert app.config.rootfs.diff_ids[2] == app.config.rootfs.diff_ids[0]


OLD_DAMAGE = {
    "circle": {f"{'1' * 64}/json": json.dumps({"id": "1" * 64, "parent": "3" * 64}).encode()},
    "no parent": {f"{'1' * 64}/json": b'{"id": "' + b"1" * 64 + b'", "parent": "' + b"9" * 64 + b'"}'},
    "other id": {f"{'1' * 64}/json": b'{"id": "' + b"4" * 64 + b'"}'},
    "no JSON": {f"{'1' * 64}/json": b"{"},
    "other version": {f"{'1' * 64}/VERSION": b"2.0"},
    "malformed repositories": {"repositories": b"[]"},
    "malformed tags": {"repositories": b'{"x": 1}'},
    "repositories name nothing": {"repositories": b'{"x": {"1": "abc"}}'},
    "escaping repository": {"repositories": b'{"../x": {"1": "' + b"3" * 64 + b'"}}'},
    "command is a number": {f"{'1' * 64}/json": b'{"id": "' + b"1" * 64 + b'", "container_config": {"Cmd": 5}}'},
    "config is a list": {f"{'3' * 64}/json": b'{"id": "' + b"3" * 64 + b'", "parent": "' + b"2" * 64 + b'", "config": []}'},
}


@pytest.mark.parametrize("load", WAYS)
@pytest.mark.parametrize("damage", OLD_DAMAGE)
def test_a_damaged_old_archive_is_refused_and_leaves_nothing(any_store: Store, damage: str, load: object) -> None:
    with pytest.raises(LaminaError) as refusal:
        load(any_store, archive({**old_chain(), **OLD_DAMAGE[damage]}))  # type: ignore[operator]
    assert refusal.value.code == "invalid_argument"
    assert any_store.layers.all() == ()
    assert os.listdir(any_store.root / "content/blobs/sha256") == []


# -- directories


def unpacked(data: bytes, directory: Path) -> Path:
    for name, content in members(data).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize("form", FORMS)
def test_a_directory_is_loaded_as_its_tar(store: Store, form: str, tmp_path: Path) -> None:
    top = child(store, imported(store, "other"), "top", SECOND)
    directory = unpacked(saved(store, "top", form=form), tmp_path / "layout")
    emptied(store)
    [image] = store.images.load(directory)
    assert image.config.rootfs == top.config.rootfs
    assert form == "v1" or image.id == top.id


def test_links_in_a_directory_do_not_lead_out_of_it(any_store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    directory = tmp_path / "layout"
    directory.mkdir()
    (directory / "index.json").symlink_to(secret)
    (directory / "manifest.json").symlink_to("/etc/passwd")
    with pytest.raises(LaminaError):
        any_store.images.load(directory)
    os.unlink(directory / "index.json")
    os.mkfifo(directory / "index.json")
    with pytest.raises(LaminaError):
        any_store.images.load(directory)


# -- several platforms


def zipped(data: bytes) -> bytes:
    """The same bytes each time: gzip notes the second otherwise."""
    return gzip.compress(data, mtime=0)


def platform_image(architecture: str, layer: bytes, compress: object = zipped) -> tuple[Manifest, dict[str, bytes]]:
    """An image for one platform: its manifest, and its blobs by name."""
    config = configs.encode(
        ImageConfig(architecture, "linux", RootFS(diff_ids=(str(Digest.of(layer)),)), ContainerConfig(cmd=(architecture,)),
                    created="2024-01-01T00:00:00Z", history=(History(created_by=f"ADD {architecture}"),))
    )  # fmt: skip
    data = compress(layer)  # type: ignore[operator]
    kind = mediatype.OCI_LAYER_GZIP if data != layer else mediatype.OCI_LAYER
    made = manifests.new_manifest(
        Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config)), [Descriptor(kind, Digest.of(data), len(data))]
    )
    return made, {blob(each): each for each in (config, data, made.raw)}


def blob(data: bytes) -> str:
    return f"blobs/sha256/{Digest.of(data).encoded}"


def attestation(of: Manifest, kind: str = "application/vnd.oci.empty.v1+json") -> tuple[Descriptor, dict[str, bytes]]:
    """What BuildKit puts beside an image: a manifest with a statement for a layer."""
    config, statement = b'{"architecture":"unknown","os":"unknown"}', b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    made = manifests.new_manifest(
        Descriptor(kind, Digest.of(config), len(config)),
        [Descriptor("application/vnd.in-toto+json", Digest.of(statement), len(statement))],
    )
    notes = (("vnd.docker.reference.digest", str(of.descriptor.digest)), ("vnd.docker.reference.type", "attestation-manifest"))
    entry = Descriptor(made.media_type, made.descriptor.digest, len(made.raw), Platform("unknown", "unknown"), notes)
    return entry, {blob(each): each for each in (config, statement, made.raw)}


def several(name: str = "docker.io/library/multi:1", *, without: str = "", compress: object = zipped, **attested: str) -> dict[str, bytes]:
    """An OCI layout of an image for two platforms and an attestation; `without` is an architecture whose layer is left out."""
    files: dict[str, bytes] = {}
    entries = []
    for architecture, layer in (("arm64", SECOND), ("amd64", BASE)):
        made, blobs = platform_image(architecture, layer, compress)
        if architecture == without:
            blobs.pop(f"blobs/sha256/{made.layers[0].digest.encoded}")
        entries.append(Descriptor(made.media_type, made.descriptor.digest, len(made.raw), Platform("linux", architecture)))
        files |= blobs
    entry, blobs = attestation(made, **attested)
    index = manifests.new_index([*entries, entry])
    named = Descriptor(index.media_type, index.descriptor.digest, len(index.raw), annotations=(("io.containerd.image.name", name),))
    return {**files, **blobs, blob(index.raw): index.raw, "index.json": manifests.new_index([named]).raw, "oci-layout": b"{}"}


@pytest.mark.parametrize("kind", ["application/vnd.oci.empty.v1+json", mediatype.OCI_CONFIG])
@pytest.mark.parametrize("load", WAYS)
def test_all_platforms_of_an_archive_come_and_go_together(store: Store, load: object, kind: str) -> None:
    [image] = load(store, archive(several(kind=kind)))  # type: ignore[operator]
    assert image.config.architecture == "amd64"
    assert store.images.resolve("multi:1", ARM).config.architecture == "arm64"
    assert [each.id for each in store.images.list()] == [image.id]
    assert store.images.list(filters={"dangling": ["true"]}) == []
    assert [(variant.kind, str(variant.platform), variant.available) for variant in store.images.variants(image)] == [
        ("image", "linux/arm64", True), ("image", "linux/amd64", True), ("attestation", "unknown/unknown", True),
    ]  # fmt: skip
    assert store.images.collect().layers == ()
    assert store.images.prune().removed == ()
    removed = store.images.remove("multi:1")
    assert [each.kind for each in removed] == ["Untagged", "Deleted", "Deleted", "Deleted", "Deleted"]
    assert store.images.list(all=True) == []
    assert os.listdir(store.root / "content/blobs/sha256") == []


@pytest.mark.parametrize("kind", ["application/vnd.oci.empty.v1+json", mediatype.OCI_CONFIG])
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_all_platforms_are_saved_whole(store: Store, form: str, kind: str) -> None:
    files = several(kind=kind)
    store.images.load(io.BytesIO(archive(files)))
    data = saved(store, "multi:1", form=form)
    found = members(data)
    # the very index, manifests, configurations, compressed layers and attestation that came
    assert {name: content for name, content in files.items() if name.startswith("blobs/")}.items() <= found.items()
    emptied(store)
    [image] = store.images.load(io.BytesIO(data))
    assert store.images.resolve("multi:1", ARM).config.architecture == "arm64"
    assert saved(store, "multi:1", form=form) == data
    if form == "docker":
        [row] = json.loads(found["manifest.json"])
        assert Digest.of(found[row["Config"]]) == image.id


def test_one_platform_can_be_chosen_to_save_and_to_load(store: Store) -> None:
    store.images.load(io.BytesIO(archive(several())))
    arm = store.images.resolve("multi:1", ARM)
    data = saved(store, "multi:1", form="oci", platform=ARM)
    old = saved(store, "multi:1", form="v1", platform=ARM)
    with pytest.raises(PlatformNotHere):
        store.images.saving(["multi:1"], platform=Platform("linux", "s390x"))
    emptied(store)
    assert [image.id for image in store.images.load(io.BytesIO(data))] == [arm.id]
    assert store.images.resolve("multi:1").id == arm.id
    emptied(store)
    assert [image.config.architecture for image in store.images.load(io.BytesIO(old))] == ["arm64"]
    emptied(store)
    [loaded] = store.images.load(io.BytesIO(archive(several())), platform=ARM)
    assert (loaded.id, [image.id for image in store.images.list(all=True)]) == (arm.id, [arm.id])
    for given in (several(), old_chain()):
        with pytest.raises(LaminaError, match="no image for linux/s390x"):
            store.images.load(io.BytesIO(archive(given)), platform=Platform("linux", "s390x"))


def test_a_platform_whose_layers_are_not_in_the_archive_is_left_out(store: Store) -> None:
    [image] = store.images.load(io.BytesIO(archive(several(without="arm64"))))
    assert [variant.available for variant in store.images.variants(image)] == [False, True, True]
    with pytest.raises(PlatformNotHere, match="does not provide the specified platform"):
        store.images.resolve("multi:1", ARM)
    # alone, it is saved as a plain image: nobody has to choose among what is not there
    entry = manifests.parse_index(members(saved(store, "multi:1"))["index.json"]).manifests[0]
    assert entry.media_type == mediatype.OCI_MANIFEST
    [arm] = store.images.load(io.BytesIO(archive(several(without="amd64"))))
    assert arm.config.architecture == "arm64"
    assert store.images.resolve("multi:1", Platform()).id == image.id


def test_a_prune_takes_a_platform_that_has_a_name_of_its_own_too(store: Store) -> None:
    store.images.load(io.BytesIO(archive(several())))
    store.images.tag(str(store.images.resolve("multi:1", ARM).id), Reference.parse("arm:1"))
    filters = {"dangling": ["false"]}
    planned = store.images.prune(filters, dry_run=True)
    assert store.images.prune(filters) == planned
    assert store.images.list(all=True) == []


def test_one_platform_can_be_removed(store: Store) -> None:
    [image] = store.images.load(io.BytesIO(archive(several())))
    arm = store.images.resolve("multi:1", ARM)
    with pytest.raises(ImageInUse):
        store.images.remove("multi:1", platforms=[ARM], in_use=lambda each: [("abc", False)] if each == arm.id else [])
    removed = store.images.remove("multi:1", platforms=[ARM])
    assert removed == [Removed("Deleted", str(arm.id)), Removed("Deleted", str(arm.layers[0]))]
    assert store.images.resolve("multi:1").id == image.id
    with pytest.raises(PlatformNotHere):
        store.images.remove("multi:1", platforms=[ARM])
    removed = store.images.remove("multi:1", platforms=[Platform()])
    assert [each.kind for each in removed] == ["Untagged", "Deleted", "Deleted"]
    assert os.listdir(store.root / "content/blobs/sha256") == []


def test_names_pass_to_the_platform_that_is_left(store: Store) -> None:
    [image] = store.images.load(io.BytesIO(archive(several())))
    store.images.tag("multi:1", Reference.parse("other:1"))
    arm = store.images.resolve("other:1", ARM)
    assert store.images.remove("multi:1", platforms=[Platform()])[0] == Removed("Deleted", str(image.id))
    assert store.images.resolve("multi:1").id == store.images.resolve("other:1").id == arm.id


def test_an_index_keeps_a_platform_that_loses_its_own_name_or_child(store: Store) -> None:
    store.images.load(io.BytesIO(archive(several())))
    arm = store.images.resolve("multi:1", ARM)
    store.images.tag(str(arm.id), Reference.parse("arm:1"))
    assert store.images.remove("arm:1") == [Removed("Untagged", "arm:1")]
    child(store, arm, "child:1", SECOND)
    assert [each.kind for each in store.images.remove("child:1")] == ["Untagged", "Deleted", "Deleted"]
    assert store.images.resolve("multi:1", ARM).id == arm.id


def test_a_platform_with_a_name_of_its_own_is_only_removed_by_force(store: Store) -> None:
    store.images.load(io.BytesIO(archive(several())))
    arm = store.images.resolve("multi:1", ARM)
    store.images.tag(str(arm.id), Reference.parse("arm:1"))
    with pytest.raises(ImageInUse, match="multiple repositories"):
        store.images.remove("multi:1", platforms=[ARM])
    assert [each.kind for each in store.images.remove("multi:1", platforms=[ARM], force=True)] == ["Untagged", "Deleted", "Deleted"]


def test_platforms_survive_a_restart(store: Store) -> None:
    store.images.load(io.BytesIO(archive(several())))
    again = store.again()
    assert again.images.collect().layers == ()
    assert again.images.resolve("multi:1", ARM).config.architecture == "arm64"
    assert again.warnings == []
    again.close()


def test_entries_of_one_name_for_several_platforms_are_one_image(store: Store) -> None:
    files: dict[str, bytes] = {}
    entries = []
    for architecture, layer in (("amd64", BASE), ("arm64", SECOND)):
        made, blobs = platform_image(architecture, layer)
        files |= blobs
        note = (("org.opencontainers.image.ref.name", "example.org/flat:1"),)
        entries.append(Descriptor(made.media_type, made.descriptor.digest, len(made.raw), Platform("linux", architecture), note))
    [image] = store.images.load(io.BytesIO(archive({**files, "index.json": manifests.new_index(entries).raw})))
    assert image.config.architecture == "amd64"
    assert store.images.resolve("example.org/flat:1", ARM).config.architecture == "arm64"


def test_a_name_given_to_two_images_is_refused(any_store: Store) -> None:
    one, files = platform_image("amd64", BASE)
    two, more = platform_image("arm64", SECOND)
    note = (("io.containerd.image.name", "docker.io/library/x:1"),)
    entries = [Descriptor(made.media_type, made.descriptor.digest, len(made.raw), annotations=note) for made in (one, two)]
    with pytest.raises(LaminaError, match="to several images"):
        any_store.images.load(io.BytesIO(archive({**files, **more, "index.json": manifests.new_index(entries).raw})))
    rows = json.dumps(
        [
            {
                "Config": f"blobs/sha256/{two.config.digest.encoded}",
                "RepoTags": ["x:1"],
                "Layers": [f"blobs/sha256/{two.layers[0].digest.encoded}"],
            }
        ]
    )
    with pytest.raises(LaminaError, match=r"index.json to one, manifest.json to another"):
        any_store.images.load(
            io.BytesIO(archive({**files, **more, "index.json": manifests.new_index(entries[:1]).raw, "manifest.json": rows.encode()}))
        )
    assert any_store.images.list(all=True) == []


def test_a_compressed_blob_that_is_not_what_its_manifest_names_is_refused(any_store: Store) -> None:
    made, files = platform_image("amd64", BASE)
    path = f"blobs/sha256/{made.layers[0].digest.encoded}"
    entry = Descriptor(made.media_type, made.descriptor.digest, len(made.raw))
    data = archive({**files, path: gzip.compress(BASE, 1, mtime=0), "index.json": manifests.new_index([entry]).raw})
    for load in WAYS:
        with pytest.raises(LaminaError, match="does not have its digest"):
            load(any_store, data)
    assert os.listdir(any_store.root / "content/blobs/sha256") == []


def test_a_loaded_manifest_and_its_compressed_layers_stay_as_they_came(store: Store) -> None:
    made, files = platform_image("amd64", BASE)
    entry = Descriptor(
        made.media_type, made.descriptor.digest, len(made.raw), annotations=(("io.containerd.image.name", "docker.io/library/g:1"),)
    )
    data = archive({**files, "index.json": manifests.new_index([entry]).raw})
    for load in WAYS:
        load(store, data)
        assert store.images.descriptor(Reference.parse("g:1")).digest == made.descriptor.digest
        assert files.items() <= members(saved(store, "g:1")).items()
        emptied(store)
    # where the layer is here already, its compressed form comes all the same
    imported(store)
    store.images.load(io.BytesIO(data))
    assert files.items() <= members(saved(store, "g:1", form="oci")).items()


@pytest.mark.parametrize("form", ["docker", "v1"])
def test_the_tree_tells_an_imported_layer_by_its_comment_before_and_after_a_load(any_store: Store, form: str) -> None:
    imported(any_store, "a:1", message="from far away")
    data = saved(any_store, "a:1", form=form)
    emptied(any_store)
    assert [layer.note.instruction for layer in any_store.images.outline(io.BytesIO(data))] == ["from far away"]
    any_store.images.load(io.BytesIO(data))
    assert [node.layer.instruction for node in any_store.images.tree()] == ["from far away"]


@pytest.mark.parametrize("form", ["docker", "oci", "v1"])
def test_an_outline_counts_images_not_stacks_of_layers(any_store: Store, form: str) -> None:
    for name in ("one:1", "two:1"):
        imported(any_store, name, changes=[f"LABEL name={name}"])
    any_store.images.tag("two:1", Reference.parse("three:1"))
    [node] = any_store.images.tree()
    [layer] = any_store.images.outline(io.BytesIO(saved(any_store, "one:1", "two:1", "three:1", form=form)))
    assert (layer.shared_by, tuple(sorted(layer.images))) == (node.shared_by, node.images) == (2, ("one:1", "three:1", "two:1"))


@pytest.mark.parametrize("way", ["file", "stream"])
def test_an_outline_says_what_a_load_then_brings_and_brings_nothing(any_store: Store, way: str) -> None:
    path = any_store.root / "outlined.tar"
    for files, names in ((several(), ["multi:1"]), (old_chain(), ["old/app:base", "old/app:1.0"])):
        path.write_bytes(archive(files))
        with open(path, "rb") as file:
            pending = any_store.images.outline(file if way == "file" else io.BytesIO(file.read()))
        assert any_store.images.list(all=True) == [] and list(any_store.layers.all()) == []
        outlined = []
        while pending:
            outlined.append(layer := pending.pop())
            pending += layer.children
        any_store.images.load(io.BytesIO(path.read_bytes()))
        assert sorted((layer.id, layer.diff_id, layer.note.instruction) for layer in outlined) == sorted(
            (str(facts.id), str(facts.diff_id), facts.instruction) for facts in any_store.layers.all()
        )
        assert set(names) <= {name for layer in outlined for name in layer.images}
        emptied(any_store)
