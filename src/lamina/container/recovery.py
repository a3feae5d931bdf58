"""At the start of an engine: finish or undo what a killed one left half done, and find again what runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lamina.container.execs import Execs
from lamina.container.lifecycle import LifeCycle
from lamina.container.live import Live, Roster
from lamina.container.model import ALIVE, State
from lamina.container.parts import Parts, Process
from lamina.container.removal import remove_tree
from lamina.container.restarting import wants_start
from lamina.container.store import ContainerStore
from lamina.errors import LaminaError
from lamina.runtime.launch import Exit
from lamina.spec.digest import Digest

_log = logging.getLogger("lamina.container")
_BEGUN: dict[str, Any] = {"exit_code": 0, "error": "", "oom_killed": False, "stopped_by_user": False}
_LOST = "the container's monitor was killed, how it ended is not known"


class Recovery:
    """Runs once, before anything is served."""

    def __init__(self, parts: Parts, store: ContainerStore, roster: Roster, life: LifeCycle, execs: Execs) -> None:
        self._parts, self._store, self._roster, self._life, self._execs = parts, store, roster, life, execs
        self._leaving: list[Live] = []

    def run(self) -> None:
        """See Containers.recover."""
        self._parts.volumes.sweep()
        for path in self._store.leftovers():
            remove_tree(path, self._parts.workers)
        for live in self._roster.all():
            self._pin(live)
            with self._alone(live):
                self._find(live)
        self._parts.volumes.settle()
        self._parts.networks.recover()
        for live in self._roster.some(lambda container: not container.running):
            with self._alone(live):
                self._life.restore_ended(live)
        for live in (*self._leaving, *self._roster.some(lambda container: container.temporary)):
            with self._alone(live):
                self._life.remove(live, force=True, volumes=True)
        self._life.removals.flush()
        for live in self._roster.all():
            if not live.container.running and wants_start(live.container):
                self._life.restart_policy_start(live)

    @contextmanager
    def _alone(self, live: Live) -> Iterator[None]:
        """What cannot be done for one container does not keep the engine from starting."""
        try:
            yield
        except (LaminaError, OSError) as error:
            _log.warning("container %s stays as it was found: %s", live.container.name, error)

    def _pin(self, live: Live) -> None:
        """Its image and layers are in use."""
        try:
            image = self._parts.images.resolve(live.container.image)
            digests: tuple[Digest, ...] = (image.id, *image.layers)
        except LaminaError:  # the image was removed by force: the layers are what it runs on
            digests = self._stack(live.container.layer)
        for mount in live.container.mounts:
            digests += self._stack(mount.layer)
        self._parts.leases.pin(f"container:{live.container.id}", digests)

    def _stack(self, layer: str) -> tuple[Digest, ...]:
        """The layers of a stack, by its topmost one. Where one is lost it is the topmost alone, whose pin keeps what is left of the others:
        one damaged container does not keep the engine from starting."""
        if not layer:
            return ()
        top = Digest.parse(layer)
        try:
            return tuple(facts.id for facts in self._parts.layers.chain(top))
        except LaminaError:
            return (top,)

    def _find(self, live: Live) -> None:
        """Whatever its state says: a monitor that lives means it runs, a record of its end how it ended."""
        try:
            found = self._parts.runtime.adopt(live.container.directory)
        except (LaminaError, OSError) as error:
            found = Exit(255, error=error.message if isinstance(error, LaminaError) else str(error))
        if isinstance(found, Exit):
            self._ended(live, found)
        elif found is not None:
            self._adopt(live, found)
        elif live.state.status in ALIVE or live.state.status is State.RESTARTING:
            self._ended(live, Exit(255, error=_LOST))
        else:
            with live.lock:  # what a start that was not finished had mounted
                self._life.release(live)

    def _adopt(self, live: Live, process: Process) -> None:
        with live.lock:
            live.process = process
            if live.state.status not in ALIVE:
                # Killed between the start and the note of it: the monitor knows better.
                live.become(State.RUNNING, **_BEGUN, started_ns=self._parts.clock())
            # Killed after a pause that was noted had ended: the kernel knows better.
            paused = process.frozen and live.state.status is State.PAUSED
            if process.frozen and not paused:
                process.resume()  # a commit's, or one that nobody was told of
            live.become(State.PAUSED if paused else State.RUNNING, pid=process.pid)
            self._life.restore(live)
            self._store.save_state(live.container)
        self._execs.recover(live)
        self._life.watch(live, process)

    def _ended(self, live: Live, how: Exit) -> None:
        """Note an end that nobody saw; one that was noted already changes nothing."""
        ended = int(how.finished_at * 1e9)
        told = live.state.status is State.RESTARTING and ended <= live.state.finished_ns
        if live.state.status not in (*ALIVE, State.RESTARTING):
            if live.state.started_ns and ended <= live.state.finished_ns:
                return
            # It ran (again) without a note of its start.
            live.become(State.RUNNING, **_BEGUN, started_ns=ended or self._parts.clock())
        with live.lock:
            self._life.note_exit(live, how)
            if not told:
                self._life.tell_exit(live)
        if live.container.auto_remove:
            self._leaving.append(live)
