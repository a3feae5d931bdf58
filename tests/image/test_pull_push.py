"""Pull and push between whole stores and a registry in this process, also one that misbehaves."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lamina.content.store import BlobDamaged, BlobNotFound
from lamina.distribution.client import ManifestUnknown, RegistryClient
from lamina.distribution.transport import RegistryFailed, RegistryUnreachable
from lamina.errors import Exhausted, LaminaError
from lamina.image import pull
from lamina.image.download import Arrival
from lamina.image.model import ImageNotFound, LayerFacts
from lamina.image.pull import NotAnImage, PlatformMissing
from lamina.layer.compression import zstd_deflater
from lamina.layer.errors import LayerDamaged
from lamina.registry.http import Request, Response
from lamina.snapshot.protocol import Staged
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch
from lamina.spec.manifest import new_index, new_manifest, parse_index, parse_manifest
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink
from lamina.spec.reference import Reference
from tests.harness import eventually, overwrite
from tests.image.exchange import Recorder, Store, some_tars, tar_of
from tests.image.test_layouts import archive, attestation, platform_image, several
from tests.registry.servers import Faulty, cut_after, host, in_memory

MakeStore = Callable[..., Store]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MakeStore]:
    made: list[Store] = []

    def make(driver: str = "erofs", name: str = "") -> Store:
        made.append(Store(tmp_path / (name or f"store{len(made)}"), driver))
        return made[-1]

    yield make
    for each in made:
        each.close()


def reference(faulty: Faulty, text: str = "team/web:1") -> Reference:
    return Reference.parse(f"{faulty.host}/{text}")


def pushed(faulty: Faulty, store: Store, text: str = "team/web:1", tars: list[bytes] | None = None) -> Digest:
    """Push a new image; its manifest's digest."""
    store.make(str(reference(faulty, text)), tars or some_tars())
    return store.pusher.push(reference(faulty, text))[0].digest


def test_an_image_pushed_is_the_image_pulled(faulty: Faulty, store: MakeStore) -> None:
    here, there, sink = store(), store(), Recorder()
    digest = pushed(faulty, here)
    image = there.puller.pull(reference(faulty), sink=sink)[0]
    original = here.images.resolve(str(reference(faulty)))
    assert image.id == original.id
    assert image.config_bytes == original.config_bytes
    assert image.layers == original.layers
    assert [row.instruction for row in there.layers.chain(image.layers[-1])] == ["RUN step 0", "RUN step 1", "RUN step 2"]
    assert [str(name.digest) for name in image.digests] == [str(digest)]
    assert [str(name.digest) for name in original.digests] == [str(digest)]
    lines = sink.lines()
    assert lines[0] == "1: Pulling from team/web"
    assert lines[-2:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {reference(faulty).familiar}"]
    manifest = parse_manifest(there.content.read(digest))
    for row in manifest.layers:
        short = row.digest.short
        own = [line.partition(": ")[2] for line in lines if line.startswith(short)]
        assert [word for word in own if word not in ("Waiting", "Extracting", "Downloading")] == [
            "Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete",
        ]  # fmt: skip


def test_a_second_pull_fetches_nothing(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    digest = pushed(faulty, here)
    there.puller.pull(reference(faulty))
    faulty.asked.clear()
    sink = Recorder()
    there.puller.pull(reference(faulty), sink=sink)
    assert not faulty.requests("GET", "/blobs/") and not faulty.requests("GET", "/manifests/")
    assert sink.lines() == [
        "1: Pulling from team/web",
        f"Digest: {digest}",
        f"Status: Image is up to date for {reference(faulty).familiar}",
    ]


def test_a_registry_that_takes_get_alone_is_pulled_from(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    digest = pushed(faulty, here)
    faulty.fault = lambda request, response: Response(405) if request.method == "HEAD" else response
    assert [name.digest for name in there.puller.pull(reference(faulty))[0].digests] == [digest]


def test_layers_that_are_here_are_never_fetched(faulty: Faulty, store: MakeStore) -> None:
    here, there, tars, sink = store(), store(), some_tars(), Recorder()
    pushed(faulty, here, "team/base:1", tars[:2])
    pushed(faulty, here, "team/web:1", tars)
    there.puller.pull(reference(faulty, "team/base:1"))
    faulty.asked.clear()
    there.puller.pull(reference(faulty), sink=sink)
    assert faulty.requests("GET", "/blobs/") == 2  # the configuration and one layer
    assert sum(line.endswith(": Already exists") for line in sink.lines()) == 2


def test_by_digest_only_the_digest_is_named(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    digest = pushed(faulty, here)
    wanted = replace(reference(faulty), tag="", digest=digest)
    image = there.puller.pull(wanted)[0]
    assert image.names == ()
    assert image.digests == (wanted,)
    assert there.images.resolve(str(wanted)).id == image.id


def test_all_tags_of_a_repository_go_and_come(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    for tag in ("a", "b"):
        here.make(str(reference(faulty, f"team/web:{tag}")), some_tars(1))
    assert len(here.pusher.push(reference(faulty, "team/web"), all_tags=True)) == 2
    images = there.puller.pull(reference(faulty, "team/web"), all_tags=True)
    assert sorted(name.tag for image in images for name in image.names) == ["a", "b"]
    for every in (True, False):
        with pytest.raises(ImageNotFound, match=r"^An image does not exist locally with the tag: .*/team/none$"):
            here.pusher.push(reference(faulty, "team/none"), all_tags=every)
    with pytest.raises(ImageNotFound, match=r"^tag does not exist: .*/team/web:c$"):
        here.pusher.push(reference(faulty, "team/web:c"))


def test_a_pull_that_is_cut_for_good_goes_on_after_a_restart(faulty: Faulty, store: MakeStore, tmp_path: Path) -> None:
    pushed(faulty, store(), tars=some_tars(1))
    first = store(name="there")

    def fault(request: Request, response: Response) -> Response | None:
        if request.method == "GET" and "/blobs/" in request.path and response.status in (200, 206):
            body = response.body
            if not isinstance(body, bytes) and body.count > 1000:
                return cut_after(response, 100_000) if body.offset == 0 else None
        return response

    faulty.fault = fault
    with pytest.raises(RegistryUnreachable):
        first.puller.pull(reference(faulty))
    with pytest.raises(ImageNotFound):
        first.images.resolve(str(reference(faulty)))
    assert list(first.images.check()) == [], "what the next pull goes on from is no stray"
    first.close()
    faulty.fault = lambda request, response: response
    faulty.headers.clear()
    second = store(name="there")
    second.puller.pull(reference(faulty))
    assert [headers["range"] for headers in faulty.headers if "range" in headers] == ["bytes=100000-"]


@pytest.mark.root
def test_a_pull_that_fills_the_disk_gives_back_what_it_took(faulty: Faulty, store: MakeStore, tmp_path: Path) -> None:
    noise = [random.Random(number).randbytes(5 << 20) for number in range(2)]
    pushed(faulty, store(), tars=[tar_of("small", b"x"), *(tar_of(f"big{number}", data) for number, data in enumerate(noise))])
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "small", str(disk)], check=True)
    try:
        full = Store(disk / "root")
        with pytest.raises(Exhausted, match="no space left"):
            full.puller.pull(reference(faulty))
        assert list(full.images.check()) == []
        assert [os.listdir(disk / "root" / each) for each in ("content/ingest", "content/blobs/sha256", "layers")] == [[], [], []]
        full.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_the_layer_that_failed_says_why_not_the_one_below(faulty: Faulty, store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = store(), store()
    pushed(faulty, here, tars=[tar_of("small", b"x"), tar_of("big", random.Random(1).randbytes(100_000))])
    registering, made = threading.Event(), []
    bring, register = Arrival.bring, there.layers.register

    class Seen(pull._Stoppable):
        def __init__(self, sink: Sink) -> None:
            super().__init__(sink)
            made.append(self)

    def failing(self: Arrival, row: Descriptor) -> Staged:
        if row.size > 50_000:
            assert registering.wait(120)
            raise Exhausted("no space left")
        return bring(self, row)

    def slow(*args: Any, **options: Any) -> LayerFacts:
        registering.set()
        eventually(lambda: made[0].failure is not None, "the other layer has not failed")
        return register(*args, **options)

    monkeypatch.setattr(pull, "_Stoppable", Seen)
    monkeypatch.setattr(Arrival, "bring", failing)
    monkeypatch.setattr(there.layers, "register", slow)
    with pytest.raises(Exhausted, match="no space left"):
        there.puller.pull(reference(faulty))


def test_a_sink_that_raises_stops_the_pull_and_the_next_one_goes_on(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    pushed(faulty, here, tars=some_tars(2, 3_000_000))
    with pytest.raises(KeyboardInterrupt):
        there.puller.pull(reference(faulty), sink=Recorder(fail_at="Downloading"))
    with pytest.raises(ImageNotFound):
        there.images.resolve(str(reference(faulty)))
    assert there.puller.pull(reference(faulty))[0].names == (reference(faulty),)


def test_a_layer_of_other_bytes_moves_no_name(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    pushed(faulty, here, tars=some_tars(1))
    before = there.puller.pull(reference(faulty))[0]
    pushed(faulty, here, tars=some_tars(2))

    def fault(request: Request, response: Response) -> Response:
        if request.method == "GET" and "/blobs/" in request.path and response.status == 200:
            data = in_memory(response)
            return (
                Response(200, response.headers, data[:-100] + bytes(100)) if len(data) > 10_000 else Response(200, response.headers, data)
            )
        return response

    faulty.fault = fault
    with pytest.raises(DigestMismatch):
        there.puller.pull(reference(faulty))
    assert there.images.resolve(str(reference(faulty))).id == before.id
    faulty.fault = lambda request, response: response
    assert there.puller.pull(reference(faulty))[0].id != before.id


def test_wrong_bytes_that_an_earlier_pull_left_are_fetched_again(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    digest = pushed(faulty, here, tars=some_tars(1))
    row = parse_manifest(here.content.read(digest)).layers[0]
    with there.content.ingest(f"pull {row.digest}") as left:
        left.write(b"wrong" * 100)
    assert there.puller.pull(reference(faulty))[0].names == (reference(faulty),)


def test_a_layer_whose_diff_id_the_configuration_does_not_have_is_refused(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    pushed(faulty, here, "team/other:1", some_tars(1))
    digest = pushed(faulty, here, "team/other:2", some_tars(1))
    client = here.registries.repository(reference(faulty, "team/other"), push=True)
    _, data = client.resolve(reference(faulty, "team/other:1"))
    mixed = new_manifest(parse_manifest(data).config, parse_manifest(here.content.read(digest)).layers)
    client.put_manifest(mixed.media_type, mixed.raw, "mixed")
    with pytest.raises(DigestMismatch, match="diff ID"):
        there.puller.pull(reference(faulty, "team/other:mixed"))


def test_the_image_for_the_platform_is_chosen_from_an_index(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    rows = []
    for architecture in ("arm64", "amd64"):
        name = reference(faulty, f"team/web:{architecture}")
        here.make(str(name), some_tars(1), architecture)
        descriptor = here.pusher.push(name)[0]
        platform = {"os": "linux", "architecture": architecture}
        rows.append({"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size, "platform": platform})
    index = json.dumps({"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": rows}).encode()
    client = here.registries.repository(reference(faulty), push=True)
    client.put_manifest(mediatype.OCI_INDEX, index, "many")
    image = there.puller.pull(reference(faulty, "team/web:many"))[0]
    assert image.config.architecture == "amd64"
    assert [name.digest for name in image.digests] == [Digest.of(index)]
    arm = there.puller.pull(reference(faulty, "team/web:many"), platform=Platform("linux", "arm64"))[0]
    assert arm.config.architecture == "arm64"
    with pytest.raises(PlatformMissing, match="no matching manifest for linux/s390x"):
        there.puller.pull(reference(faulty, "team/web:many"), platform=Platform("linux", "s390x"))
    with pytest.raises(PlatformMissing, match="does not provide the specified platform"):
        there.puller.pull(reference(faulty, "team/web:arm64"), platform=Platform("linux", "amd64"))


def test_the_image_is_found_in_an_index_that_an_index_lists(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    client = here.registries.repository(reference(faulty), push=True)

    def put(tag: str, *rows: Descriptor) -> Descriptor:
        index = new_index(rows)
        client.put_manifest(index.media_type, index.raw, tag)
        return index.descriptor

    found = {}
    for architecture in ("arm64", "amd64"):
        name = reference(faulty, f"team/web:{architecture}")
        found[architecture] = here.make(str(name), some_tars(1), architecture).id
        row = replace(here.pusher.push(name)[0], platform=Platform("linux", architecture))
        put(architecture, row)
    inner = [replace(client.resolve(reference(faulty, f"team/web:{each}"))[0], platform=None) for each in found]
    outer = put("many", put("deeper", *inner))
    for architecture, image in found.items():
        pulled = there.puller.pull(reference(faulty, "team/web:many"), platform=Platform("linux", architecture))[0]
        assert pulled.id == image
        assert [each.digest for each in pulled.digests if each.digest == outer.digest]
    with pytest.raises(PlatformMissing, match="no matching manifest for linux/s390x"):
        there.puller.pull(reference(faulty, "team/web:many"), platform=Platform("linux", "s390x"))
    assert there.pusher.push(reference(faulty, "team/web:many"))[0].digest == outer.digest


def test_images_that_do_not_say_their_variant_are_told_apart_by_their_index(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    rows, client = [], here.registries.repository(reference(faulty), push=True)
    for variant in ("v6", "v7"):
        here.make(str(reference(faulty, f"team/web:{variant}")), some_tars(1), "arm")
        descriptor = here.pusher.push(reference(faulty, f"team/web:{variant}"))[0]
        rows.append(replace(descriptor, platform=Platform("linux", "arm", variant)))
    here.make(str(reference(faulty, "team/web:s390x")), some_tars(1), "s390x")
    absent = replace(here.pusher.push(reference(faulty, "team/web:s390x"))[0], platform=Platform("linux", "s390x"))
    client.put_manifest(mediatype.OCI_INDEX, new_index(rows).raw, "many")
    name, images = reference(faulty, "team/web:many"), {}
    for row in rows:
        [images[row.platform]] = there.puller.pull(name, platform=row.platform)
    for platform, image in images.items():
        assert there.images.resolve(str(name), platform).id == image.id
    with pytest.raises(ImageNotFound, match="does not provide the specified platform"):
        there.images.resolve(str(name), Platform("linux", "arm", "v5"))
    whole = client.resolve(name)[0]
    assert there.pusher.push(name)[0].digest == whole.digest
    client.put_manifest(mediatype.OCI_INDEX, new_index([*rows, absent]).raw, "more")
    for row in rows:
        there.puller.pull(reference(faulty, "team/web:more"), platform=row.platform)
    there.pusher.push(reference(faulty, "team/web:more"))
    made = parse_index(client.resolve(reference(faulty, "team/web:more"))[1])
    assert [str(row.platform) for row in made.manifests] == ["linux/arm/v6", "linux/arm/v7"]
    with tempfile.TemporaryFile() as file:
        there.images.save([str(reference(faulty, "team/web:more"))], file.fileno())
        for platform, image in images.items():
            alone = store()
            file.seek(0)
            assert [each.id for each in alone.images.load(file, platform=platform)] == [image.id]
            assert [each.id for each in alone.images.list(all=True)] == [image.id]
        file.seek(0)
        here.images.load(file)
    for platform, image in images.items():
        assert here.images.resolve(str(reference(faulty, "team/web:more")), platform).id == image.id


def loaded(faulty: Faulty, store: Store, **options: Any) -> Reference:
    """An image of two platforms, whose archive has an attestation beside them."""
    name = reference(faulty, "team/several:1")
    store.images.load(io.BytesIO(archive(several(str(name), **options))))
    return name


def test_all_platforms_are_pushed_with_what_is_listed_beside_them(faulty: Faulty, store: MakeStore) -> None:
    here, there, sink = store(), store(), Recorder()
    name = loaded(faulty, here)
    resolved = here.images.descriptor(name)
    [sent] = here.pusher.push(name, sink=sink)
    assert (sent.digest, sink.lines()[-1]) == (resolved.digest, f"1: digest: {resolved.digest} size: {resolved.size}")
    assert [update.aux for update in sink.updates if update.aux] == [{"Tag": "1", "Digest": str(sent.digest), "Size": sent.size}]
    client = there.registries.repository(name)
    descriptor, raw = client.resolve(name)
    assert (descriptor.digest, raw) == (resolved.digest, here.content.read(resolved.digest))
    for row in parse_index(raw).manifests:
        of_row = parse_manifest(client.resolve(replace(name, tag="", digest=row.digest))[1])
        assert all(client.exists(blob.digest) == blob.size for blob in (of_row.config, *of_row.layers))
    for architecture in ("arm64", "amd64"):
        assert there.puller.pull(name, platform=Platform("linux", architecture))[0].config.architecture == architecture
    assert [each.digest for each in here.images.resolve(str(name)).digests] == [resolved.digest]
    faulty.asked.clear()
    assert here.pusher.push(name) == [sent] and not faulty.requests("POST", "/uploads/")


def test_an_index_whose_platforms_become_others_is_made_anew(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    name = loaded(faulty, here, compress=lambda data: data)
    before = [each.descriptor for each in here.images.variants(here.images.resolve(str(name)))]
    [sent] = here.pusher.push(name)
    assert sent.digest != here.images.descriptor(name).digest
    rows = parse_index(there.registries.repository(name).resolve(name)[1]).manifests
    assert [str(row.platform) for row in rows] == ["linux/arm64", "linux/amd64"]
    for row in rows:
        assert there.puller.pull(name, platform=row.platform)[0].config.architecture == str(row.platform).removeprefix("linux/")
    image = here.images.resolve(str(name))
    assert [each.digest for each in image.digests] == [sent.digest]
    assert [each.descriptor for each in here.images.variants(image)] == before
    assert here.pusher.push(name) == [sent]
    here.images.remove(str(name))
    assert here.images.list(all=True) == []
    assert os.listdir(here.root / "content/blobs/sha256") == []


def test_of_platforms_that_are_not_all_here_those_go_that_are(faulty: Faulty, store: MakeStore) -> None:
    here, sink = store(), Recorder()
    name = loaded(faulty, here, without="arm64")
    [sent] = here.pusher.push(name, sink=sink)
    assert sent.media_type in mediatype.MANIFESTS
    [_, note] = [update.aux for update in sink.updates if update.aux]
    assert note["manifestPushedInsteadOfIndex"] is True and note["selectedManifest"]["digest"] == str(sent.digest)  # type: ignore[index]
    assert note["originalIndex"]["digest"] == str(here.images.descriptor(name).digest)  # type: ignore[index]


def test_the_only_platform_of_an_index_goes_with_all_that_is_listed(
    faulty: Faulty, store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, sink, name = store(), Recorder(), reference(faulty, "team/attested:1")
    made, files = platform_image("amd64", tar_of("file", b"data"))
    entry, blobs = attestation(made)
    index = new_index([replace(made.descriptor, platform=Platform("linux", "amd64")), entry])
    named = replace(index.descriptor, annotations=(("io.containerd.image.name", str(name)),))
    files |= {**blobs, f"blobs/sha256/{named.digest.encoded}": index.raw, "index.json": new_index([named]).raw, "oci-layout": b"{}"}
    here.images.load(io.BytesIO(archive(files)))
    here.images.variants(here.images.resolve(str(name)))
    plain, read = here.content.read, list[Digest]()
    monkeypatch.setattr(here.content, "read", lambda digest, *limit: read.append(digest) or plain(digest, *limit))
    [sent] = here.pusher.push(name, sink=sink)
    assert (sent.digest, read.count(sent.digest), read.count(entry.digest)) == (index.descriptor.digest, 1, 1)
    assert [update.aux for update in sink.updates if update.aux] == [{"Tag": "1", "Digest": str(sent.digest), "Size": sent.size}]
    assert here.registries.repository(name).resolve(replace(name, tag="", digest=entry.digest))[0].digest == entry.digest


def test_what_is_no_image_is_refused(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    digest = pushed(faulty, here, tars=some_tars(1))
    made = parse_manifest(here.content.read(digest))
    odd = new_manifest(replace(made.config, media_type="application/vnd.chart+json"), made.layers)
    here.registries.repository(reference(faulty), push=True).put_manifest(odd.media_type, odd.raw, "odd")
    with pytest.raises(NotAnImage, match="is not an image"):
        there.puller.pull(reference(faulty, "team/web:odd"))
    with pytest.raises(ManifestUnknown):
        there.puller.pull(reference(faulty, "team/web:none"))


def test_one_image_in_two_compressions_is_the_same_image_with_other_digests(faulty: Faulty, store: MakeStore) -> None:
    here, there, third = store(), store(), store()
    tars = some_tars(2)
    first = pushed(faulty, here, "team/gzip:1", tars)
    gzip = parse_manifest(here.content.read(first))
    client = here.registries.repository(reference(faulty, "team/zstd"), push=True)
    client.upload(gzip.config, here.content.open(gzip.config.digest))
    rows = []
    for tar in tars:
        deflater = zstd_deflater()
        data = deflater.compress(tar) + deflater.flush()
        rows.append(Descriptor(mediatype.OCI_LAYER_ZSTD, Digest.of(data), len(data)))
        client.upload(rows[-1], io.BytesIO(data))
    made = new_manifest(gzip.config, rows)
    client.put_manifest(made.media_type, made.raw, "1")
    for each in (there, third):
        for name in ("team/gzip:1", "team/zstd:1") if each is there else ("team/zstd:1", "team/gzip:1"):
            image = each.puller.pull(reference(faulty, name))[0]
            original = here.images.resolve(str(reference(faulty, "team/gzip:1")))
            assert (image.id, image.config.diff_ids, image.layers) == (original.id, original.config.diff_ids, original.layers)
        assert len(each.images.list()) == 1
    digests = {name.path: name.digest for name in there.images.list()[0].digests}
    assert digests == {"team/gzip": first, "team/zstd": made.descriptor.digest} and first != made.descriptor.digest
    assert {row.digest for row in gzip.layers}.isdisjoint(row.digest for row in rows)
    # Each name goes back in the form in which it came.
    for each in (there, third):
        for name, digest in (("team/gzip:1", first), ("team/zstd:1", made.descriptor.digest)):
            assert each.pusher.push(reference(faulty, name))[0].digest == digest
    # What was pulled in one form alone goes on in that form.
    alone = store()
    alone.puller.pull(reference(faulty, "team/zstd:1"))
    alone.images.tag(str(reference(faulty, "team/zstd:1")), reference(faulty, "team/on:1"))
    assert alone.pusher.push(reference(faulty, "team/on:1"))[0].digest == made.descriptor.digest


def test_one_layer_twice_in_an_image(faulty: Faulty, store: MakeStore) -> None:
    here, there, tar = store(), store(), tar_of("same", b"x" * 1000)
    pushed(faulty, here, tars=[tar, tar_of("other", b"y"), tar])
    assert len(there.puller.pull(reference(faulty))[0].layers) == 3
    assert faulty.requests("POST", "/blobs/uploads/") == 3  # two layers and the configuration


def test_a_push_of_what_is_there_sends_nothing(faulty: Faulty, store: MakeStore) -> None:
    here, sink = store(), Recorder()
    digest = pushed(faulty, here)
    faulty.asked.clear()
    descriptor = here.pusher.push(reference(faulty), sink=sink)[0]
    assert descriptor.digest == digest
    assert not faulty.requests("POST", "/blobs/uploads/")
    assert sum(line.endswith("Layer already exists") for line in sink.lines()) == 3
    assert sink.lines()[-1] == f"1: digest: {digest} size: {descriptor.size}"
    assert sink.updates[-1].aux == {"Tag": "1", "Digest": str(digest), "Size": descriptor.size}


def test_what_was_pulled_is_pushed_with_the_same_digest_and_mounted_from_its_sibling(faulty: Faulty, store: MakeStore) -> None:
    here, there, sink = store(), store(), Recorder()
    digest = pushed(faulty, here)
    there.puller.pull(reference(faulty))
    copy = reference(faulty, "team/copy:9")
    there.images.tag(str(reference(faulty)), copy)
    assert there.pusher.push(copy, sink=sink)[0].digest == digest
    assert sum(line.endswith("Mounted from team/web") for line in sink.lines()) == 3
    assert {name.path for name in there.images.resolve(str(copy)).digests} == {"team/web", "team/copy"}


def test_what_was_loaded_is_pushed_with_one_digest_however_often(faulty: Faulty, store: MakeStore, tmp_path: Path) -> None:
    here, there, loaded = store(), store(), store()
    digest = pushed(faulty, here)
    there.puller.pull(reference(faulty))
    with (tmp_path / "saved.tar").open("w+b") as file:
        there.images.save([str(reference(faulty))], file.fileno())
        file.seek(0)
        loaded.images.load(file)
    loaded.images.tag(str(reference(faulty)), reference(faulty, "team/loaded:1"))
    assert [loaded.pusher.push(reference(faulty, "team/loaded:1"))[0].digest for _ in range(2)] == [digest, digest]


@pytest.mark.parametrize("driver", ["erofs", pytest.param("overlay", marks=pytest.mark.root)])
def test_compressing_gives_the_same_digest_each_time_with_each_driver(faulty: Faulty, store: MakeStore, driver: str) -> None:
    tars = [tar_of("text", b"compressible " * 300_000), tar_of("empty", b"")]
    assert pushed(faulty, store(), "one:1", tars) == pushed(faulty, store(driver), "two:1", tars)


@pytest.mark.root
def test_the_overlay_driver_pulls_and_pushes_too(faulty: Faulty, store: MakeStore) -> None:
    here, there = store("overlay"), store("overlay")
    digest = pushed(faulty, here)
    assert there.puller.pull(reference(faulty))[0].digests[0].digest == digest


def test_what_a_push_compresses_is_sent_as_it_is_made_and_not_kept(faulty: Faulty, store: MakeStore) -> None:
    here = store(name="here")
    digest = pushed(faulty, here)
    assert faulty.requests("PATCH", "/blobs/uploads/") == 3
    for row in parse_manifest(here.content.read(digest)).layers:
        with pytest.raises(BlobNotFound):
            here.content.stat(row.digest)
    assert os.listdir(here.root / "content/ingest") == []
    assert [finding.line for finding in here.images.check()] == [], "what was never kept is not missing"
    # The next push knows the digests, and the one to another registry makes the same bytes again.
    faulty.asked.clear()
    assert here.pusher.push(reference(faulty))[0].digest == digest
    assert not faulty.requests("PATCH", "")
    before = faulty.requests("GET", "/blobs/")
    here.puller.pull(reference(faulty), verify=True)
    assert faulty.requests("GET", "/blobs/") == before, "a pull that verifies misses nothing either"
    faulty.asked.clear()
    assert store(name="here").pusher.push(reference(faulty))[0].digest == digest
    assert not faulty.requests("PATCH", ""), "they are known after a restart too"


def test_a_layer_whose_tar_is_damaged_is_not_pushed(faulty: Faulty, store: MakeStore) -> None:
    here = store()
    image = here.make(str(reference(faulty)), some_tars(1))
    path = Path(here.content.path(image.config.diff_ids[0]))
    data = path.read_bytes()
    overwrite(path, data[:1000] + b"other bytes" + data[1011:])
    with pytest.raises(LayerDamaged, match="damaged layer"):
        here.pusher.push(reference(faulty))
    assert faulty.requests("DELETE", "/blobs/uploads/") == 1
    assert not faulty.requests("PUT", "")


def test_a_compressed_layer_that_is_damaged_is_named_where_its_registry_refuses_it(
    faulty: Faulty, store: MakeStore, tmp_path: Path
) -> None:
    pushed(faulty, store(name="origin"), tars=some_tars(1, 40_000))
    here = store()
    [source] = here.layers.chain(here.puller.pull(reference(faulty))[0].layers[-1])[0].sources
    for path in (tmp_path / "registry").rglob(f"{source.digest.encoded}*"):
        path.unlink()
    path = Path(here.content.path(source.digest))
    data = path.read_bytes()
    overwrite(path, data[:1000] + b"other bytes" + data[1011:])
    for _ in range(2):
        with pytest.raises(BlobDamaged, match=f"damaged blob: {source.digest}"):
            here.pusher.push(reference(faulty))


def test_a_sink_that_raises_stops_a_push_while_it_compresses(faulty: Faulty, store: MakeStore) -> None:
    here = store()
    here.make(str(reference(faulty)), [tar_of("large", b"compressible " * 3_000_000)])
    with pytest.raises(KeyboardInterrupt):
        here.pusher.push(reference(faulty), sink=Recorder(fail_at="Pushing"))
    assert not faulty.requests("PUT", "")
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("push")], "a push left threads")


class _Hasty(BaseHTTPRequestHandler):
    """A registry that has no blob, and says that it has one before the bytes have come."""

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        self._answer(404)

    def do_POST(self) -> None:
        self._answer(202)

    def do_PATCH(self) -> None:
        self._answer(202)

    def do_DELETE(self) -> None:
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Location", "/upload")
        self.end_headers()


def test_a_layer_that_the_registry_did_not_take_to_its_end_is_not_told_as_pushed(store: MakeStore) -> None:
    here, registry = store(), ThreadingHTTPServer(("127.0.0.1", 0), _Hasty)
    threading.Thread(target=registry.serve_forever, daemon=True).start()
    name = Reference.parse(f"127.0.0.1:{registry.server_port}/team/web:1")
    here.make(str(name), some_tars(1, 20_000_000))
    try:
        with pytest.raises(RegistryFailed, match=r"took layer .* before all of it was sent"):
            here.pusher.push(name)
    finally:
        registry.shutdown()
        registry.server_close()


@pytest.mark.parametrize("damaged", ["/manifests/", "configuration", "layer", "every layer"])
def test_what_a_mirror_sends_damaged_comes_from_the_registry_itself(
    faulty: Faulty, store: MakeStore, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    here, there = store(), store()
    digest = pushed(faulty, here)
    manifest = parse_manifest(here.content.read(digest))
    rows = {"configuration": [manifest.config], "layer": manifest.layers[:1], "every layer": manifest.layers}.get(damaged, [])
    wanted = [f"/blobs/{row.digest}" for row in rows] or [damaged]
    asked = []

    def flipped(request: Request, response: Response) -> Response:
        if request.method != "GET" or not any(part in request.path for part in wanted):
            return response
        asked.append(request.path)
        data = bytearray(in_memory(response))
        data[-1] ^= 1
        return Response(200, (*response.headers, ("Content-Length", str(len(data)))), bytes(data))

    faulty.fault = flipped
    origin, mirror = there.registries.session(f"http://{host(faulty.server)}"), there.registries.session(f"http://{faulty.host}")
    client = RegistryClient(reference(faulty), origin, (mirror,))
    monkeypatch.setattr(there.registries, "repository", lambda *_arguments, **_named: client)
    image = there.puller.pull(reference(faulty))[0]
    assert image.id == here.images.resolve(str(reference(faulty))).id and asked
    client.mirrors = ()
    client.origin = mirror
    another = store()
    monkeypatch.setattr(another.registries, "repository", lambda *_arguments, **_named: client)
    with pytest.raises(DigestMismatch):
        another.puller.pull(reference(faulty))


def test_a_configuration_of_another_size_than_the_manifest_says_is_told_as_that(faulty: Faulty, store: MakeStore) -> None:
    here = store()
    manifest = parse_manifest(here.content.read(pushed(faulty, here)))
    wrong = new_manifest(replace(manifest.config, size=manifest.config.size + 1), manifest.layers)
    faulty.fault = lambda request, response: (
        Response(200, (("Content-Type", wrong.media_type),), wrong.raw) if "/manifests/" in request.path else response
    )
    with pytest.raises(DigestMismatch, match=rf"configuration has {manifest.config.size} bytes instead of {wrong.config.size}: sha256:"):
        here.puller.pull(reference(faulty))


def test_a_read_only_registry_refuses_a_push_in_one_sentence(faulty: Faulty, store: MakeStore) -> None:
    here = store()
    here.make(str(reference(faulty)), some_tars(1))
    body = b'{"errors":[{"code":"DENIED","message":"not yours"}]}'
    faulty.fault = lambda request, response: Response(403, (), body) if request.method == "POST" else response
    with pytest.raises(LaminaError, match=r"push access denied for .*team/web: .*not yours"):
        here.pusher.push(reference(faulty))


@pytest.mark.parametrize("driver", ["erofs", pytest.param("overlay", marks=pytest.mark.root)])
def test_a_pull_mends_what_a_check_found_lost(faulty: Faulty, store: MakeStore, driver: str) -> None:
    pushed(faulty, store(name="origin"))
    here = store(driver)
    image = here.puller.pull(reference(faulty))[0]
    assert list(here.images.check()) == []
    for blob in list(here.content.walk()):
        if blob.digest not in (image.id, image.manifest.digest):
            overwrite(Path(here.content.path(blob.digest)), bytes(blob.size))
    lost = [finding for finding in here.images.check(repair=True) if finding.state == "lost"]
    assert lost
    assert all(f"lamina pull {reference(faulty).familiar}" in finding.line for finding in lost)
    assert here.puller.pull(reference(faulty))[0].id == image.id
    assert [finding.line for finding in here.images.check(repair=True) if finding.state == "lost"] == []
    assert list(here.images.check()) == []


def broken(path: Path, how: str) -> None:
    """Damage that looks like the disk's own: no time of modification changes."""
    if how == "deleted":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    overwrite(path, data[: len(data) // 2] if how == "cut" else data)


@pytest.mark.parametrize("how", ["a bit", "cut", "deleted"])
@pytest.mark.parametrize("what", ["blobs", "driver", "both"])
@pytest.mark.parametrize("driver", ["erofs", pytest.param("overlay", marks=pytest.mark.root)])
def test_a_pull_that_verifies_mends_layers_to_the_last_byte(faulty: Faulty, store: MakeStore, driver: str, what: str, how: str) -> None:
    tars = some_tars(2, 40_000)
    pushed(faulty, store(name="origin"), tars=tars)
    here = store(driver)
    image = here.puller.pull(reference(faulty))[0]
    blobs = [Path(here.content.path(blob.digest)) for blob in here.content.walk()]
    own = [path for path in (here.root / "layers").rglob("*") if path.is_file() and path.suffix not in (".json", ".skeleton")]
    for path in {"blobs": blobs, "driver": own, "both": blobs + own}[what]:
        broken(path, how)
    assert here.puller.pull(reference(faulty), verify=True)[0].id == image.id
    assert [finding.line for finding in here.images.check()] == []
    for layer, data in zip(image.layers, tars, strict=True):
        with here.layers.union(layer) as union:
            name = next(member.name for member in tarfile.open(fileobj=io.BytesIO(data)))
            assert union.lookup(name.encode()) is not None
        here.layers.verify(layer)


def test_a_second_pull_that_verifies_sound_layers_fetches_nothing(faulty: Faulty, store: MakeStore) -> None:
    pushed(faulty, store(name="origin"), tars=some_tars(2, 4000))
    here = store()
    here.puller.pull(reference(faulty))
    before = faulty.requests("GET", "/blobs/")
    here.puller.pull(reference(faulty), verify=True)
    assert faulty.requests("GET", "/blobs/") == before


def test_an_image_that_is_removed_while_it_is_pushed_arrives_whole(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    image = here.make(str(reference(faulty)), some_tars(3, 100_000))

    def removed(request: Request, response: Response) -> Response:
        with suppress(ImageNotFound):
            here.images.remove(image.id.encoded)
        return response

    faulty.fault = removed
    here.pusher.push(reference(faulty, "team/web:1"))
    faulty.fault = lambda request, response: response
    assert there.puller.pull(reference(faulty))[0].id == image.id


def test_platforms_that_are_removed_while_they_are_pushed_arrive_with_their_index(faulty: Faulty, store: MakeStore) -> None:
    here, there = store(), store()
    name = loaded(faulty, here)
    resolved = here.images.descriptor(name)

    def removed(request: Request, response: Response) -> Response:
        with suppress(ImageNotFound):
            here.images.remove(str(name))
        return response

    faulty.fault = removed
    assert here.pusher.push(name)[0].digest == resolved.digest
    faulty.fault = lambda request, response: response
    assert there.puller.pull(name)[0].config.architecture == "amd64"
    here.images.collect()
    assert os.listdir(here.root / "content/blobs/sha256") == []


def test_an_image_of_more_layers_than_any_has_is_refused(faulty: Faulty, store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = store(), store()
    pushed(faulty, here, tars=some_tars(3))
    monkeypatch.setattr("lamina.image.pull.LAYERS_LIMIT", 2)
    with pytest.raises(NotAnImage, match="has 3 layers: at most 2 are taken"):
        there.puller.pull(reference(faulty))
    assert there.layers.all() == ()
