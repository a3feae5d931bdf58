"""Protocol Buffers on the wire: known bytes, there and back, and anything else refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.buildkit import messages
from lamina.buildkit.failure import Refused
from lamina.buildkit.messages import Definition, Exporter, Packet, SolveRequest, Stat, Vertex
from lamina.buildkit.wire import Malformed, decode, encode


def test_known_bytes() -> None:
    assert encode(Packet(type=2, id=150, data=b"x")) == bytes.fromhex("0802189601220178")
    assert decode(Packet, bytes.fromhex("0802189601220178")) == Packet(type=2, id=150, data=b"x")


def test_negative_numbers_take_ten_bytes_as_proto3_has_it() -> None:
    assert encode(Stat(mtime=-1)) == b"\x30" + b"\xff" * 9 + b"\x01"
    assert decode(Stat, encode(Stat(mtime=-1))).mtime == -1


def test_unknown_fields_are_skipped() -> None:
    assert decode(Packet, bytes.fromhex("f80601 fd0601020304 fa060161 1805".replace(" ", ""))) == Packet(id=5)


def test_a_reason_that_is_no_utf8_is_told_all_the_same() -> None:
    assert dict(Refused("unknown instruction: \udcffF").trailers())["grpc-message"] == "unknown instruction: %EF%BF%BDF"


def test_an_empty_message_differs_from_none() -> None:
    assert decode(Packet, encode(Packet(stat=Stat()))).stat == Stat()
    assert decode(Packet, encode(Packet())).stat is None


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(_TEXTS, _TEXTS, max_size=3), st.lists(_TEXTS, max_size=3), st.binary(max_size=300), st.booleans())
def test_there_and_back(attributes: dict[str, str], words: list[str], raw: bytes, flag: bool) -> None:
    asked = SolveRequest(
        ref="r", frontend_attrs=attributes, entitlements=tuple(words), internal=flag,
        exporters=(Exporter("moby", attributes), Exporter()), inputs={"a": Definition((raw, b""))},
    )  # fmt: skip
    assert decode(SolveRequest, encode(asked)) == asked


@given(st.binary(max_size=100))
def test_anything_is_a_message_or_malformed(raw: bytes) -> None:
    for kind in (SolveRequest, Packet, Vertex):
        try:
            decode(kind, raw)
        except Malformed:
            pass


@pytest.mark.parametrize("kind", [kind for kind in vars(messages).values() if dataclasses.is_dataclass(kind)])
def test_no_message_uses_a_number_twice(kind: type) -> None:
    numbers = [field.metadata["number"] for field in dataclasses.fields(kind)]
    assert len(numbers) == len(set(numbers))
