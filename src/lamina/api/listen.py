"""Listening sockets from addresses as dockerd spells them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from lamina.errors import Conflict, InvalidArgument

_SUN_PATH = 107


class AddressInUse(Conflict):
    """Another process listens there."""


def checked(address: str) -> str:
    """The address, if `listen` can understand it.

    Raises:
        InvalidArgument: it cannot.
    """
    scheme, _, rest = address.partition("://")
    if scheme == "tcp" and rest:
        _, colon, port = rest.rstrip("/").rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise InvalidArgument(f"invalid address to listen on: tcp://{rest[:200]}", hint="name a port: tcp://host:2376")
    elif not rest or scheme not in ("unix", "fd") or (scheme == "fd" and not rest.isdigit()):
        raise InvalidArgument(
            f"invalid address to listen on: {address[:200]!r}", hint="write it as unix:///run/lamina.sock or tcp://host:2376"
        )
    return address


def listen(address: str) -> socket.socket:
    """A listening socket for `unix:///path`, `tcp://host:port` or `fd://N` (a socket another process made).

    A socket file that nobody listens on is replaced; the new one is for root and its group alone.

    Raises:
        InvalidArgument: the address is of no known kind, or the system refuses it.
        AddressInUse: somebody listens there.
    """
    scheme, _, rest = checked(address).partition("://")
    try:
        if scheme == "unix":
            return _listen_unix(rest)
        return socket.socket(fileno=int(rest)) if scheme == "fd" else _listen_tcp(rest)
    except OSError as error:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else InvalidArgument
        raise kind(f"{address} cannot be listened on: {(error.strerror or str(error)).lower()}") from None


def _listen_tcp(rest: str) -> socket.socket:
    host, _, port = rest.rstrip("/").rpartition(":")
    found = socket.getaddrinfo(host.strip("[]") or "0.0.0.0", int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return socket.create_server(found[0][4][:2], family=found[0][0], backlog=512)


def _listen_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise AddressInUse(f"{path} is there and is not a socket")
        if _answers(path):
            raise AddressInUse(f"another process listens on {path}")
        os.unlink(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o117)
    try:
        with _short(path) as name:
            sock.bind(name)
    finally:
        os.umask(mask)
    sock.listen(512)
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short(path) as name:
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


@contextlib.contextmanager
def _short(path: str):  # type: ignore[no-untyped-def]
    """A name for `path` that fits into sun_path (unix(7): 108 bytes)."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)
