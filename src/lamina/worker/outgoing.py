"""What a job writes straight into a client's connection: a reply's body, after the head that its first bytes bring along.

The connection is lent to one job. Its parameters say under `KEY` what goes before the bytes and whether they go in chunks (RFC 9112 7.1);
an update says that the first are about to be written: until then a failure is still an ordinary reply.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lamina.errors import Cancelled
from lamina.linux.pipe import widen, widen_way_out, write_gathered
from lamina.worker.workers import Report

KEY = "reply"
_PACKET = 1 << 18
_AT_ONCE = 1 << 24


class ClientGone(Cancelled):
    """The client closed its side while a response was being written."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """A connection, borrowed, for one job: `begun` is called before anything is written to it."""

    fd: int
    head: bytes
    chunked: bool
    begun: Callable[[], None]

    @property
    def params(self) -> dict[str, Any]:
        """What the job is told."""
        return {KEY: {"head": self.head.decode("latin-1"), "chunked": self.chunked}}

    def hear(self, update: dict[str, Any]) -> None:
        """The job's `on_update`."""
        if KEY in update:
            self.begun()


Target = int | Outlet
"""Where a job is to write: a file or pipe, or the connection that waits for a reply."""
Heard = Callable[[dict[str, Any]], None]


def taken(target: Target) -> tuple[int, dict[str, Any], Heard | None]:
    """A target as a job's descriptor, parameters and `on_update`."""
    return (target, {}, None) if isinstance(target, int) else (target.fd, target.params, target.hear)


class Outgoing:
    """In a job: bytes on their way into a descriptor, gathered into packets. One thread's.

    Its calls raise ClientGone where nobody will read what is written to a connection.
    """

    def __init__(self, fd: int, head: bytes = b"", *, chunked: bool = False, begin: Callable[[], None] | None = None) -> None:
        self._fd, self._before, self._chunked, self._begin = fd, head, chunked, begin
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Add bytes; they are written with others."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _PACKET:
            self.flush()

    def copy(self, source: int, size: int) -> None:
        """Add exactly `size` bytes of a file from where it stands, the kernel moves them: one that is shorter is filled up with zeros."""
        if size <= _PACKET:
            self._read(source, size)
            return
        self.flush()
        self._put(size, [])
        left = size - self._sent(source, size)
        while left:
            data = os.read(source, min(left, _PACKET)) or bytes(min(left, _PACKET))
            self._write([data])
            left -= len(data)
        self._end_chunk()

    def flush(self) -> None:
        """Write what is gathered."""
        if self._size:
            self._put(self._size, self._parts)
            self._end_chunk()
        self._parts, self._size = [], 0

    def finish(self) -> None:
        """Write all that was added; the chunk that ends a body is not among it."""
        self.flush()
        if self._before:
            self._put(0, [])

    def _read(self, source: int, size: int) -> None:
        while size:
            data = os.read(source, size) or bytes(size)
            self.write(data)
            size -= len(data)

    def _put(self, size: int, parts: list[bytes]) -> None:
        """Write `parts`, which begin a chunk of `size` bytes, behind what is still to go before them."""
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()
        line = b"%x\r\n" % size if self._chunked and size else b""
        before, self._before = self._before + line, b""
        self._write([before, *parts] if before else parts)

    def _end_chunk(self) -> None:
        if self._chunked:
            self._before = b"\r\n"

    def _write(self, parts: list[bytes]) -> None:
        try:
            write_gathered(self._fd, parts)
        except (BrokenPipeError, ConnectionResetError):
            raise ClientGone("the client closed the connection within the answer") from None

    def _sent(self, source: int, size: int) -> int:
        """Bytes that the kernel moved from file to file, pipe or socket."""
        done = 0
        while done < size:
            try:
                count = os.sendfile(self._fd, source, None, min(size - done, _AT_ONCE))
            except (BrokenPipeError, ConnectionResetError):
                raise ClientGone("the client closed the connection within the answer") from None
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOSYS):
                    break
                raise
            if count == 0:
                break
            done += count
        return done


def departing(params: dict[str, Any], fd: int, report: Report) -> Outgoing:
    """In a job: where to write what goes into the descriptor `fd`; as a reply's body, if it is a connection that was lent."""
    if KEY not in params:
        widen(fd)
        return Outgoing(fd)
    widen_way_out(fd)
    told = params[KEY]
    return Outgoing(fd, str(told["head"]).encode("latin-1"), chunked=bool(told["chunked"]), begin=lambda: report({KEY: "begun"}))
