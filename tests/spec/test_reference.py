"""References: Docker's defaults, the grammar, and any text accepted or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.spec.reference import InvalidReference, Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("index.docker.io/library/app", "docker.io/library/app", "app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app", "127.0.0.1:5000/app"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"r.example/app:1@{DIGEST}", f"r.example/app:1@{DIGEST}", f"r.example/app:1@{DIGEST}"),
        ("docker.io/user/a__b-c.d", "docker.io/user/a__b-c.d", "user/a__b-c.d"),
    ],
)
def test_a_reference_is_completed_as_docker_does(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar) == (full, familiar)


@pytest.mark.parametrize(
    "text", ["", ":", "a:", "A", "app:", "-a", "a..b", "a//b", "/a", "a/", "app:-x", "app@", "a b", "x" * 300, "http://a/b", "é"]
)
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Reference.parse(text)


@pytest.mark.parametrize("text", ["app@", "app@one", "app@sha256:", "app@sha256:abcd", f"app@{DIGEST}@{DIGEST}", "app@sha256:" + "z" * 64])
def test_what_is_no_digest_makes_no_reference_as_with_docker(text: str) -> None:
    with pytest.raises(InvalidReference, match="invalid reference format"):
        Reference.parse(text)


def test_64_hexadecimal_digits_are_an_id_and_no_name() -> None:
    with pytest.raises(InvalidReference, match="64-byte hexadecimal"):
        Reference.parse("ab" * 32)


def test_an_uppercase_repository_says_so() -> None:
    with pytest.raises(InvalidReference, match="must be lowercase"):
        Reference.parse("docker.io/User/app")


def test_the_default_tag_is_latest_unless_a_digest_names_it() -> None:
    assert Reference.parse("app").with_default_tag().tag == "latest"
    assert Reference.parse(f"app@{DIGEST}").with_default_tag().tag == ""


@given(st.text())
def test_any_text_is_accepted_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


def test_a_repository_is_checked_before_a_tag_is_put_to_it() -> None:
    assert Reference.of("x", "").familiar == "x"
    assert Reference.of("example.org:5000/x:1", "2").familiar == "example.org:5000/x:2"
    assert Reference.of("x:1", DIGEST) == Reference.of(f"x@{DIGEST}", "") == Reference.parse(f"x@{DIGEST}")
    for repository in ("a" * 64, "x:", ""):
        with pytest.raises(InvalidReference):
            Reference.of(repository, "1")
