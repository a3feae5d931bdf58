"""A client's session: over it the daemon is the one who calls, and asks for files, secrets, credentials and SSH agents."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote_plus

from lamina.buildkit import tree
from lamina.buildkit.failure import NOT_FOUND, UNIMPLEMENTED, Refused
from lamina.buildkit.http2 import Gone, Stream, Transport
from lamina.buildkit.messages import BytesMessage, CredentialsRequest, CredentialsResponse, Empty, SecretRequest
from lamina.buildkit.wire import decode, encode
from lamina.distribution.auth import Auth

_HUB = "registry-1.docker.io"
_PIECE = 1 << 20
Answer = TypeVar("Answer")


class Session:
    """One client's, as long as its connection is open."""

    def __init__(self, sock: socket.socket) -> None:
        self._transport = Transport(sock)

    def run(self, pending: bytes = b"") -> None:
        """Hold the connection until it ends."""
        self._transport.run(pending)

    def close(self) -> None:
        """Cut the connection."""
        self._transport.close()

    def tree(self, name: str, path: str, options: Mapping[str, Sequence[str]], progress: Callable[[int], None]) -> None:
        """Write the client's directory `name` as a tar to `path`. `options` are followpaths, include-patterns and exclude-patterns.

        Raises:
            Refused: the client does not give it.
        """
        metadata = [("dir-name", name)]
        for key, values in options.items():
            encoded = not all(value.isascii() for value in values)
            metadata += [(key, quote_plus(value) if encoded else value) for value in values]
            if encoded:
                metadata.append((f"{key}-encoded", "1"))
        stream = self._transport.call("/moby.filesync.v1.FileSync/DiffCopy", metadata)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            tree.receive(stream, fd, progress)
        except BaseException:
            stream.cancel()
            raise
        finally:
            os.close(fd)

    def upload(self, name: str, path: str) -> None:
        """Write what the client got on its standard input to `path`."""
        stream = self._transport.call("/moby.upload.v1.Upload/Pull", [("urlpath", f"/{name}"), ("urlhost", "buildkit-session")])
        with open(path, "wb") as file:
            while (raw := stream.receive()) is not None:
                file.write(decode(BytesMessage, raw).data)

    def send_tree(self, number: int, tar: str) -> None:
        """Have the client's exporter `number` write the files of a tar into its folder."""
        with self._sending(number) as stream:
            tree.send(stream, tar)

    def send_file(self, number: int, path: str) -> None:
        """Have the client's exporter `number` write a file."""
        with self._sending(number) as stream, open(path, "rb") as file:
            while data := file.read(_PIECE):
                stream.send(encode(BytesMessage(data)))

    @contextmanager
    def _sending(self, number: int) -> Iterator[Stream]:
        """A call of the client's FileSend; waits until it has written everything."""
        stream = self._transport.call("/moby.filesync.v1.FileSend/DiffCopy", [("buildkit-attachable-exporter-id", str(number))])
        try:
            yield stream
            with contextlib.suppress(Gone):
                stream.finish()
            while stream.receive() is not None:
                pass
        except BaseException:
            stream.cancel()
            raise

    def secret(self, name: str) -> bytes | None:
        """A secret, None where the client has none of that name."""
        try:
            return self._unary("/moby.buildkit.secrets.v1.Secrets/GetSecret", SecretRequest(name), BytesMessage).data
        except Refused as error:
            if error.number in (NOT_FOUND, UNIMPLEMENTED):
                return None
            raise

    def credentials(self, host: str) -> Auth | None:
        """What the client knows for a registry."""
        asked = CredentialsRequest(_HUB if host in ("docker.io", "index.docker.io") else host)
        try:
            found = self._unary("/moby.filesync.v1.Auth/Credentials", asked, CredentialsResponse)
        except Refused:
            return None
        if not found.secret:
            return None
        return Auth.from_fields(
            {"username": found.username, "password": found.secret} if found.username else {"identitytoken": found.secret}
        )

    def has_agent(self, name: str) -> bool:
        """Whether the client forwards an SSH agent of that name."""
        try:
            self._unary("/moby.sshforward.v1.SSH/CheckAgent", SecretRequest(name), Empty)
        except Refused:
            return False
        return True

    def agent(self, name: str) -> socket.socket:
        """A connection to an SSH agent, the caller's to close."""
        stream = self._transport.call("/moby.sshforward.v1.SSH/ForwardAgent", [("buildkit.ssh.id", name)])
        near, far = socket.socketpair()
        threading.Thread(target=_outwards, args=(far, stream), name="agent", daemon=True).start()
        threading.Thread(target=_inwards, args=(far, stream), name="agent", daemon=True).start()
        return near

    def _unary(self, path: str, message: object, answer: type[Answer]) -> Answer:
        stream = self._transport.call(path)
        # in one piece: grpc-go answers a message, and closes the call, before it has heard that no more comes
        stream.send(encode(message), last=True)
        raw = stream.receive()
        while stream.receive() is not None:
            pass
        return decode(answer, raw or b"")


def _outwards(sock: socket.socket, stream: Stream) -> None:
    with contextlib.suppress(OSError, Refused):
        while data := sock.recv(1 << 15):
            stream.send(encode(BytesMessage(data)))
    with contextlib.suppress(Refused):
        stream.finish()


def _inwards(sock: socket.socket, stream: Stream) -> None:
    with sock:
        with contextlib.suppress(OSError, Refused):
            while (raw := stream.receive()) is not None:
                sock.sendall(decode(BytesMessage, raw).data)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
