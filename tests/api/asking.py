"""One request to a running daemon, for operations that no command of the docker CLI sends."""

from __future__ import annotations

import http.client
import json
import socket

from tests.harness import Daemon


def asked(daemon: Daemon, operation: str, body: str = "{}") -> tuple[int, str]:
    """Send `GET /nodes` or the like; the status and the message of the answer."""
    method, _, path = operation.partition(" ")
    connection = http.client.HTTPConnection("lamina", timeout=120)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(daemon.socket))
        connection.request(method, f"/v1.51{path}", None if method == "GET" else body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    document = json.loads(data) if data.strip() else {}
    return response.status, str(document.get("message", "") if isinstance(document, dict) else "")
