"""Image configurations: read as OCI and Docker write them, accepted or refused, never a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.spec import config as configs
from lamina.spec.config import ContainerConfig, Healthcheck, History, ImageConfig, InvalidConfig, RootFS
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform

DIFF = "sha256:" + "a" * 64
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = st.lists(texts, max_size=3).map(tuple)
values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=10)  # fmt: skip
KEYS = [
    "architecture",
    "os",
    "rootfs",
    "config",
    "history",
    "created",
    "diff_ids",
    "type",
    "Cmd",
    "Env",
    "Labels",
    "Volumes",
    "Healthcheck",
    "Test",
    "os.features",
]
documents = st.recursive(values, lambda inner: st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=6), max_leaves=20)
containers = st.builds(
    ContainerConfig, user=texts, env=words, cmd=words, entrypoint=words, working_dir=texts, labels=st.dictionaries(texts, texts, max_size=3),
    exposed_ports=st.dictionaries(texts, st.just({}), max_size=2), shell=words, on_build=words,
    healthcheck=st.none() | st.builds(Healthcheck, test=words, interval=st.integers(0, 2**62)),
)  # fmt: skip
images = st.builds(
    ImageConfig, architecture=texts, os=texts, rootfs=st.builds(RootFS, diff_ids=st.lists(st.just(DIFF), max_size=3).map(tuple)), config=containers,
    created=texts, author=texts, variant=texts, os_features=words,
    history=st.lists(st.builds(History, created_by=texts, empty_layer=st.booleans()), max_size=3).map(tuple),
)  # fmt: skip


@given(images)
def test_parse_undoes_encode(image: ImageConfig) -> None:
    data = configs.encode(image)
    assert configs.parse(data) == image
    assert configs.encode(configs.parse(data)) == data


@given(st.binary() | documents.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    try:
        configs.parse(data)
    except InvalidConfig as error:
        assert "\n" not in error.message


def test_null_is_absent() -> None:
    data = b"""{"architecture":"arm64","os":"linux","variant":null,"history":[{"created":null,"created_by":"x"}],
        "config":{"Cmd":null,"Env":["A=b=c","D"],"Labels":null,"ExposedPorts":{"80/tcp":null},"Healthcheck":{"Test":null},"OnBuild":null},
        "rootfs":{"type":"layers","diff_ids":null}}"""
    image = configs.parse(data)
    assert image.config.cmd == ()
    assert image.config.environment() == {"A": "b=c", "D": ""}
    assert dict(image.config.exposed_ports) == {"80/tcp": {}}
    assert image.diff_ids == ()
    assert image.platform == Platform("linux", "arm64")


def test_a_command_that_is_a_string_is_one_word() -> None:
    assert configs.parse(b'{"config":{"Cmd":"/bin/sh -c x"}}').config.cmd == ("/bin/sh -c x",)


@pytest.mark.parametrize(
    "data",
    [b"[]", b"null", b"", b"{" * 10_000, b'{"rootfs":{"type":"vhd"}}', b'{"rootfs":{"diff_ids":["x"]}}', b'{"config":{"Env":[1]}}',
     b'{"config":[]}', b'{"history":[null]}', b'{"history":{}}', b'{"rootfs":{"diff_ids":"' + DIFF.encode() + b'"}}', b"x" * (configs.LIMIT + 1)],
)  # fmt: skip
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidConfig):
        configs.parse(data)


def test_diff_ids_are_digests() -> None:
    image = configs.parse(b'{"rootfs":{"diff_ids":["' + DIFF.encode() + b'"]}}')
    assert image.diff_ids == (Digest.parse(DIFF),)


def test_replace_changes_the_container_part() -> None:
    image = configs.parse(b'{"os":"linux","config":{"User":"a"}}')
    assert configs.replace(image, user="b").config.user == "b"


def test_numbers_that_others_cannot_read_are_refused() -> None:
    document = {"rootfs": {"type": "layers", "diff_ids": []}, "config": {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 10**30}}}
    with pytest.raises(InvalidConfig, match="number out of range"):
        configs.parse(json.dumps(document).encode())
