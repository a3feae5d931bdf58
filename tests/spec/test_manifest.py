"""Manifests and indexes, OCI's and Docker's: accepted or refused, never a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_config import texts, values

from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, InvalidManifest, Manifest, new_index, new_manifest, parse, parse_index, parse_manifest
from lamina.spec.platform import Platform

D = Digest.of(b"x")
ROW = {"mediaType": "application/x", "digest": str(D), "size": 1}
digests = st.binary(max_size=3).map(Digest.of)
descriptors = st.builds(
    Descriptor, media_type=texts, digest=digests, size=st.integers(0, 2**62 - 1),
    platform=st.none() | st.builds(Platform, os=texts, architecture=texts, variant=texts),
    annotations=st.dictionaries(texts, texts, max_size=2).map(lambda items: tuple(sorted(items.items()))), urls=st.lists(texts, max_size=2).map(tuple),
)  # fmt: skip
KEYS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "annotations", "urls"]
documents = st.recursive(
    values | st.just(ROW) | st.just(2),
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=6) | st.lists(inner, max_size=3),
)


@given(descriptors, st.lists(descriptors, max_size=3), st.sampled_from(sorted(mediatype.MANIFESTS)))
def test_parse_undoes_new_manifest(config: Descriptor, layers: list[Descriptor], kind: str) -> None:
    made = new_manifest(config, layers, media_type=kind, annotations=[("a", "b")])
    assert parse(made.raw, kind) == made
    assert made.descriptor == Descriptor(kind, Digest.of(made.raw), len(made.raw))


@given(st.lists(descriptors, max_size=3), st.sampled_from(sorted(mediatype.INDEXES)))
def test_parse_undoes_new_index(children: list[Descriptor], kind: str) -> None:
    made = new_index(children, media_type=kind)
    assert parse(made.raw) == made


@given(
    st.binary() | documents.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["", mediatype.OCI_INDEX, mediatype.DOCKER_MANIFEST, "text/html"]),
)
def test_any_bytes_are_accepted_or_refused(data: bytes, kind: str) -> None:
    try:
        document = parse(data, kind)
    except InvalidManifest as error:
        assert "\n" not in error.message
    else:
        assert document.raw == data


def encoded(**parts: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **parts}).encode()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(config=ROW, layers=[], manifests=[]), ""),
        (encoded(mediaType=mediatype.OCI_MANIFEST, config=ROW, layers=[]), mediatype.OCI_INDEX),
        (encoded(mediaType="text/html"), ""),
        (json.dumps({"schemaVersion": 1, "fsLayers": []}).encode(), ""),
        (encoded(config={**ROW, "size": -1}, layers=[]), ""),
        (encoded(config={**ROW, "size": 1.5}, layers=[]), ""),
        (encoded(config={**ROW, "digest": "sha256:x"}, layers=[]), ""),
        (encoded(layers=[]), ""),
        (encoded(mediaType=mediatype.OCI_INDEX), ""),
        (b" " * (9 << 20), ""),
    ],
)
def test_what_is_ambiguous_or_malformed_is_refused(data: bytes, kind: str) -> None:
    with pytest.raises(InvalidManifest):
        parse(data, kind)


def test_a_version_that_was_left_out_by_a_go_program_is_no_reason_to_refuse() -> None:
    for parts in ({"config": ROW, "layers": []}, {"manifests": []}):
        document = parse(json.dumps({"schemaVersion": 0, **parts}).encode(), "")
        assert document.media_type in (mediatype.OCI_MANIFEST, mediatype.OCI_INDEX)


def test_a_kind_is_taken_from_the_sender_where_the_document_has_none() -> None:
    document = parse(encoded(config=ROW, layers=[ROW]), mediatype.DOCKER_MANIFEST + "; charset=utf-8")
    assert document.media_type == mediatype.DOCKER_MANIFEST


def test_manifest_and_index_are_told_apart() -> None:
    manifest, index = encoded(config=ROW, layers=[]), encoded(manifests=[ROW])
    assert isinstance(parse_manifest(manifest), Manifest)
    assert isinstance(parse_index(index), Index)
    with pytest.raises(InvalidManifest):
        parse_manifest(index)
    with pytest.raises(InvalidManifest):
        parse_index(manifest)


def test_an_index_is_chosen_from_by_platform() -> None:
    def child(n: int, *platform: str) -> Descriptor:
        return Descriptor(mediatype.OCI_MANIFEST, Digest.of(bytes([n])), 1, Platform(*platform) if platform else None)

    rows = [child(0, "linux", "amd64", "v2"), child(1, "linux", "amd64"), child(2, "linux", "arm", "v6"), child(3, "linux", "arm", "v7")]
    index = new_index(rows)
    assert index.choose(Platform()) == rows[1]
    assert index.choose(Platform("linux", "arm", "v7")) == rows[3]
    assert index.choose(Platform("linux", "s390x")) is None
    assert new_index([child(9)]).choose(Platform()) == child(9)
