"""As much of HTTP/2 (RFC 9113) and gRPC as it takes to refuse every call of a client with one sentence."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from urllib.parse import quote

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_FRAME_LIMIT = 1 << 14  # RFC 9113 6.5.2: SETTINGS_MAX_FRAME_SIZE unless we say otherwise
_FAILED_PRECONDITION = 9  # gRPC's code for: the system is not in the state that this needs


class NotHttp2(Exception):
    """What came is no HTTP/2, or breaks it."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def refusal(stream: int, message: str) -> bytes:
    """A gRPC answer that is nothing but the error; the stream is over for both sides."""
    block = (
        b"\x88"  # HPACK (RFC 7541 A): ":status: 200"
        + b"\x0f\x10"
        + _text("application/grpc")
        + b"\x00"
        + _text("grpc-status")
        + _text(str(_FAILED_PRECONDITION))
        + b"\x00"
        + _text("grpc-message")
        + _text(quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    )
    return frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, block) + frame(_RESET, 0, stream, bytes(4))


def _text(text: str) -> bytes:
    """A string literal without Huffman coding (RFC 7541 5.2)."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + data


def answers(read: Callable[[int], bytes], message: str) -> Iterator[bytes]:
    """What to send, in order, to a client that speaks HTTP/2 over `read` (exactly that many bytes, fewer at the end): `message` to every call.

    Raises:
        NotHttp2: the client speaks something else.
    """
    if read(len(PREFACE)) != PREFACE:
        raise NotHttp2
    yield frame(_SETTINGS, 0, 0)
    while len(head := read(9)) == 9:
        size = int.from_bytes(head[:3])
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        if size > _FRAME_LIMIT:
            raise NotHttp2
        payload = read(size)
        if kind == _GOAWAY or len(payload) < size:
            return
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            yield frame(kind, _ACK, 0, payload if kind == _PING else b"")
        elif kind in (_HEADERS, _CONTINUATION) and flags & _END_HEADERS:
            yield refusal(stream & 0x7FFFFFFF, message)


def refuse(fd: int, pending: bytes, message: str) -> None:
    """Answer the client on socket `fd`, of which `pending` was read, until it goes."""
    held = bytearray(pending)

    def read(size: int) -> bytes:
        while len(held) < size and (data := os.read(fd, 1 << 16)):
            held.extend(data)
        piece = bytes(held[:size])
        del held[:size]
        return piece

    try:
        for answer in answers(read, message):
            os.write(fd, answer)
    except (NotHttp2, ConnectionError):
        pass
