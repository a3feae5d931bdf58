"""A request's body that a job reads from the client's connection itself: a copy and two processes fewer than through a pipe.

The connection is lent to one job. Its parameters say under `KEY` where in the body the connection is; when the job ends, well or not,
an update says where it is then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lamina.errors import Cancelled
from lamina.spec.framing import BadFraming, Framing, restored
from lamina.worker.workers import Report

KEY = "body"
_PIECE = 1 << 18


class BodyCut(Cancelled):
    """The client went away in the middle of a body."""


class Loan:
    """A body in its connection, for one job: it is told what `lend` gives, `take_back` is its `on_update`. One thread's."""

    def __init__(self, fd: int, framing: Framing, kept: bytes, pending: bytes) -> None:
        """`fd` is the connection, borrowed. `kept` was found to be body, `pending` was read behind that."""
        self._fd, self._begun = fd, False
        self._state = {"framing": framing.state(), "kept": kept.decode("latin-1"), "pending": pending.decode("latin-1")}
        self._update: dict[str, Any] | None = None

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

    def returned(self) -> tuple[Framing, bytes] | None:
        """The framing where the job stopped, and what it read behind the body; None: the framing is broken, or the job crashed and nobody
        knows."""
        if self._update is None:
            return None
        return restored(self._update["framing"]), str(self._update["pending"]).encode("latin-1")


def receive(read: Callable[[bytearray], int], framing: Framing, pending: bytes, buffer: bytearray) -> tuple[list[memoryview], bytes]:
    """The body's pieces in what is `pending`, or else in what `read` puts into `buffer`; and what follows the body's end there.

    The pieces lie in a buffer: take them before the next call.

    Raises:
        BodyCut: nothing comes any more.
        BadFraming: as Framing.feed.
    """
    if pending:
        buffer, size = bytearray(pending), len(pending)
    elif not (size := read(buffer)):
        raise BodyCut("the client closed the connection within a body")
    found, stop = framing.feed(buffer, 0, size)
    view = memoryview(buffer)
    return [view[start:end] for start, end in found], bytes(view[stop:size])


@contextmanager
def arriving(params: dict[str, Any], fd: int, report: Report) -> Iterator[Iterator[bytes]]:
    """In a job: what the descriptor `fd` gives until its end, in pieces; the body, if it is a connection that was lent.

    The pieces raise BodyCut, BadFraming: as `receive`.
    """
    if KEY not in params:
        yield iter(lambda: os.read(fd, 1 << 20), b"")
        return
    body = _Body(fd, params[KEY])
    try:
        yield body.pieces()
    finally:
        report({KEY: body.state()})


class _Body:
    """A body that was lent, on the job's side."""

    def __init__(self, fd: int, told: dict[str, Any]) -> None:
        self._fd, self._framing = fd, restored(told["framing"])
        self._kept, self._pending = str(told["kept"]).encode("latin-1"), str(told["pending"]).encode("latin-1")
        self._broken = False

    def pieces(self) -> Iterator[bytes]:
        if self._kept:
            yield self._kept
        buffer = bytearray(_PIECE)
        while not self._framing.done:
            try:
                found, self._pending = receive(self._read, self._framing, self._pending, buffer)
            except BadFraming:
                self._broken = True
                raise
            if piece := b"".join(found):
                yield piece

    def state(self) -> dict[str, Any] | None:
        """Where it is; None where nobody can know."""
        return None if self._broken else {"framing": self._framing.state(), "pending": self._pending.decode("latin-1")}

    def _read(self, buffer: bytearray) -> int:
        return os.readv(self._fd, [buffer])
