"""JSON and percent encoding by C functions, against the library's own."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.client.text import decode, document, encode, query, quoted
from lamina.errors import Corrupt, InvalidArgument

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_decoding_undoes_encoding(value: object) -> None:
    assert decode(encode(value)) == value


@given(values)
def test_the_encoding_is_the_librarys(value: object) -> None:
    assert encode(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_bytes_that_are_not_utf8_are_sent_as_docker_sends_them() -> None:
    assert (
        encode({"Cmd": [b"\xffa\xe9".decode("utf-8", "surrogateescape"), "\U0001f40b"]})
        == '{"Cmd":["\ufffda\ufffd","\U0001f40b"]}'.encode()
    )


@given(st.binary() | st.text())
def test_any_text_is_accepted_or_refused(text: bytes | str) -> None:
    try:
        decode(text)
    except Corrupt:
        pass


def test_a_second_document_behind_the_first_is_refused() -> None:
    with pytest.raises(Corrupt):
        decode("{} {}")


def test_blanks_around_a_document_are_passed_over() -> None:
    assert decode(b' \r\n {"a": 1}\r\n') == {"a": 1}


def test_what_is_no_object_is_an_empty_document() -> None:
    assert document("[1]") == {} and document("") == {}


def test_an_empty_part_of_a_path_is_refused_and_an_empty_value_is_not() -> None:
    with pytest.raises(InvalidArgument, match="is empty"):
        quoted("")
    assert query([("a", "")]) == "?a="


@given(st.text(min_size=1))
def test_quoting_is_the_librarys(text: str) -> None:
    try:
        expected = quote(text, safe="")
    except UnicodeEncodeError:
        return
    assert quoted(text) == expected
    assert unquote(quoted(text)) == text


def test_a_query_joins_its_pairs() -> None:
    assert query([("a", "b c"), ("d", "&")]) == "?a=b%20c&d=%26" and query([]) == ""
