"""Bytes of a connection that are read but not taken, and request bodies over them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lamina.errors import InvalidArgument
from lamina.linux.pipe import write_gathered
from lamina.linux.scheduling import take_long_turns
from lamina.spec.framing import BadFraming, Framing
from lamina.worker.incoming import BodyCut, Loan, divided, receive

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from lamina.api.carrying import Carriers

_HEAD_END = re.compile(rb"\n\r?\n")
_SMALL = 1 << 16
_LARGE = 1 << 20
_PIPE_SIZE = 1 << 20
_SHORT = 1 << 20
"""Bytes of a body that are moved before a process is started for the rest."""


class BodyTooLong(InvalidArgument):
    """A document is longer than the route reads."""

    http_status = 413


class HeadTooLong(BodyTooLong):
    """A request's head is longer than is read."""

    http_status = 431


class Wire:
    """A connected socket and the bytes read from it that nobody has taken yet. One thread's."""

    __slots__ = ("pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = b""

    def head(self, limit: int) -> bytes:
        """One message's head with its empty line; `b""` where the peer closed before its first byte. Lines may end with LF alone, as for
        dockerd (RFC 9112 2.2).

        Raises:
            HeadTooLong: it has more than `limit` bytes.
            BodyCut: the peer closed within it.
        """
        data = self.pending.lstrip(b"\r\n")
        end = _HEAD_END.search(data)
        while end is None:
            if len(data) > limit:
                raise HeadTooLong("the request's head is too long")
            more = self.sock.recv(_SMALL)
            if not more:
                if data:
                    raise BodyCut("the client closed the connection within a request")
                return b""
            seen = max(0, len(data) - 2)
            data = (data + more) if data else more.lstrip(b"\r\n")
            end = _HEAD_END.search(data, seen)
        self.pending = data[end.end() :]
        return data[: end.end()]

    def release(self) -> bytes:
        """Give up what is pending: the caller hands it on with the socket."""
        pending, self.pending = self.pending, b""
        return pending


class Body(io.RawIOBase):
    """A request's body as a file. Reading it first sends `100 Continue` where the client waits for that.

    What of a long one goes through a pipe is moved by one of `carriers`, where there are any.
    """

    def __init__(self, wire: Wire, framing: Framing, before: Callable[[], None] | None = None, carriers: Carriers | None = None) -> None:
        super().__init__()
        self._carriers = carriers
        self._wire = wire
        self._framing = framing
        self._before = before
        self._kept: list[memoryview] = []
        self._broken = False
        self._cut: BaseException | None = None

    @property
    def broken(self) -> bool:
        """Whether its framing is: where it ends, and what follows it, cannot be known then."""
        return self._broken

    @property
    def finished(self) -> bool:
        """Whether every byte of it was read from the socket."""
        return self._framing.done

    def readable(self) -> bool:
        """See io.IOBase.readable."""
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        """See io.RawIOBase.readinto.

        Raises:
            BodyCut: the client closed before the body's end.
        """
        room = memoryview(target).cast("B")
        while not self._kept and not self._framing.done:
            self._kept = self._receive(bytearray(max(_SMALL, min(len(room), _LARGE))))
        if not self._kept:
            return 0
        piece = self._kept[0]
        size = min(len(room), len(piece))
        room[:size] = piece[:size]
        self._kept[0] = piece[size:]
        if size == len(piece):
            del self._kept[0]
        return size

    def document(self, limit: int = 4 << 20) -> bytes:
        """All of it, for a JSON document.

        Raises:
            BodyTooLong: it has more than `limit` bytes.
        """
        parts: list[bytes] = []
        size = 0
        while piece := self.read(_SMALL):
            size += len(piece)
            if size > limit:
                raise BodyTooLong(f"the request's body is larger than {limit} bytes")
            parts.append(piece)
        return b"".join(parts)

    def pump(self, fd: int, least: int = sys.maxsize) -> None:
        """Write all of it to `fd`, or `least` bytes and what came with them: large reads, one gathered write each, the interpreter free
        meanwhile."""
        buffer = bytearray(_LARGE)
        if self._kept:
            write_gathered(fd, self._kept)
            self._kept = []
        while not self._framing.done and least > 0:
            pieces = self._receive(buffer)
            least -= sum(map(len, pieces))
            write_gathered(fd, pieces)

    def copy(self, fd: int, size: int) -> int:
        """See `Lender.copy`. Raises as `readinto`."""
        buffer, left = bytearray(_LARGE), size
        while left and (self._kept or not self._framing.done):
            pieces, self._kept = divided(self._kept or self._receive(buffer), left)
            left -= sum(map(len, pieces))
            write_gathered(fd, pieces)
        return size - left

    def drain(self, limit: int) -> bool:
        """Read and drop what is left, at most `limit` bytes of it; whether the end was reached."""
        self._kept = []
        buffer = bytearray(_SMALL)
        while not self._framing.done and limit > 0:
            limit -= sum(map(len, self._receive(buffer))) + 1
        return self._framing.done

    @contextlib.contextmanager
    def lent(self, most: int | None = None, ahead: bytes = b"") -> Iterator[Loan]:
        """The connection, for one job that reads the body from it; where the job stopped, reading goes on here. See `Lender.lent`."""
        self._begin()
        kept = b"".join((ahead, *self._kept))
        mine = b"" if most is None else kept[most:]
        self._kept = [memoryview(kept)] if kept else []
        loan = Loan(self._wire.sock.fileno(), self._framing, kept[:most], self._wire.pending, most)
        try:
            yield loan
        finally:
            if loan.begun:
                self._take_back(loan, mine)

    def _take_back(self, loan: Loan, mine: bytes) -> None:
        self._kept = []
        if (found := loan.returned()) is None:
            self._broken = True
            return
        self._framing, self._wire.pending = found.framing, found.pending
        if kept := found.kept + mine:
            self._kept = [memoryview(kept)]

    @contextlib.contextmanager
    def piped(self) -> Iterator[int]:
        """A pipe that gives the body, for processes that read descriptors; filled by a thread of its own.

        A reader that stops early is not a failure. On leaving without one, a body that was cut raises BodyCut.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        thread = threading.Thread(target=self._fill, args=(writer,), name="body", daemon=True)
        thread.start()
        try:
            yield reader
        finally:
            os.close(reader)
            if not self._framing.done:
                self._stop_filling(thread)
            thread.join()
        if self._cut is not None:
            raise self._cut

    def _stop_filling(self, thread: threading.Thread) -> None:
        """The reader has gone: the filler sees EPIPE at its next write. Wait for a slow client only for a while."""
        thread.join(0.2)
        if thread.is_alive():
            with contextlib.suppress(OSError):
                self._wire.sock.shutdown(socket.SHUT_RD)

    def _fill(self, writer: int) -> None:
        take_long_turns()
        try:
            self.pump(writer, _SHORT)
            self._hand_over(writer)
            self.pump(writer)
        except BrokenPipeError:
            pass
        except BaseException as error:
            self._cut = error
        finally:
            os.close(writer)

    def _hand_over(self, writer: int) -> None:
        """Let a process move the rest of what is long; until it is there, this thread does."""
        carrier = None if self._framing.done or self._carriers is None else self._carriers.begin()
        if carrier is None:
            return
        with carrier:
            while not self._framing.done and not carrier.ready:
                self.pump(writer, 1)
            if self._framing.done:
                return
            try:
                self._framing, self._wire.pending = carrier.carry(self._wire.sock, writer, self._framing)
            except BaseException:
                self._broken = True
                raise

    def _receive(self, buffer: bytearray) -> list[memoryview]:
        """The body's pieces in the next bytes of the connection; they lie in `buffer`, so take them before the next call."""
        self._begin()
        try:
            pieces, self._wire.pending = receive(self._wire.sock.recv_into, self._framing, self._wire.release(), buffer)
        except BadFraming:
            self._broken = True
            raise
        return pieces

    def _begin(self) -> None:
        """Nobody has read of it yet: say that it may come."""
        if self._before is not None:
            before, self._before = self._before, None
            before()
