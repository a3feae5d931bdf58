"""A container."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina.container.containers import Waiter
from lamina.container.model import AlreadyThere
from lamina.container.requests import CommitRequest, LogQuery
from lamina.container.snapshots import Snapshot
from lamina.library.layer import Layer

if TYPE_CHECKING:
    from lamina.daemon.engine import Engine
    from lamina.library.image import Image

_FRAME = struct.Struct(">BxxxI")
_KINDS = "MAD"
LOOK = 1.0
"""Seconds after which whoever waits looks whether the engine is open still."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: its exit code, and what it wrote to both streams, in order."""

    exit_code: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


class Container:
    """A container by its ID; equal to others of the same."""

    def __init__(self, engine: Engine, id: str) -> None:
        self._engine, self.id = engine, id

    @property
    def name(self) -> str:
        """Its name."""
        return self._engine.containers.get(self.id).name

    @property
    def status(self) -> str:
        """What it does now: created, running, paused, restarting, exited, dead or removing."""
        return str(self._engine.containers.get(self.id).state.status)

    @property
    def path(self) -> str:
        """The host directory of what it wrote."""
        return self._engine.containers.get(self.id).upper

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its image's layers, base first, and what it wrote as the last."""
        explorer = self._engine.explorer
        return tuple(map(Layer.of, explorer.layers(explorer.subject(self.id))))

    def start(self) -> Container:
        """Start it. Nothing happens where it runs."""
        with suppress(AlreadyThere):
            self._engine.containers.start(self.id)
        return self

    def wait(self) -> Finished:
        """Wait until it does not run; its exit code and all it wrote."""
        with self._engine.containers.wait(self.id) as waiter:
            code = exit_code(self._engine, waiter)
        return Finished(code, self.logs())

    def logs(self) -> bytes:
        """What it wrote to both streams so far, in order."""
        data = b"".join(self._engine.containers.logs(self.id, LogQuery()))
        return data if self._engine.containers.get(self.id).tty else unframed(data)

    def changes(self) -> dict[str, str]:
        """A, M or D by path that it added, modified or deleted."""
        return {change.path: _KINDS[change.kind] for change in self._engine.containers.changes(self.id)}

    def commit(self, name: str = "", *, message: str = "") -> Image:
        """An image of it as it is now."""
        from lamina.library.image import Image

        return Image(self._engine, self._engine.containers.commit(self.id, CommitRequest(name, "", comment=message)))

    def snapshot(self, name: str = "") -> Snapshot:
        """Keep what it wrote until now, under a name or the next number: in constant time while it does not run."""
        return self._engine.containers.snapshots.create(self.id, name)

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """Its snapshots, the oldest first."""
        return tuple(self._engine.containers.snapshots.list(self.id))

    def rollback(self, snapshot: str | Snapshot) -> None:
        """Make it what it was; it must not run."""
        self._engine.containers.snapshots.rollback(self.id, snapshot)

    def stop(self) -> None:
        """End it in order. Nothing happens where it does not run."""
        with suppress(AlreadyThere):
            self._engine.containers.stop(self.id)

    def remove(self, *, force: bool = False) -> None:
        """Remove it; `force`: also where it runs."""
        self._engine.containers.remove(self.id, force=force, volumes=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"


def exit_code(engine: Engine, waiter: Waiter) -> int:
    """Wait for an end. Raises EngineClosed: the engine was closed meanwhile, and hears of none any more."""
    while (result := waiter.result(LOOK)) is None:
        engine.containers  # noqa: B018
    return result.status_code


def unframed(data: bytes) -> bytes:
    """A multiplexed stream without its frames' heads."""
    pieces, at = [], 0
    while at + _FRAME.size <= len(data):
        size = _FRAME.unpack_from(data, at)[1]
        pieces.append(data[at + _FRAME.size : at + _FRAME.size + size])
        at += _FRAME.size + size
    return b"".join(pieces)
