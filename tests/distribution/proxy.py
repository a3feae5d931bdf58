"""A proxy for HTTP that leads to one server whatever host is asked for, and remembers what it was asked."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards requests and makes tunnels (RFC 9110, 9.3.6), both to `target`, one request a connection."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.asked: list[str] = []
        """The first line of each request."""
        self.authorizations: set[str] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = "{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            head, _, rest = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            self.asked.append(first)
            self.authorizations |= {line.partition(": ")[2] for line in lines if line.lower().startswith("proxy-authorization:")}
            method, address, version = first.split(" ")
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = "/" + address.partition("://")[2].partition("/")[2]
                rest = "\r\n".join((f"{method} {path} {version}", *lines, "Connection: close", "", "")).encode("latin-1") + rest
            server.sendall(rest)
            there = threading.Thread(target=_pass, args=(client, server), daemon=True)
            there.start()
            _pass(server, client)
            there.join(10)


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
