"""A long body is moved by another process: the daemon hands the connection over, waits, and has it back at the body's end.

A docker CLI writes 32 KiB chunks, and a unix socket holds 200 KiB: an archive of 600 MB is 3,600 reads and writes and 18,000 chunks
to be found. In the daemon each of them takes the interpreter's lock, and whoever waits for that lock waits longer while it is put aside.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from lamina.api.body import Body, Wire
from lamina.errors import LaminaError
from lamina.spec.framing import Framing, restored
from lamina.worker.workers import Report, Workers

MOST = 8
"""How many bodies at once have a process of their own; others are moved by the daemon's threads."""


class Carriers:
    """Processes that move bodies; `workers` has room for MOST at once. Thread-safe."""

    def __init__(self, workers: Workers) -> None:
        self._workers, self._room = workers, threading.Semaphore(MOST)

    def begin(self) -> Carrier | None:
        """See `body.Carriers`."""
        return Carrier(self._workers, self._room) if self._room.acquire(blocking=False) else None


class Carrier:
    """One process; it starts beside the caller, which goes on by itself until it is `ready`. A context: its room is taken until it is
    left."""

    def __init__(self, workers: Workers, room: threading.Semaphore) -> None:
        self._workers, self._room = workers, room
        self.ready = False
        threading.Thread(target=self._prepare, name="carrier", daemon=True).start()

    def carry(self, sock: socket.socket, target: int, framing: Framing) -> tuple[Framing, bytes]:
        """Move what is left of a body from the connection to the pipe `target`: where its framing is then, and what was read beyond it.

        Raises:
            BodyCut, BadFraming: as Body.
            WorkerCrashed, Unavailable: how much was moved is not known.
        """
        done = self._workers.run("lamina.api.carrying:body", {"framing": framing.state()}, [sock.fileno(), target])
        return restored(done["framing"]), str(done["beyond"]).encode("latin-1")

    def __enter__(self) -> Carrier:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._room.release()

    def _prepare(self) -> None:
        with suppress(LaminaError, OSError):
            self._workers.run("lamina.api.carrying:ready", {})
            self.ready = True


def ready(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """The job of a process that starts: nothing, but now everything is loaded."""
    return {}


def body(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Move a body from the connection, the first descriptor, to the pipe that is the second. A reader that has gone is not a failure."""
    framing = restored(params["framing"])
    with socket.socket(fileno=os.dup(fds[0])) as sock:
        wire = Wire(sock)
        with suppress(BrokenPipeError):
            Body(wire, framing).pump(fds[1])
    return {"framing": framing.state(), "beyond": wire.pending.decode("latin-1")}
