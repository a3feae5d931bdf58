"""Digests, chain IDs and platforms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.spec.chain import chain_ids
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform

HEX = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"


def test_a_digest_is_of_the_bytes() -> None:
    assert str(Digest.of(b"")) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "text", ["", "sha256:", f"sha256:{HEX[:-1]}", f"sha256:{HEX.upper()}", f"md5:{HEX[:32]}", f"sha256:{HEX}\n", f"sha256:../{HEX}", HEX]
)
def test_a_malformed_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Digest.parse(text)


@given(st.text())
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    try:
        assert str(Digest.parse(text)) == text
    except InvalidArgument:
        pass


def test_the_bottom_layers_chain_id_is_its_diff_id() -> None:
    bottom = Digest.of(b"bottom")
    assert chain_ids([bottom]) == (bottom,)


def test_a_chain_id_is_of_the_parents_chain_id_and_the_diff_id() -> None:
    """image-spec config.md "Layer ChainID"."""
    first, second, third = (Digest.of(name) for name in (b"a", b"b", b"c"))
    chain = chain_ids([first, second, third])
    assert chain[1] == Digest.of(f"{first} {second}".encode())
    assert chain[2] == Digest.of(f"{chain[1]} {third}".encode())


def test_the_same_layer_over_another_parent_has_another_chain_id() -> None:
    one, two, same = (Digest.of(name) for name in (b"1", b"2", b"same"))
    assert chain_ids([one, same])[1] != chain_ids([two, same])[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("windows", "windows/amd64"),
        ("other/made-up", "other/made-up"),
        ("linux/armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
def test_a_platform_is_normalised(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d", "linux/", "linux/am d64", "foo", "x" * 5000])
def test_a_malformed_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Platform.parse(text)


def test_other_words_for_a_platform_are_understood_in_what_images_say() -> None:
    assert Platform("linux", "x86_64").matches(Platform.parse("linux/amd64"))
    assert Platform("linux", "aarch64").matches(Platform("linux", "arm64", "v8"))
    assert Platform("linux", "arm", "v7").matches(Platform.parse("linux/armhf"))
    assert not Platform("linux", "armel").matches(Platform("linux", "arm", "v7"))
    assert not Platform("linux", "x86_64").matches(Platform("linux", "arm64"))
