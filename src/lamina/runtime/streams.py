"""A client's connection to a process's standard streams, as a monitor serves it: never blocking, never failing the monitor."""

from __future__ import annotations

import _socket
import errno
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_HEADER = struct.Struct(">BxxxI")
_BACKLOG = 1 << 20
_CHUNK = 64 << 10


class Client:
    """One attached client. `closed` once nothing more can reach it; its descriptor is closed then."""

    __slots__ = ("_detach_keys", "_framed", "_matched", "_pending", "_size", "_wants", "closed", "fd", "half_closed", "replay", "stdin")

    def __init__(self, fd: int, options: Mapping[str, Any]) -> None:
        """Take over `fd`. `options` are those of `launch.Attach`."""
        os.set_blocking(fd, False)
        self.fd = fd
        self.closed = False
        self.half_closed = False
        self.stdin = bool(options.get("stdin"))
        self.replay: Iterator[tuple[str, bytes]] | None = None
        self._framed = bool(options.get("framed"))
        self._wants = {name for name in ("stdout", "stderr") if options.get(name)}
        self._detach_keys = str(options.get("detach_keys") or "").encode("latin-1")
        self._matched = b""
        self._pending: list[bytes | memoryview] = []
        self._size = 0

    def output(self, stream: str, data: bytes) -> None:
        """Send output of the process; what the client does not take at once waits here."""
        if self.closed or stream not in self._wants:
            return
        if self._framed:
            self._queue(_HEADER.pack(STREAMS[stream], len(data)))
        self._queue(data)
        self.flush()

    def _queue(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)

    @property
    def waiting(self) -> bool:
        """Whether something waits for the client."""
        return bool(self._pending) or self.replay is not None

    @property
    def full(self) -> bool:
        """Whether so much waits that the process must wait too."""
        return self._size >= _BACKLOG

    def asked(self, *, rests: bool) -> int | None:
        """What to poll its connection for; None: do not poll it. `rests`: its input is not taken now.

        One that has gone is told of whatever is asked for: while its input rests, what it sent is still to be read.
        """
        if rests and not self.half_closed and not self.waiting:
            return None
        reads = 0 if rests or self.half_closed else select.POLLIN
        return reads | (select.POLLOUT if self.waiting else 0)

    def flush(self) -> None:
        """Send what waits, as far as the client takes it."""
        try:
            while self._pending and not self.closed:
                sent = os.writev(self.fd, self._pending[:64])
                self._size -= sent
                self._drop(sent)
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _drop(self, sent: int) -> None:
        while sent:
            first = self._pending[0]
            if len(first) > sent:
                self._pending[0] = memoryview(first)[sent:]
                return
            sent -= len(first)
            del self._pending[0]

    def refill(self) -> None:
        """Take more of the log that is replayed, as long as not too much waits."""
        while self.replay is not None and not self.full and not self.closed:
            entry = next(self.replay, None)
            if entry is None:
                self.replay = None
            else:
                self.output(*entry)

    def input(self) -> bytes | None:
        """What the client sent: nothing where it sent nothing, None at its end."""
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            self.close()
            return None
        if not data:
            self.half_closed = True
            return None
        return data

    def strip_detach(self, data: bytes) -> tuple[bytes, bool]:
        """What of the input is for the process, and whether the detach keys were pressed."""
        keys = self._detach_keys
        if not keys:
            return data, False
        joined, self._matched = self._matched + data, b""
        position = joined.find(keys)
        if position >= 0:
            return joined[:position], True
        for length in range(min(len(keys) - 1, len(joined)), 0, -1):
            if joined.endswith(keys[:length]):
                self._matched = joined[-length:]
                return joined[:-length], False
        return joined, False

    def finish(self) -> None:
        """Say that nothing more comes; the client closes. Unread input would reset the connection."""
        if self.closed:
            return
        try:
            _shut_down(self.fd)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go; repeating does nothing."""
        if not self.closed:
            self.closed = True
            self._pending.clear()
            self._size = 0
            self.replay = None
            os.close(self.fd)


def _shut_down(fd: int) -> None:
    sock = _socket.socket(fileno=os.dup(fd))
    try:
        sock.shutdown(_socket.SHUT_WR)
    finally:
        sock.close()


class Input:
    """The process's standard input: a pipe, or the terminal."""

    __slots__ = ("_pending", "_terminal", "closing", "fd")

    def __init__(self, fd: int, *, terminal: bool) -> None:
        """Take over `fd`; -1 where the process has no input."""
        self.fd = fd
        self.closing = False
        self._terminal = terminal
        self._pending = bytearray()
        if fd >= 0:
            os.set_blocking(fd, False)

    @property
    def waiting(self) -> bool:
        """Whether something waits for the process to read it."""
        return self.fd >= 0 and bool(self._pending)

    @property
    def full(self) -> bool:
        """Whether clients must wait."""
        return len(self._pending) >= _BACKLOG

    def write(self, data: bytes) -> None:
        """Pass input on; after the end it is dropped."""
        if self.fd >= 0 and not self.closing:
            self._pending += data
            self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the process takes it; then close where that was asked for."""
        try:
            while self._pending and self.fd >= 0:
                del self._pending[: os.write(self.fd, self._pending)]
        except BlockingIOError:
            return
        except OSError as error:
            # The process closed its input, or the terminal is gone.
            if error.errno in (errno.EPIPE, errno.EIO):
                self._pending.clear()
                self.closing = True
        if self.closing:
            self.close()

    def end(self) -> None:
        """Close once everything is written. A terminal has no such end."""
        if not self._terminal:
            self.closing = True
            self.flush()

    def close(self) -> None:
        """Close at once; a terminal's descriptor belongs to its output."""
        if self.fd >= 0 and not self._terminal:
            os.close(self.fd)
        self.fd = -1
