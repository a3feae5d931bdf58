"""A request's body that a job reads from the client's connection itself: a copy and two processes fewer than through a pipe.

The connection is lent to one job. Its parameters say under `KEY` where in the body the connection is; when the job has read what it is to
have, or ends, well or not, an update says where it is then.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from lamina.errors import Cancelled
from lamina.linux.pipe import write_gathered
from lamina.spec.framing import BadFraming, Framing, restored
from lamina.worker.workers import Report

KEY = "body"
_BUFFER, _ROOM = 1 << 20, 1 << 18
_PAUSE = 10  # milliseconds


class BodyCut(Cancelled):
    """The client went away in the middle of a body."""


@dataclass(frozen=True, slots=True)
class Returned:
    """Where a job stopped: the body's framing there, what it read of the body and did not take (`kept`), what it read behind that
    (`pending`), and how many of the bytes that it was to take are still to come (`left`; None: it was to take all)."""

    framing: Framing
    kept: bytes
    pending: bytes
    left: int | None


class Loan:
    """A body in its connection, for one job: it is told what `lend` gives, `take_back` is its `on_update`.

    Whoever lends it waits (`wait`) until the job has read what it wants, in another thread than the job's if the job goes on after that.
    """

    def __init__(self, fd: int, framing: Framing, kept: bytes, pending: bytes, most: int | None = None) -> None:
        """`fd` is the connection, borrowed. `kept` was found to be body, `pending` was read behind that. `most` is how many bytes of the
        body the job may have; None: all."""
        self._fd, self._begun = fd, False
        self._state = {"framing": framing.state(), "kept": kept.decode("latin-1"), "pending": pending.decode("latin-1"), "most": most}
        self._update: dict[str, Any] | None = None
        self._over = threading.Event()

    def fileno(self) -> int:
        """The connection."""
        return self._fd

    @property
    def begun(self) -> bool:
        """Whether a job was told of it."""
        return self._begun

    def lend(self) -> dict[str, Any]:
        """What the job is told among its parameters; from now on it alone reads."""
        self._begun = True
        return {KEY: self._state}

    def take_back(self, update: dict[str, Any]) -> None:
        """Hear where the job has stopped."""
        self._update = update[KEY]
        self._over.set()

    def over(self) -> None:
        """The job has ended, whether it said where or not."""
        self._over.set()

    def wait(self) -> None:
        """Until the job has stopped reading."""
        self._over.wait()

    def returned(self) -> Returned | None:
        """Where the job stopped; None: the framing is broken, or the job crashed and nobody knows."""
        if self._update is None:
            return None
        kept, pending = (str(self._update[name]).encode("latin-1") for name in ("kept", "pending"))
        return Returned(restored(self._update["framing"]), kept, pending, self._update["left"])


@runtime_checkable
class Lender(Protocol):
    """A request's body, to be read here (`read`), by processes that want a pipe, or by jobs that are lent the connection."""

    def read(self, size: int = -1, /) -> bytes | None:
        """The next bytes, at most `size`; none at the end."""
        ...

    def copy(self, fd: int, size: int) -> int:
        """Write the next bytes, at most `size`, to `fd`: how many there were, 0 at the end."""
        ...

    def lent(self, most: int | None = None, ahead: bytes = b"") -> AbstractContextManager[Loan]:
        """The connection for one job, which may have `most` bytes of the body; `ahead` was read of it already, and is the job's first."""
        ...

    def piped(self) -> AbstractContextManager[int]:
        """A pipe that gives what is left."""
        ...


def receive(
    read: Callable[[memoryview], int], framing: Framing, pending: bytes, buffer: bytearray, start: int = 0
) -> tuple[list[memoryview], bytes]:
    """The body's pieces in what is `pending`, or else in what `read` puts into `buffer` from `start` on; and what follows the body's end
    there.

    The pieces lie in a buffer: take them before the next call.

    Raises:
        BodyCut: nothing comes any more.
        BadFraming: as Framing.feed.
    """
    if pending:
        buffer, start, end = bytearray(pending), 0, len(pending)
    elif (end := start + read(memoryview(buffer)[start:])) == start:
        raise BodyCut("the client closed the connection within a body")
    found, stop = framing.feed(buffer, start, end)
    view = memoryview(buffer)
    return [view[first:last] for first, last in found], bytes(view[stop:end])


def divided(pieces: list[memoryview], size: int) -> tuple[list[memoryview], list[memoryview]]:
    """The first `size` bytes of them, and the others."""
    for number, piece in enumerate(pieces):
        if len(piece) > size:
            return [*pieces[:number], piece[:size]], [piece[size:], *pieces[number + 1 :]]
        size -= len(piece)
    return pieces, []


@dataclass(frozen=True, slots=True)
class Arriving:
    """What a descriptor gives until its end. The pieces raise BodyCut, BadFraming: as `receive`."""

    pieces: Iterator[bytes]
    copy: Callable[[int, int], int]
    """Write what comes next to a descriptor, at most so many bytes: how many there were, less only at the end. By who takes the pieces."""
    interrupt: Callable[[], None]
    """Whoever waits in another thread for the next piece gets BodyCut, now or when it asks."""


@contextmanager
def arriving(params: dict[str, Any], fd: int, report: Report, *, gather: bool = True) -> Iterator[Arriving]:
    """In a job: what the descriptor `fd` gives; the body, if it is a connection that was lent.

    `gather`: a body's pieces are made large, for whoever takes them while a thread reads ahead. Without it each is what a read gives: whoever
    reads and writes in turn makes the client wait for as little as that, and cannot be interrupted.
    """
    with _Waiting(fd) as waiting:
        if KEY not in params:
            yield Arriving(waiting.pieces(), waiting.copy, waiting.interrupt)
            return
        body = _Body(fd, params[KEY], report, waiting if gather else None)
        try:
            yield Arriving(body.pieces(), body.copy, waiting.interrupt)
        finally:
            body.give_back()


class _Waiting:
    """Waits for a descriptor, in one thread, until another one ends that."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._bell = os.eventfd(0)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        os.close(self._bell)

    def ready(self, milliseconds: int | None = None) -> bool:
        """Whether there is something to read, or the end, by then."""
        events = self._poll.poll(milliseconds)
        if any(fd == self._bell for fd, _ in events):
            raise BodyCut("nobody wants the rest of a body")
        return bool(events)

    def interrupt(self) -> None:
        """See Arriving."""
        os.eventfd_write(self._bell, 1)

    def pieces(self) -> Iterator[bytes]:
        """What the descriptor gives."""
        while self.ready() and (piece := os.read(self._fd, _BUFFER)):
            yield piece

    def copy(self, fd: int, size: int) -> int:
        """See Arriving."""
        left = size
        while left and (piece := os.read(self._fd, min(left, _BUFFER))):
            write_gathered(fd, [piece])
            left -= len(piece)
        return size - left


class _Body:
    """A body that was lent, on the job's side."""

    def __init__(self, fd: int, told: dict[str, Any], report: Report, waiting: _Waiting | None) -> None:
        self._fd, self._framing, self._report, self._waiting = fd, restored(told["framing"]), report, waiting
        self._kept, self._pending = str(told["kept"]).encode("latin-1"), str(told["pending"]).encode("latin-1")
        self._left: int | None = told["most"]
        self._buffer, self._used = bytearray(_BUFFER), 0
        self._broken = self._given_back = False

    def pieces(self) -> Iterator[bytes]:
        """What the job may have of it; then it is given back."""
        if piece := self._taken(b""):
            yield piece
        while self._left != 0 and not self._framing.done:
            if piece := self._taken(self._gathered()):
                yield piece
        self.give_back()

    def _gathered(self) -> bytes:
        """What comes next: most of a megabyte, since few large pieces are less work for who takes them than many; or what the job may
        have, or what came before the client paused."""
        found: list[memoryview] = []
        size = self._used = 0
        if self._waiting is None:
            return b"".join(self._received())
        while not self._framing.done and self._used <= _BUFFER - _ROOM and (self._left is None or size < self._left):
            if not self._pending and not self._waiting.ready(_PAUSE if found else None):
                break
            pieces = self._received()
            found += pieces
            size += sum(map(len, pieces))
        return b"".join(found)

    def copy(self, fd: int, size: int) -> int:
        """See Arriving. Each read is written at once, from where it lies: the client goes on with what its connection has room for."""
        left = size
        while left and self._left != 0 and (self._kept or not self._framing.done):
            self._used = 0
            pieces, self._kept = ([memoryview(self._kept)], b"") if self._kept else (self._received(), b"")
            pieces, beyond = divided(pieces, left if self._left is None else min(left, self._left))
            self._kept = b"".join(beyond)
            written = sum(map(len, pieces))
            write_gathered(fd, pieces)
            left -= written
            if self._left is not None:
                self._left -= written
        return size - left

    def give_back(self) -> None:
        """Say where it is, once; nothing where nobody can know."""
        if self._given_back:
            return
        self._given_back = True
        kept, pending = self._kept.decode("latin-1"), self._pending.decode("latin-1")
        told = {"framing": self._framing.state(), "kept": kept, "pending": pending, "left": self._left}
        self._report({KEY: None if self._broken else told})

    def _taken(self, more: bytes) -> bytes:
        """What the job may have of what there is."""
        piece, self._kept = self._kept + more, b""
        if self._left is not None:
            piece, self._kept = piece[: self._left], piece[self._left :]
            self._left -= len(piece)
        return piece

    def _received(self) -> list[memoryview]:
        """The body's pieces in the next bytes, which lie in the buffer behind those used already."""
        try:
            pieces, self._pending = receive(self._read, self._framing, self._pending, self._buffer, self._used)
        except BadFraming:
            self._broken = True
            raise
        return pieces

    def _read(self, room: memoryview) -> int:
        size = os.readv(self._fd, [room])
        self._used += size
        return size
