"""`lamina registry serve`: a registry of the OCI distribution specification, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """`address` is host:port (port 0 lets the kernel choose); `users` a file of `name:hash` lines, none means anonymous."""

    root: str
    address: str = "127.0.0.1:5000"
    users: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    read_only: bool = False
    delete: bool = True


def serve(options: ServeOptions, *, ready: Callable[[str, int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called with host and port once connections are accepted."""
    raise NotImplementedError
