"""A websocket's client side (RFC 6455), as small as tests need it."""

from __future__ import annotations

import socket
import struct


class Websocket:
    """Does the handshake with RFC 6455's example key; sends masked messages, receives whole ones."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self._sock = sock
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._held = b""
        while b"\r\n\r\n" not in self._held:
            self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        self.head = head.decode() + "\r\n"

    def send(self, data: bytes, kind: int = 2) -> None:
        """One message, masked as clients must."""
        mask = b"\x01\x02\x03\x04"
        size = struct.pack(">B", 0x80 | len(data)) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
        self._sock.sendall(bytes([0x80 | kind]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def receive(self) -> tuple[int, bytes]:
        """The next message's kind and data."""
        first, size = self._take(2)
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8))
        return first & 0x0F, self._take(size)

    def output(self) -> bytes:
        """All binary messages until the server says goodbye."""
        whole = b""
        while (message := self.receive())[0] != 8:
            whole += message[1] if message[0] == 2 else b""
        return whole

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        data, self._held = self._held[:size], self._held[size:]
        return data

    def _more(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._held += data
