"""A server that costs nothing, for what the docker CLI alone needs of a `cp`: what it sends is dropped, what it gets was packed before;
and for what a ping takes of nobody but a machine that is busy.

`python -m bench.floor SOCKET FOLDER`: FOLDER/NAME.tar is what a container's /NAME is answered with.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_END = b"\r\n0\r\n\r\n"
_DIRECTORY = 1 << 31


def main() -> None:
    """Serve until killed."""
    address, folder = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, Path(folder)), daemon=True).start()


def _serve(connection: socket.socket, folder: Path) -> None:
    with connection, suppress(ConnectionError):
        rest = b""
        while True:
            while b"\r\n\r\n" not in rest:
                if not (more := connection.recv(1 << 16)):
                    return
                rest += more
            head, _, rest = rest.partition(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n")[0].decode().split()
            if method == "PUT":
                _drop(connection, rest)
                rest = b""
            _answer(connection, method, target, folder)


def _drop(connection: socket.socket, tail: bytes) -> None:
    """Read a body in chunks to its end without looking for them: no tar ends as a body does."""
    buffer = bytearray(1 << 20)
    while not tail.endswith(_END):
        if not (size := connection.recv_into(buffer)):
            return
        tail = (tail + bytes(buffer[max(0, size - len(_END)) : size]))[-len(_END) :]


def _answer(connection: socket.socket, method: str, target: str, folder: Path) -> None:
    address = urlsplit(target)
    if address.path == "/_ping":
        _send(connection, method, b"OK")
        return
    if not address.path.endswith("/archive"):
        _send(connection, method, json.dumps({"Id": "x", "ApiVersion": "1.41", "Version": "0", "Os": "linux", "Arch": "x"}).encode())
        return
    path = parse_qs(address.query)["path"][0]
    tar = folder / f"{path.strip('/')}.tar"
    mode = 0o755 | (0 if path.strip("/") == "one" else _DIRECTORY)
    stat = {"name": path.strip("/") or "/", "size": 4096, "mode": mode, "mtime": "2020-01-01T00:00:00Z", "linkTarget": ""}
    told = "X-Docker-Container-Path-Stat: " + base64.b64encode(json.dumps(stat).encode()).decode() + "\r\n"
    if method != "GET":
        _send(connection, method, b"", told)
        return
    with open(tar, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        connection.sendall(_head(size, told + "Content-Type: application/x-tar\r\n"))
        connection.sendfile(file)


def _send(connection: socket.socket, method: str, body: bytes, more: str = "") -> None:
    connection.sendall(_head(len(body), more + "Content-Type: application/json\r\n") + (b"" if method == "HEAD" else body))


def _head(length: int, more: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: {length}\r\n{more}\r\n".encode()


if __name__ == "__main__":
    main()
