"""What a client of BuildKit's protocol is told: one sentence, to every call."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.api import http2
from tests.api.conftest import Client

CALL = b"\x83\x86\x45\x00"  # a block of headers that nobody reads


def _answers(sent: bytes, message: str = "no") -> list[bytes]:
    return list(http2.answers(io.BytesIO(sent).read, message))


def test_every_call_is_refused_with_the_sentence() -> None:
    sent = http2.PREFACE + http2.frame(4, 0, 0) + http2.frame(1, 4, 1, CALL) + http2.frame(0, 1, 1, b"body") + http2.frame(1, 5, 3, CALL)
    settings, acknowledged, first, second = _answers(sent, "set 100% of it: é")
    assert (settings, acknowledged) == (http2.frame(4, 0, 0), http2.frame(4, 1, 0))
    assert first[3:9] == b"\x01\x05\x00\x00\x00\x01" and second[5:9] == b"\x00\x00\x00\x03"
    assert b"grpc-status\x019" in first and b"set 100%25 of it: %C3%A9" in first


def test_pings_are_answered() -> None:
    assert _answers(http2.PREFACE + http2.frame(6, 0, 0, b"12345678"))[1:] == [http2.frame(6, 1, 0, b"12345678")]


@given(st.binary(max_size=200))
def test_anything_is_answered_or_refused(sent: bytes) -> None:
    for begin in (b"", http2.PREFACE):
        try:
            _answers(begin + sent)
        except http2.NotHttp2:
            pass


@pytest.mark.refuses("api:POST /session")
def test_buildkits_protocol_is_refused_with_what_to_do(api: Client) -> None:
    for path in ("/session", "/grpc"):
        status, body = api.ask("POST", path)
        assert status == 501 and b"set DOCKER_BUILDKIT=0" in body
    with api.connect() as sock:
        sock.sendall(b"POST /grpc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        sock.sendall(http2.PREFACE + http2.frame(1, 4, 1, CALL))
        data = b""
        while b"DOCKER_BUILDKIT" not in data:
            data += sock.recv(4096)
    assert data.startswith(b"HTTP/1.1 101 ")
