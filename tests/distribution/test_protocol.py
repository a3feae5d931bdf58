"""Headers and paths of the distribution specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.distribution.auth import Auth, ChallengeUnusable, InvalidAuth, read_grant, token_request
from lamina.distribution.protocol import (
    Challenge,
    RangeNotSatisfiable,
    byte_range,
    challenges,
    error_details,
    is_insecure,
    next_link,
    received,
    registry_host,
    server_host,
    span,
    split_host,
    upload_path,
    with_digest,
)
from lamina.distribution.search import split_term
from lamina.distribution.transport import retry_after
from lamina.errors import LaminaError
from lamina.spec.digest import Digest

_TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
_QUOTED = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=30)


def test_a_bearer_challenge_is_read_with_commas_inside_its_scope() -> None:
    header = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"'
    assert challenges([header]) == (
        Challenge("bearer", {"realm": "https://auth.example/token", "service": "registry.example", "scope": "repository:a/b:pull,push"}),
    )


def test_several_challenges_in_one_header_are_told_apart() -> None:
    assert challenges(['Negotiate, Basic realm="x y", Bearer realm=z']) == (
        Challenge("negotiate", {}),
        Challenge("basic", {"realm": "x y"}),
        Challenge("bearer", {"realm": "z"}),
    )


@given(st.dictionaries(_TOKENS, _QUOTED, max_size=5), _TOKENS)
def test_parsing_a_challenge_undoes_writing_it(parameters: dict[str, str], scheme: str) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
    assert challenges([header]) == (Challenge(scheme, parameters),)


@given(st.lists(st.text()))
def test_any_challenge_is_read_or_left_out(headers: list[str]) -> None:
    challenges(headers)


@given(st.lists(st.text()), st.text("/abc?=&"))
def test_any_link_is_read_or_left_out(headers: list[str], base: str) -> None:
    next_link(headers, base)


def test_the_next_page_is_found_among_other_links() -> None:
    header = '</first>; rel="first", </v2/_catalog?last=b&n=2>; rel="next"'
    assert next_link([header], "https://r.example/v2/_catalog") == "https://r.example/v2/_catalog?last=b&n=2"
    assert next_link(['</x>; rel="prev"'], "/") == ""
    assert next_link(["</y>; rel=next"], "/v2") == "/y"
    assert next_link(["<http://[>; rel=next"], "/v2") == "http://["  # no page to be passed over, and none to be asked for


@given(st.integers(1, 1000), st.integers(0, 999), st.integers(0, 2000))
def test_a_range_within_the_size_is_cut_to_it(size: int, first: int, last: int) -> None:
    if last < first:
        assert byte_range(f"bytes={first}-{last}", size) is None
    elif first >= size:
        with pytest.raises(RangeNotSatisfiable):
            byte_range(f"bytes={first}-{last}", size)
    else:
        assert byte_range(f"bytes={first}-{last}", size) == (first, min(last + 1, size))


def test_open_and_suffix_ranges_are_understood() -> None:
    assert byte_range("bytes=10-", 20) == (10, 20)
    assert byte_range("bytes=-5", 20) == (15, 20)
    assert byte_range("bytes=-50", 20) == (0, 20)
    assert byte_range("bytes=0-1,3-4", 20) is None
    assert byte_range("items=0-1", 20) is None


@given(st.text(), st.integers(0, 100))
def test_any_range_is_accepted_or_refused(value: str, size: int) -> None:
    try:
        bounds = byte_range(value, size)
    except RangeNotSatisfiable:
        return
    assert bounds is None or 0 <= bounds[0] < bounds[1] <= size


@given(st.text())
def test_any_span_is_read_or_none(value: str) -> None:
    bounds = span(value)
    assert bounds is None or bounds[0] <= bounds[1]


def test_what_an_upload_has_received() -> None:
    assert received("0-99") == 100
    assert received("bytes=0-99") == 100
    assert received("0-0") == 0
    assert received("") == 0


@given(st.binary())
def test_any_error_body_is_read_or_ignored(body: bytes) -> None:
    error_details(body)


def test_an_error_body_gives_its_first_code_and_message() -> None:
    assert error_details(b'{"errors":[{"code":"DENIED","message":"no\\n way"}]}') == ("DENIED", "no way")


@pytest.mark.parametrize(
    ("host", "allowed", "insecure"),
    [
        ("localhost:5000", (), True),
        ("127.4.5.6", (), True),
        ("[::1]:5000", (), True),
        ("localhost.example", (), False),
        ("10.1.2.3:5000", (), False),
        ("10.1.2.3:5000", ("10.0.0.0/8",), True),
        ("r.example:5000", ("r.example:5000",), True),
        ("r.example:5001", ("r.example:5000",), False),
    ],
)
def test_who_may_be_spoken_to_without_a_known_certificate(host: str, allowed: tuple[str, ...], insecure: bool) -> None:
    assert is_insecure(host, allowed) is insecure


def test_dockers_names_for_itself() -> None:
    assert registry_host("docker.io") == "registry-1.docker.io"
    assert registry_host("ghcr.io") == "ghcr.io"
    assert server_host("https://index.docker.io/v1/") == server_host("") == "index.docker.io"
    assert server_host("localhost:5000") == "localhost:5000"
    assert split_host("[::1]:5000") == ("::1", 5000)
    assert split_host("r.example") == ("r.example", None)


def test_a_search_term_may_begin_with_a_host() -> None:
    assert split_term("localhost:5000/web") == ("localhost:5000", "web")
    assert split_term("library/web") == ("index.docker.io", "library/web")


def test_paths_quote_what_they_carry() -> None:
    digest = Digest.of(b"")
    assert upload_path("a/b", mount=digest, source="c/d").endswith(f"?mount=sha256%3A{digest.encoded}&from=c%2Fd")
    assert with_digest("/u?state=x", digest) == f"/u?state=x&digest=sha256%3A{digest.encoded}"
    assert with_digest("/u", digest).startswith("/u?digest=")


def test_docker_sends_credentials_as_base64url_of_json() -> None:
    assert Auth.parse("e30=") == Auth.parse("e30") == Auth.parse("") == Auth.parse("bnVsbA==") == Auth()
    assert Auth.parse("eyJ1c2VybmFtZSI6ICJhIiwgInBhc3N3b3JkIjogImIifQ") == Auth("a", "b")
    assert Auth.from_fields({"auth": "YTpiOmM="}) == Auth("a", "b:c")
    assert "secret" not in repr(Auth("name", "secret", "secret", "secret"))


@given(st.text())
def test_any_credentials_are_read_or_refused(header: str) -> None:
    try:
        Auth.parse(header)
    except InvalidAuth:
        pass


@pytest.mark.parametrize("token", ["a\r\nX: y", "ß"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_told(token: str) -> None:
    with pytest.raises(InvalidAuth) as refused:
        Auth.from_fields({"registrytoken": token})
    assert token not in str(refused.value)


@given(st.binary())
def test_any_token_answer_is_read_or_refused(body: bytes) -> None:
    try:
        read_grant(body, 0.0)
    except LaminaError:
        pass


def test_a_token_request_asks_for_the_scopes_with_the_password_or_the_identity_token() -> None:
    challenge = Challenge("bearer", {"realm": "https://auth.example/token", "service": "r"})
    plain = token_request(challenge, ["repository:a:pull"], Auth("u", "p"))
    assert plain.url.startswith("https://auth.example/token?service=r&scope=repository%3Aa%3Apull&account=u")
    assert plain.authorization == "Basic dTpw"
    assert token_request(challenge, [], Auth()).authorization == ""
    refreshed = token_request(challenge, ["x"], Auth(identity_token="i"))
    assert b"refresh_token=i" in refreshed.body and b"grant_type=refresh_token" in refreshed.body


def test_a_token_without_a_lifetime_is_not_kept_for_long() -> None:
    assert read_grant(b'{"token":"t"}', 100.0).expires == 154.0
    assert read_grant(b'{"access_token":"t","expires_in":1000}', 0.0).expires == 900.0
    assert read_grant(b'{"token":"t","expires_in":NaN}', 100.0).expires == 154.0
    with pytest.raises(ChallengeUnusable):
        read_grant(b'{"token":"t","expires_in":%s}' % (b"9" * 400), 0.0)


def test_retry_after_is_seconds_or_nothing() -> None:
    assert retry_after("3") == 3.0
    assert retry_after("Wed, 21 Oct 2026 07:28:00 GMT") == 0.0
