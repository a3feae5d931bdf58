"""Compressed streams."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.layer.compression import OUTPUT_LIMIT, detect, detect_layer, inflater, zstd_deflater
from lamina.layer.errors import InvalidArchive, TruncatedArchive, UnsupportedArchive

OTHERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def packed(name: str, data: bytes) -> bytes:
    if name in OTHERS:
        return OTHERS[name](data)
    deflater = zstd_deflater()
    return deflater.compress(data) + deflater.flush()


def unpacked(name: str, data: bytes, step: int = 0) -> bytes:
    stream = inflater(name)
    out = b"".join(
        piece for at in range(0, len(data), step or max(1, len(data))) for piece in stream.feed(data[at : at + (step or len(data))])
    )
    stream.finish()
    return out


ALL = ["gzip", "zstd", "bzip2", "xz"]
NAMES = st.sampled_from(ALL)


@given(NAMES, st.lists(st.binary(max_size=3000), min_size=1, max_size=3), st.integers(1, 50))
def test_unpacking_undoes_packing_however_it_is_cut_and_joined(name: str, parts: list[bytes], step: int) -> None:
    data = b"".join(packed(name, part) for part in parts)
    assert unpacked(name, data, step) == unpacked(name, data) == b"".join(parts)


@pytest.mark.parametrize("name", ALL)
def test_it_is_told_by_its_first_bytes(name: str) -> None:
    assert detect(packed(name, b"x")[:6]) == name
    assert detect(b"") == detect(b"etc/passwd") == ""
    assert detect(b"\x50\x2a\x4d\x18\x04\0") == "zstd"


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x1f\x9d\x90"])
def test_other_compressions_are_refused_by_name(head: bytes) -> None:
    with pytest.raises(UnsupportedArchive, match=r"zip|compress"):
        detect(head)


@pytest.mark.parametrize("name", ALL)
def test_layers_are_compressed_in_two_ways_only(name: str) -> None:
    head = packed(name, b"x")[:6]
    if name in ("gzip", "zstd"):
        assert detect_layer(head) == name
        return
    with pytest.raises(UnsupportedArchive, match=f"{name} archives are not supported as layers"):
        detect_layer(head)


def test_an_xz_stream_that_asks_for_gigabytes_is_refused() -> None:
    """How much memory unpacking takes stands in the stream."""
    asking = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "preset": 0}])
    with pytest.raises(InvalidArchive, match="damaged xz stream"):
        unpacked("xz", asking)


@pytest.mark.parametrize("name", ALL)
def test_a_cut_stream_is_truncated(name: str) -> None:
    data = packed(name, bytes(range(256)) * 40)
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(TruncatedArchive):
            unpacked(name, data[:cut])


@given(NAMES, st.binary(max_size=200))
def test_any_bytes_are_unpacked_or_refused(name: str, data: bytes) -> None:
    try:
        unpacked(name, data)
    except InvalidArchive:
        pass


@pytest.mark.parametrize("name", ALL)
def test_a_changed_content_is_noticed(name: str) -> None:
    data = bytearray(packed(name, b"hello" * 100))
    data[-5] ^= 1
    with pytest.raises(InvalidArchive):
        unpacked(name, bytes(data))


@pytest.mark.parametrize("name", ALL)
def test_zeros_after_the_end_are_padding_and_other_bytes_garbage(name: str) -> None:
    data = packed(name, b"hello")
    assert unpacked(name, data + bytes(100), 7) == b"hello"
    with pytest.raises(InvalidArchive):
        unpacked(name, data + bytes(100) + b"x")
    with pytest.raises(InvalidArchive):
        unpacked(name, data + b"garbage")


@pytest.mark.parametrize("name", ALL)
def test_a_bomb_comes_out_in_small_pieces(name: str) -> None:
    stream = inflater(name)
    sizes = [len(piece) for piece in stream.feed(packed(name, bytes(20 << 20)))]
    assert sum(sizes) == 20 << 20
    assert max(sizes) <= OUTPUT_LIMIT


def test_what_others_pack_is_read() -> None:
    assert unpacked("gzip", gzip.compress(b"hello" * 1000, 9)) == b"hello" * 1000
