"""Archives of public advisories: each is refused in one sentence and leaves nothing, or is made harmless.

The same bytes go through load and import, by each storage driver; the canary is what every escape aims at.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.image.model import Image
from lamina.image.variants import Variants
from lamina.spec import config as configs
from lamina.spec import manifest as manifests
from lamina.spec import mediatype
from lamina.spec.config import ContainerConfig, ImageConfig, RootFS
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

from .conftest import Store
from .tars import BASE, imported, tar
from .test_archive import archive, config_of, docker_archive, through_file, through_pipe
from .test_layouts import old_chain

CANARY = b"untouched\n"


@pytest.fixture
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the host with a mode that an escape would change."""
    path = tmp_path_factory.mktemp("host") / "canary"
    path.write_bytes(CANARY)
    path.chmod(0o640)
    return path


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar, as the attacker likes it."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as writer:
        for info, data in members:
            writer.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def loaded(store: Store, layer: bytes, container: ContainerConfig | None = None) -> Image:
    """An image of this layer, loaded as x:1."""
    config = ImageConfig("amd64", "linux", RootFS(diff_ids=(str(Digest.of(layer)),)), container or ContainerConfig())
    [image] = through_pipe(store, docker_archive(configs.encode(config), {"a.tar": layer}, names=["x:1"]))
    made: Image = image
    return made


def refused(store: Store, work: Callable[[], object]) -> str:
    """The one sentence of the refusal, after which nothing is there."""
    with pytest.raises(LaminaError) as refusal:
        work()
    assert refusal.value.code in ("invalid_argument", "corrupt", "exhausted", "unsupported")
    assert "\n" not in refusal.value.message
    assert store.images.list(all=True) == []
    assert store.layers.all() == ()
    assert os.listdir(store.root / "content/blobs/sha256") == []
    assert os.listdir(store.root / "content/ingest") == []
    return refusal.value.message


# -- paths that lead out of a layer: (advisory, members given the canary's path)

Layer = Callable[[Path], list[tuple[tarfile.TarInfo, bytes]]]
ESCAPES: dict[str, Layer] = {
    "CVE-2007-4559 Python tarfile: ..": lambda canary: [member(f"../../../../../../../../..{canary}", b"x")],
    "CVE-2014-6407 Docker: through a symlink": lambda canary: [link("d", str(canary.parent)), member("d/canary", b"x")],
    "CVE-2014-9356 Docker: absolute symlink": lambda canary: [link("e", "/"), member(f"e{canary}", b"x")],
    "CVE-2018-1002207 zip slip: .. inside": lambda canary: [member(f"a/../../../../../../../..{canary}", b"x")],
    "CVE-2019-1002101 kubectl cp: links that build a way": lambda canary: [
        link("one", ".."), link("two", "one/.."), link("three", f"two/../../../../..{canary.parent}"), member("three/canary", b"x"),
    ],
    "CVE-2016-5418 libarchive: hard link with content": lambda canary: [link("h", str(canary), tarfile.LNKTYPE), member("h", b"x")],
    "CVE-2021-32760 containerd: mode through a link": lambda canary: [link("m", str(canary)), link("n", "m", tarfile.LNKTYPE), member("m", b"x", mode=0o6777)],
    "CVE-2021-29136 umoci: the root is a symlink": lambda canary: [link(".", str(canary.parent)), member("canary", b"x")],
    "CVE-2025-47290 containerd: a directory becomes a link": lambda canary: [
        member("d", type=tarfile.DIRTYPE), member("d/f", b"1"), link("d", str(canary.parent)), member("d/canary", b"x"),
    ],
    "CVE-2025-4517 Python tarfile: a way longer than PATH_MAX": lambda canary: [
        *(member("/".join(["d" * 247] * depth), type=tarfile.DIRTYPE) for depth in range(1, 17)),
        link("/".join(["d" * 247] * 16) + "/up", "../" * 16), link("flaglink", "/".join(["d" * 247] * 16) + f"/up/../../..{canary.parent}"),
        member("flaglink/canary", b"x"),
    ],
    "CVE-2025-4330 Python tarfile: hard link to a symlink out": lambda canary: [
        link("s", str(canary)), link("t", "s", tarfile.LNKTYPE), member("t", b"x"),
    ],
    "CVE-2021-32804 node-tar: several slashes": lambda canary: [member(f"////{canary}", b"x"), member(f"/./..{canary}", b"x")],
    "CVE-2019-14271 docker cp: whiteouts that lead out": lambda canary: [member(f"../..{canary.parent}/.wh.canary"), member(".wh..")],
    "CVE-2024-9676 containers/storage: passwd is a link": lambda canary: [
        member("etc", type=tarfile.DIRTYPE), link("etc/passwd", str(canary)), link("etc/group", "../../../../../../etc/group"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("advisory", ESCAPES)
@pytest.mark.parametrize("way", ["load", "import"])
def test_no_path_of_a_layer_leads_out_of_it(store: Store, canary: Path, advisory: str, way: str) -> None:
    before = sorted(os.listdir(canary.parent))
    for mode in (0o644, 0o4755):
        layer = packed(
            *[(info, data) for info, data in ESCAPES[advisory](canary) if not setattr(info, "mode", mode)], form=tarfile.GNU_FORMAT
        )
        try:
            image = loaded(store, layer) if way == "load" else imported(store, "x:1", layer)
        except LaminaError as error:
            assert error.code in ("invalid_argument", "corrupt", "exhausted", "unsupported")
            assert store.images.list(all=True) == []
            continue
        for path in (f"{canary}", "/etc/passwd", "/d/canary", "/canary", "/h", "/t", "/m"):
            try:
                assert b"".join(store.images.cat("x:1", path)[1]) != CANARY
            except LaminaError:
                continue
        store.images.remove(str(image.id), force=True)
    assert sorted(os.listdir(canary.parent)) == before
    assert (canary.read_bytes(), canary.stat().st_mode & 0o7777, canary.stat().st_nlink) == (CANARY, 0o640, 1)


# -- names and IDs in the archive's documents


def test_cve_2014_9358_docker_an_id_that_is_a_path(any_store: Store, canary: Path) -> None:
    identity = f"../../../../../../../..{canary.parent}"
    files = {f"{identity}/json": json.dumps({"id": identity}).encode(), f"{identity}/layer.tar": BASE, f"{identity}/VERSION": b"1.0"}
    refused(any_store, lambda: through_pipe(any_store, archive({**files, "repositories": json.dumps({"x": {"1": identity}}).encode()})))
    assert os.listdir(canary.parent) == ["canary"]


def test_cve_2014_8178_docker_an_id_of_ones_own_does_not_replace_another_layer(any_store: Store) -> None:
    """An old archive chooses its IDs: two that choose the same are two images here, since IDs are made of contents."""
    [good, _] = through_pipe(any_store, archive(old_chain()))
    evil = {**old_chain(), f"{'1' * 64}/layer.tar": tar({"evil": b"x"}), "repositories": json.dumps({"evil": {"1": "1" * 64}}).encode()}
    [bad, _] = through_pipe(any_store, archive(evil))
    assert bad.layers[0] not in good.layers
    assert b"".join(any_store.images.cat("old/app:1.0", "/bin/sh")[1]) == b"#!shell\n"


def test_cve_2024_3727_containers_image_a_digest_that_is_a_path(any_store: Store, canary: Path) -> None:
    for digest in (f"sha256:../../../../../..{canary}", "sha256:", "sha256/../x:abc", "../x:" + "a" * 64):
        index = {"schemaVersion": 2, "manifests": [{"mediaType": mediatype.OCI_MANIFEST, "digest": digest, "size": 2}]}
        refused(any_store, lambda index=index: through_pipe(any_store, archive({"index.json": json.dumps(index).encode()})))  # type: ignore[misc]


def test_cve_2021_41190_oci_a_document_that_is_manifest_and_index(any_store: Store) -> None:
    config = config_of(BASE)
    both = json.dumps({
        "schemaVersion": 2,
        "config": {"mediaType": mediatype.OCI_CONFIG, "digest": str(Digest.of(config)), "size": len(config)},
        "layers": [{"mediaType": mediatype.OCI_LAYER, "digest": str(Digest.of(BASE)), "size": len(BASE)}],
        "manifests": [{"mediaType": mediatype.OCI_MANIFEST, "digest": str(Digest.of(b"x")), "size": 1}],
    }).encode()  # fmt: skip
    for kind in (mediatype.OCI_MANIFEST, mediatype.OCI_INDEX):
        index = manifests.new_index([Descriptor(kind, Digest.of(both), len(both))]).raw
        files = {f"blobs/sha256/{Digest.of(data).encoded}": data for data in (both, config, BASE)}
        assert "ambiguous" in refused(any_store, lambda: through_pipe(any_store, archive({**files, "index.json": index})))  # noqa: B023


def test_cve_2014_8179_docker_a_document_whose_keys_come_twice(any_store: Store) -> None:
    config = config_of(BASE)
    rows = (
        b'[{"Config":"c.json","Layers":["a.tar"],"Config":"d.json"}]',
        b'[{"Config":"c.json","config":"d.json","Layers":["a.tar"]}]',
    )
    for row in rows:
        data = archive({"manifest.json": row, "c.json": config, "d.json": config_of(BASE), "a.tar": BASE})
        assert "ambiguous" in refused(any_store, lambda data=data: through_pipe(any_store, data))  # type: ignore[misc]
    twice = config.replace(b'"rootfs":', b'"rootfs":{"type":"layers","diff_ids":[]},"rootfs":')
    assert "ambiguous" in refused(any_store, lambda: through_pipe(any_store, docker_archive(twice, {"a.tar": BASE})))


def test_cve_2021_21285_docker_malformed_manifests_crash_nothing(any_store: Store) -> None:
    for row in (
        b"null",
        b"[null]",
        b'[{"Config":null}]',
        b'[{"Config":"c.json","Layers":null,"RepoTags":{}}]',
        b'[{"Layers":[[]]}]',
        b"1e999",
        b"NaN",
    ):
        refused(any_store, lambda row=row: through_pipe(any_store, archive({"manifest.json": row, "c.json": config_of(BASE)})))  # type: ignore[misc]


def test_a_layout_of_one_manifest_is_told_what_it_is(any_store: Store) -> None:
    data = archive({"manifest.json": b'{"schemaVersion":2,"config":{},"layers":[]}', "version": b"Directory Transport Version: 1.1\n"})
    assert "skopeo's dir: layout" in refused(any_store, lambda: through_pipe(any_store, data))


def test_cve_2020_15157_containerd_layers_elsewhere_are_not_fetched(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was made"))
    config = config_of(BASE)
    layer = Descriptor(mediatype.DOCKER_FOREIGN_LAYER, Digest.of(b"elsewhere"), 9, urls=("http://127.0.0.1:1/layer",))
    made = manifests.new_manifest(Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config)), [layer])
    files = {f"blobs/sha256/{Digest.of(data).encoded}": data for data in (config, made.raw)}
    index = manifests.new_index([made.descriptor]).raw
    assert "lacks the layer" in refused(any_store, lambda: through_pipe(any_store, archive({**files, "index.json": index})))


# -- bombs


def test_cve_2023_25153_containerd_huge_documents_are_not_read_into_memory(any_store: Store) -> None:
    huge = tarfile.TarInfo("manifest.json")
    huge.size = 1 << 40
    for load in (through_pipe, through_file):
        refused(any_store, lambda load=load: load(any_store, huge.tobuf(tarfile.GNU_FORMAT) + b"[" * 4096))  # type: ignore[misc]
    many = archive({f"{number}.json": b" " * (8 << 20) for number in range(34)})
    assert "documents" in refused(any_store, lambda: through_file(any_store, many))


def test_cve_2017_14992_docker_a_layer_that_is_a_bomb_is_refused_by_its_size(any_store: Store) -> None:
    entry = tarfile.TarInfo("zeros")
    entry.size = 1 << 60
    bomb = gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    refused(any_store, lambda: through_pipe(any_store, docker_archive(config_of(bomb), {"a.tar": bomb})))


def test_cve_2022_2879_go_archive_tar_headers_without_bound(any_store: Store) -> None:
    pax = tarfile.TarInfo("PaxHeader")
    pax.type, pax.size = tarfile.XHDTYPE, 1 << 33
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        pax.type = kind
        header = pax.tobuf(tarfile.GNU_FORMAT) + b"9" * 4096
        refused(any_store, lambda header=header: through_pipe(any_store, header))  # type: ignore[misc]
        layer = header
        refused(any_store, lambda layer=layer: loaded(any_store, layer))  # type: ignore[misc]


def test_cve_2025_58183_go_archive_tar_a_sparse_map_without_end(any_store: Store) -> None:
    info = tarfile.TarInfo("sparse")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1  # more map follows, for ever
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    extended = bytearray(512)
    extended[504] = 1
    refused(any_store, lambda: loaded(any_store, bytes(block) + bytes(extended) * 4096))
    text = b"1000000000000\n0\n"
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "9" * 18}
    layer = packed(member("GNUSparseFile.0/s", text + bytes(512 - len(text)), pax_headers=pax), form=tarfile.PAX_FORMAT)
    refused(any_store, lambda: loaded(any_store, layer))


@pytest.mark.parametrize(
    ("advisory", "records"),
    [
        ("CVE-2019-20907 Python tarfile: a record of no length", b"0 path=x\n" * 50),
        ("CVE-2024-6232 Python tarfile: digits that are matched again and again", b"9" * 200_000),
        ("bpo-39017: no number at all", b" =\n" * 100),
    ],
)
def test_pax_records_that_hang_others_are_refused_at_once(any_store: Store, advisory: str, records: bytes) -> None:
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    data = info.tobuf(tarfile.GNU_FORMAT) + records + bytes(-len(records) % 512) + tarfile.TarInfo("f").tobuf() + bytes(1024)
    refused(any_store, lambda: through_pipe(any_store, data))
    refused(any_store, lambda: loaded(any_store, data))


def test_cve_2025_8194_python_tarfile_sizes_below_zero(any_store: Store) -> None:
    block = bytearray(tarfile.TarInfo("manifest.json").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = struct.pack(">Bxxx", 0xFF) + struct.pack(">q", -1024)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    for data in (bytes(block) + bytes(1024),):
        refused(any_store, lambda data=data: through_pipe(any_store, data))  # type: ignore[misc]
        refused(any_store, lambda data=data: loaded(any_store, data))  # type: ignore[misc]


def test_a_tar_of_more_entries_than_any_image_has_is_refused(any_store: Store) -> None:
    empty = tarfile.TarInfo("x/y").tobuf()
    assert "members" in refused(any_store, lambda: through_file(any_store, empty * 100_001))


# -- configurations


def test_cve_2022_23648_containerd_volumes_stay_in_the_image(store: Store, canary: Path) -> None:
    """A volume is seeded from the image's own tree: `..` in its path stops at the image's root."""
    image = loaded(
        store, tar({"data": None, "data/own": b"own\n"}), ContainerConfig(volumes={f"/../../../..{canary.parent}": {}, "/data": {}})
    )
    with pytest.raises(LaminaError):
        store.images.ls("x:1", f"/../../../..{canary.parent}")
    assert [row.name for row in store.images.ls(str(image.id), "/../data/../../data")] == ["own"]


def test_cve_2024_24557_docker_a_configuration_does_not_stand_for_another(any_store: Store) -> None:
    """An image's ID is of its configuration's bytes, whatever name or ID an archive gives to it."""
    good = imported(any_store, "good:1")
    evil = config_of(tar({"evil": b"x"}))
    data = archive({
        "manifest.json": json.dumps([{"Config": f"{good.id.encoded}.json", "RepoTags": ["evil:1"], "Layers": ["a.tar"]}]).encode(),
        f"{good.id.encoded}.json": evil, "a.tar": tar({"evil": b"x"}),
    })  # fmt: skip
    [image] = through_pipe(any_store, data)
    assert image.id == Digest.of(evil) != good.id
    assert any_store.images.resolve("good:1").config_bytes == good.config_bytes
    assert any_store.images.get(good.id).names == (Reference.parse("good:1"),)


@pytest.mark.parametrize("listed", ["indexes", "images"])
def test_documents_that_refer_to_each_other_without_end_are_refused(any_store: Store, listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.image.archive.contents._READS_LIMIT", 1000)
    data = tar({"a": b"a"})
    config = config_of(data)
    made = manifests.new_manifest(
        Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config)), [Descriptor(mediatype.OCI_LAYER, Digest.of(data), len(data))]
    )
    files = {f"blobs/sha256/{Digest.of(each).encoded}": each for each in (config, data, made.raw)}
    entry = made.descriptor
    for _ in range(3 if listed == "indexes" else 1):
        index = manifests.new_index([entry] * 40)
        entry = index.descriptor
        files[f"blobs/sha256/{entry.digest.encoded}"] = index.raw
    if listed == "images":
        row = {"Config": f"blobs/sha256/{Digest.of(config).encoded}", "Layers": [f"blobs/sha256/{Digest.of(data).encoded}"]}
        files["manifest.json"] = json.dumps([row] * 1000).encode()
    files["index.json"] = manifests.new_index([entry]).raw
    assert "too often" in refused(any_store, lambda: through_pipe(any_store, archive({**files, "oci-layout": b"{}"})))


def test_an_index_that_lists_itself_many_times_over_is_walked_once() -> None:
    class Documents:
        reads = 0

        def read(self, digest: Digest, limit: int = 0) -> bytes:
            self.reads += 1
            return held[digest]

    made = manifests.new_manifest(Descriptor(mediatype.OCI_CONFIG, Digest.of(b"{}"), 2), [])
    held, entry = {made.descriptor.digest: made.raw}, made.descriptor
    for _ in range(3):
        index = manifests.new_index([entry] * 1000)
        entry, held[index.descriptor.digest] = index.descriptor, index.raw
    variants = Variants(Documents(), lambda _: None)
    assert {variant.descriptor.digest for variant in variants.of(entry)} == {made.descriptor.digest}
    assert variants.documents(entry) == {*held}


def test_names_of_members_are_not_kept_without_bound(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.image.archive.contents._DOCUMENTS_LIMIT", 1 << 20)
    links = packed(*(link(f"{number}/" + "n" * 200_000, "t" * 200_000) for number in range(4)))
    assert "bytes of documents" in refused(any_store, lambda: through_pipe(any_store, links))


def test_pax_records_around_an_image_are_read_once(any_store: Store) -> None:
    records = b"6 a=b\n" * 5000 + b"22 path=manifest.json\n"
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    head = info.tobuf(tarfile.GNU_FORMAT) + records + bytes(-len(records) % 512)
    whole = docker_archive(config_of(BASE), {"a.tar": BASE}, names=["x:1"])
    through_pipe(any_store, whole.replace(header_of(whole, "manifest.json"), head + header_of(whole, "manifest.json"), 1))
    assert any_store.images.resolve("x:1")


def header_of(whole: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(whole)) as reader:
        at = reader.getmember(name).offset
    return whole[at : at + 512]
