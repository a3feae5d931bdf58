"""Containers as this process knows them now: the record, its process, who waits, who is to be attached."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lamina.apitypes.events import Event
from lamina.container.model import Container, ContainerNotFound, ContainerState, State, WrongState, check_transition
from lamina.container.parts import Process
from lamina.container.requests import WaitResult
from lamina.container.store import NameIndex
from lamina.container.waiters import NEXT_EXIT, Waiters
from lamina.errors import LaminaError
from lamina.runtime.launch import Attach

Row = TypeVar("Row")
_PATIENCE = 10.0
"""Seconds for the end of a process to be told: its monitor writes the last of its log before."""


@dataclass(slots=True)
class Live:
    """One container. `lock` is held while its state changes, never while waiting for its end.

    `pending` are connections (descriptors of our own) that wait for the start; `size` is a terminal size asked for before it.
    `began` is when its run did, by `Parts.monotonic`; 0 where this engine found it running.
    `ending` says that its end is being noted at this moment, with the lock. `removing` says that a removal has begun; `staying` by how many
    restarts under way the next exit is no reason to remove it.
    """

    container: Container
    lock: threading.RLock = field(default_factory=threading.RLock)
    process: Process | None = None
    pending: list[Attach] = field(default_factory=list)
    size: tuple[int, int] | None = None
    waiters: Waiters = field(default_factory=Waiters)
    removing: bool = False
    staying: int = 0
    timer: threading.Timer | None = None
    backoff: float = 0.0
    began: float = 0.0
    ending: bool = False

    def become(self, status: State, **changes: Any) -> None:
        """Move to another state, and change what else is given. Raises WrongState where the table does not allow it."""
        state = self.container.state
        if status is not state.status:
            check_transition(self.container.id, state.status, status)
        self.container = replace(self.container, state=replace(state, status=status, **changes))

    def note(self, **changes: Any) -> None:
        """Change what the state says besides its status."""
        self.container = replace(self.container, state=replace(self.container.state, **changes))

    def unwatch(self) -> None:
        """Its health is no longer checked: as with Docker it is unhealthy from here on, until a check says otherwise."""
        if self.state.health is not None:
            self.note(health={**self.state.health, "Status": "unhealthy"})

    def rename(self, name: str) -> None:
        """Change the name in the record; the index is the caller's."""
        self.container = replace(self.container, name=name)

    def command(self, words: Sequence[str], changes: Mapping[str, Any]) -> None:
        """Let its next run be of another command, with other fields of its configuration; nothing of it is written down."""
        config = {**self.container.config, **changes, "Entrypoint": None, "Cmd": list(words)}
        self.container = replace(self.container, path=words[0], args=tuple(words[1:]), config=config)

    @property
    def state(self) -> ContainerState:
        """The state as it is now."""
        return self.container.state

    def check_there(self) -> None:
        """With the lock. Raises ContainerNotFound: it was removed since it was found."""
        if self.state.status is State.REMOVING:
            raise ContainerNotFound(f"No such container: {self.container.id}")

    @contextmanager
    def ends(self) -> Iterator[None]:
        """With the lock: in here its end is noted, and what it had is given back."""
        self.ending = True
        try:
            yield
        finally:
            self.ending = False

    def whole(self) -> Live:
        """Itself, once an end that is being noted has all happened: who is told of it finds its networks and volumes free. Where that takes
        long, as a file system of a server that is away may, it is told all the same."""
        if self.ending and self.lock.acquire(timeout=_PATIENCE):
            self.lock.release()
        return self

    def settle(self) -> None:
        """Wait until the end of a process that has ended is known here: whoever read its output to the end has seen that end."""
        process = self.process
        if process is not None and process.ended:
            with self.waiters.register(NEXT_EXIT, now=None) as waiter:
                if self.process is process:
                    waiter.result(_PATIENCE)

    def result(self) -> WaitResult:
        """How the last run ended."""
        return WaitResult(self.state.exit_code, self.state.error)

    def not_running(self) -> WrongState:
        """Why nothing can be asked of its process, in Docker's words."""
        restarting = self.state.status is State.RESTARTING
        return WrongState(f"Container {self.container.id} is {'restarting, wait until the container is' if restarting else 'not'} running")

    def take_pending(self) -> list[Attach]:
        """The connections that wait, which become the caller's to close."""
        taken, self.pending = self.pending, []
        return taken

    def drop_pending(self) -> None:
        """Close the connections that wait: their clients see the end."""
        for attach in self.take_pending():
            os.close(attach.fd)

    def drop_gone(self) -> None:
        """Close those of them whose clients have closed theirs."""
        gone = [attach for attach in self.pending if _closed(attach.fd)]
        self.pending = [attach for attach in self.pending if attach not in gone]
        for attach in gone:
            os.close(attach.fd)

    def event(self, action: str, **attributes: str) -> Event:
        """An event of this container with the attributes Docker's have: labels, image, name, and what is given."""
        container = self.container
        named = {**container.labels, "image": container.image_name, "name": container.name}
        return Event("container", action, container.id, {**named, **attributes})


def _closed(fd: int) -> bool:
    """Whether nobody has the other end of a connection any more; one that only sends nothing more is still there."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


class Roster:
    """All containers, by ID and name. Thread-safe; nothing waits in here."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self.names = NameIndex.of(containers)
        self._live = {container.id: Live(container) for container in containers}

    def find(self, ref: str) -> Live:
        """Raises ContainerNotFound, AmbiguousContainer."""
        found = self._live.get(self.names.find(ref))
        if found is None:  # an ID is claimed while its container is being made
            raise ContainerNotFound(f"No such container: {ref}")
        return found

    def settled(self, ref: str) -> Live:
        """As `find`; if its process has ended, that is known now."""
        live = self.find(ref)
        live.settle()
        return live

    def add(self, container: Container) -> Live:
        """Show a new container to everyone; its name and ID are claimed already."""
        live = self._live[container.id] = Live(container)
        return live

    def drop(self, live: Live) -> None:
        """Forget one."""
        self._live.pop(live.container.id, None)
        self.names.release(live.container.name, live.container.id)

    def all(self) -> list[Live]:
        """Every container now, the oldest first."""
        return list(self._live.values())

    def each(self, containers: Iterable[Container], made: Callable[[Container], Row]) -> list[Row]:
        """What `made` gives for each; what was removed while it was looked at is left out."""
        rows = []
        for container in containers:
            try:
                rows.append(made(container))
            except (LaminaError, OSError):
                if container.id in self._live:
                    raise
        return rows

    def some(self, chosen: Callable[[Container], bool]) -> list[Live]:
        """Those whose record is chosen, the oldest first."""
        return [live for live in self.all() if chosen(live.container)]
