"""Websockets (RFC 6455), the server's side: frames, and the relay between a client and a container's streams."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from lamina.api.message import InvalidParameter, Request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_MESSAGE_LIMIT = 1 << 20
_PIECE = 1 << 15
_NORMAL, _BROKEN, _TOO_BIG = 1000, 1002, 1009


class Broken(Exception):
    """The client breaks the protocol, or went away; `status` is what it is told."""

    def __init__(self, status: int = _BROKEN) -> None:
        super().__init__(status)
        self.status = status


def accepted(request: Request) -> tuple[tuple[str, str], ...]:
    """The headers that accept a client's handshake (RFC 6455 4.2).

    Raises:
        InvalidParameter: the request is not a handshake.
    """
    key = request.headers.get("sec-websocket-key", "")
    if request.headers.get("upgrade", "").lower() != "websocket" or not key:
        raise InvalidParameter("this is for websockets: the request does not ask for one")
    if request.headers.get("sec-websocket-version") != "13":
        raise InvalidParameter("only version 13 of websockets is spoken here")
    return (("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()),)


def frame(kind: int, data: bytes) -> bytes:
    """One whole message of the server's."""
    size = len(data)
    if size < 126:
        return struct.pack(">BB", 0x80 | kind, size) + data
    return struct.pack(">BBH", 0x80 | kind, 126, size) + data if size < 1 << 16 else struct.pack(">BBQ", 0x80 | kind, 127, size) + data


def read_frame(read: Callable[[int], bytes]) -> tuple[int, bytes]:
    """The next frame's kind and data; `read` gives exactly as many bytes, or raises Broken.

    Raises:
        Broken: it is not masked, too long, or malformed (RFC 6455 5.1, 5.5).
    """
    first, second = read(2)
    kind, size = first & 0x0F, second & 0x7F
    if first & 0x70 or not second & 0x80 or (kind >= _CLOSE and (size > 125 or not first & 0x80)):
        raise Broken
    if size >= 126:
        size = int.from_bytes(read(2 if size == 126 else 8))
    if size > _MESSAGE_LIMIT:
        raise Broken(_TOO_BIG)
    mask, data = read(4), read(size)
    whole = int.from_bytes(data) ^ int.from_bytes((mask * (size // 4 + 1))[:size])
    return kind, whole.to_bytes(size)


class Relay:
    """Carries bytes between a websocket on `fd` (of which `pending` was read) and `inner`, whose end belongs to the relay.

    What comes from `inner` in Docker's frames of stdout and stderr (`framed`) goes on without them, as dockerd has it.
    """

    def __init__(self, fd: int, pending: bytes, inner: socket.socket, *, framed: bool) -> None:
        self._fd, self._held, self._inner, self._framed = fd, bytearray(pending), inner, framed
        self._lock = threading.Lock()
        self._output_thread = threading.Thread(target=self._outwards, name="websocket", daemon=True)

    def start(self) -> None:
        """Begin to send what comes from the container: a log that is shown first may be longer than a socket holds."""
        self._output_thread.start()

    def run(self) -> None:
        """Carry until the streams end or the client goes; `start` comes first."""
        status = _NORMAL
        try:
            self._inwards()
        except Broken as broken:
            status = broken.status
        except OSError:
            pass
        with suppress(OSError):
            self._send(_CLOSE, struct.pack(">H", status))
        with suppress(OSError):
            self._inner.shutdown(socket.SHUT_RDWR)
        self._output_thread.join()
        self._inner.close()

    def _inwards(self) -> None:
        while True:
            kind, data = read_frame(self._read)
            if kind == _CLOSE:
                return
            if kind == _PING:
                self._send(_PONG, data)
            elif kind in (_CONTINUED, _TEXT, _BINARY):
                self._inner.sendall(data)
            elif kind != _PONG:
                raise Broken

    def _outwards(self) -> None:
        try:
            while data := self._output():
                self._send(_BINARY, data)
            self._send(_CLOSE, struct.pack(">H", _NORMAL))
            # the client answers with a close of its own, or goes: either ends _inwards
        except OSError:
            pass

    def _output(self) -> bytes:
        if not self._framed:
            return self._inner.recv(_PIECE)
        while len(head := self._whole(8)) == 8:
            if size := int.from_bytes(head[4:]):
                return self._whole(size)
        return b""

    def _whole(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size and (piece := self._inner.recv(size - len(data))):
            data += piece
        return bytes(data)

    def _send(self, kind: int, data: bytes) -> None:
        left = memoryview(frame(kind, data))
        with self._lock:
            while left:
                left = left[os.write(self._fd, left) :]

    def _read(self, size: int) -> bytes:
        while len(self._held) < size:
            piece = os.read(self._fd, 1 << 16)
            if not piece:
                raise Broken(_NORMAL)
            self._held += piece
        data = bytes(self._held[:size])
        del self._held[:size]
        return data
