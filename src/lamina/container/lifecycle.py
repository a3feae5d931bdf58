"""The life of containers: start, stop, kill, exit, restart, pause, remove."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lamina.container import links
from lamina.container.aside import aside
from lamina.container.launching import Launcher
from lamina.container.live import Live, Roster
from lamina.container.model import ALIVE, AlreadyThere, NotRunning, State, WrongState
from lamina.container.names import checked_name
from lamina.container.parts import Parts, Process
from lamina.container.removal import Removals
from lamina.container.requests import WaitResult
from lamina.container.restarting import BACKOFF_RESET, next_backoff, wants_restart
from lamina.container.sources import volume_events
from lamina.container.spec import stop_signal, stop_timeout
from lamina.container.store import ContainerStore
from lamina.container.waiters import NEXT_EXIT, RegisteredWaiter
from lamina.errors import Internal, InvalidArgument, LaminaError
from lamina.runtime.launch import Exit
from lamina.runtime.process import ProcessGone
from lamina.spec.signals import signal_number

_KILL_PATIENCE = 30.0
"""Seconds that a killed process is waited for: longer than the kernel takes to free a large one."""
_ENDING = 2.0
"""Seconds for which a process that cannot be frozen may yet turn out to have ended."""
_NOT_STARTED = 128
_FAILURES = (LaminaError, OSError, RuntimeError, ValueError)
"""What a start may fail with: a full disk, no room for a thread, text that cannot be encoded are told as they are."""
_log = logging.getLogger("lamina.container")


def _words(error: BaseException) -> str:
    return error.message if isinstance(error, LaminaError) else str(getattr(error, "strerror", None) or error)


class LifeCycle:
    """Changes states. Thread-safe: a container's lock is taken for each change, none is held while waiting."""

    def __init__(self, parts: Parts, store: ContainerStore, roster: Roster, launcher: Launcher) -> None:
        self._parts, self._store, self._roster, self._launcher = parts, store, roster, launcher
        self.removals = Removals(parts.workers)
        self.on_gone: Callable[[str], None] = lambda container_id: None
        """Told the ID of each container that is removed, whoever asked for it."""
        self.on_running: Callable[[Live, bool], None] = lambda live, fresh: None
        """Told, with its lock, of each container that runs now; whether it was started just now, or was found running."""

    # ── start ────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, live: Live, *, verify: bool = False) -> None:
        """See Containers.start."""
        failure: Exception | None = None
        with live.lock:
            self._check_startable(live)
            live.backoff = 0.0
            live.note(restart_count=0)
            try:
                self._launch(live, verify=verify)
            except _FAILURES as error:
                failure = error
                if live.state.status is State.RESTARTING:  # nothing starts it any more: this was its next restart
                    self._gives_up(live)
        if failure is not None:
            if live.container.auto_remove:
                with suppress(*_FAILURES):  # why it did not start is what is said
                    self.remove(live, force=True, volumes=True)
            raise failure

    def _check_startable(self, live: Live) -> None:
        status = live.state.status
        if live.removing:
            raise WrongState("container is marked for removal and cannot be started")
        if status is State.PAUSED:
            raise WrongState("cannot start a paused container, try unpause instead")
        if status is State.RUNNING:
            raise AlreadyThere(f"container {live.container.id} is running already")

    def _launch(self, live: Live, *, verify: bool = False) -> None:
        """With the lock: run the command and note it."""
        if live.timer is not None:
            live.timer.cancel()
            live.timer = None
        attaches = live.take_pending()
        try:
            process = self._launcher.start(live.container, attaches, self._roster, verify=verify)
        except _FAILURES as error:
            code = getattr(type(error), "exit_code", 0)
            self.release(live)
            # As with Docker: unless the command is why, the code of the last run stays if it says anything.
            code = code if code in (126, 127) else live.state.exit_code or _NOT_STARTED
            live.note(exit_code=code, error=_words(error))
            self._store.save_state(live.container)
            raise
        finally:
            for attach in attaches:
                os.close(attach.fd)
        self.started(live, process)
        self._emit_of_volumes(live, "mount")
        self._parts.emit(live.event("start"))
        self.watch(live, process, fresh=True)

    def _emit_of_volumes(self, live: Live, action: str) -> None:
        for event in volume_events(live.container, action):
            self._parts.emit(event)

    def started(self, live: Live, process: Process) -> None:
        """With the lock: note that it runs."""
        live.process, live.began = process, self._parts.monotonic()
        live.become(
            State.RUNNING, pid=process.pid, exit_code=0, error="", oom_killed=False, started_ns=self._parts.clock(), stopped_by_user=False
        )
        self._store.save_state(live.container)
        if live.size is not None:
            with suppress(ProcessGone):
                process.resize(*live.size)

    # ── exit ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def restore(self, live: Live) -> None:
        """A process was found running: it keeps its networks and what is mounted for it."""
        found = self._launcher.connections.restore(live.container)
        if found is not live.container:
            self._store.save(found)
            live.container = found
        self._launcher.sources.found(live.container)
        if live.process is not None:
            self._launcher.ranges.restore(live.container, live.process.pid)

    def restore_ended(self, live: Live) -> None:
        """Nothing of it was found running, and all that runs was found: nothing is left of its networks."""
        self._launcher.connections.ended(live.container, shared=self._shared(live))

    def watch(self, live: Live, process: Process, *, fresh: bool = False) -> None:
        """Follow a process. `fresh`: it was started just now."""
        with live.lock:
            self.on_running(live, fresh)
        # These are called in the watching thread, which must not wait: locks and files are another thread's work.
        process.on_oom(lambda: aside("oom", self._out_of_memory, live, process))
        process.on_detach(lambda: self._parts.emit(live.event("detach")))
        process.on_exit(lambda how: aside("exit", self._ended, live, process, how))

    def _out_of_memory(self, live: Live, process: Process) -> None:
        with live.lock:
            # Where it has ended meanwhile, its exit tells.
            if live.process is process:
                live.note(oom_killed=True)
                self._store.save_state(live.container)
                self._parts.emit(live.event("oom"))

    def _ended(self, live: Live, process: Process, how: Exit) -> None:
        with live.lock, live.ends():
            if live.process is not process:
                return
            live.process = None
            kept = live.removing or live.staying > 0
            restarts = not kept and wants_restart(live.container, how.code)
            self.note_exit(live, how, restarts=restarts)
            self.tell_exit(live)
            with self._surely(live):
                self._launcher.connections.leave(live.container, shared=self._shared(live))
            self._emit_of_volumes(live, "unmount")
            try:
                if restarts:
                    self._wait_for_restart(live)
            finally:
                # With the lock: who starts it again now must not change how this run ended, nor be told of it.
                live.waiters.exited(live.result())
        if live.container.auto_remove and not kept:
            self._remove_ended(live)

    def _shared(self, live: Live) -> bool:
        """Whether containers that run on have its network."""
        asked = f"container:{live.container.id}"
        return any(other.process is not None and other.container.host_config.get("NetworkMode") == asked for other in self._roster.all())

    def note_exit(self, live: Live, how: Exit, *, restarts: bool = False) -> None:
        """With the lock: the state after an exit, on disk unless the container goes at once. Where it `restarts`, that is RESTARTING from
        the first moment on: who looks for an end must not find one between two runs."""
        killed = how.oom_killed or live.state.oom_killed
        if killed and not live.state.oom_killed:
            self._parts.emit(live.event("oom"))
        self.release(live)
        finished = int(how.finished_at * 1e9) or self._parts.clock()
        count, state = live.state.restart_count, State.EXITED
        if restarts:
            count, state = count + 1, State.RESTARTING
            live.backoff = next_backoff(0.0 if self._parts.monotonic() - live.began > BACKOFF_RESET else live.backoff)
        ended = {"exit_code": how.code, "error": how.error, "oom_killed": killed, "finished_ns": finished}
        live.become(state, pid=0, restart_count=count, **ended)
        if not live.container.auto_remove:
            self._store.save_state(live.container)

    def tell_exit(self, live: Live) -> None:
        """With the lock: who listens for events is told of an end that was noted."""
        seconds = max(0, live.state.finished_ns - live.state.started_ns) // 10**9
        self._parts.emit(live.event("die", exitCode=str(live.state.exit_code), execDuration=str(seconds)))

    def release(self, live: Live) -> None:
        """With the lock: what is mounted for it on the host goes; what does not is tried again when it is started or removed."""
        with self._surely(live):
            self._launcher.release(live.container)

    @contextmanager
    def _surely(self, live: Live) -> Iterator[None]:
        """Whatever fails in here, an end is noted, and told to who waits for it."""
        try:
            yield
        except _FAILURES as error:
            _log.warning("container %s has ended, and something of it is left: %s", live.container.name, error)

    def _remove_ended(self, live: Live) -> None:
        try:
            self.remove(live, force=True, volumes=True)
        except WrongState:  # somebody else removes it at this moment
            pass
        except _FAILURES as error:
            _log.warning("container %s has ended and cannot be removed: %s", live.container.name, error)

    def _wait_for_restart(self, live: Live) -> None:
        """With the lock: it is RESTARTING until the back-off has passed."""
        live.timer = threading.Timer(live.backoff, self._restart_now, (live,))
        live.timer.daemon = True
        try:
            live.timer.start()
        except RuntimeError:  # there is no room for a thread: better said than never
            live.become(State.EXITED, error="there was no thread to wait for its next restart")
            self._store.save_state(live.container)

    def _restart_now(self, live: Live) -> None:
        with live.lock:
            if live.state.status is not State.RESTARTING or live.removing:
                return
            try:
                self._launch(live)
                return
            except _FAILURES:
                self._gives_up(live)

    def _gives_up(self, live: Live) -> None:
        """With the lock: it stays as it ended, or as it could not be started again."""
        live.become(State.EXITED)
        self._store.save_state(live.container)
        live.waiters.exited(live.result())

    def restart_policy_start(self, live: Live) -> None:
        """Start it because its policy says so; a failure is noted in its state."""
        with suppress(*_FAILURES):
            self.start(live)

    # ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────
    def kill(self, live: Live, name: str) -> None:
        """See Containers.kill."""
        number = signal_number(name or "SIGKILL")
        with live.waiters.register(NEXT_EXIT, now=None) as waiter:
            with live.lock:
                ends = number in (signal.SIGKILL, stop_signal(live.container))
                if ends and self._cancel_restart(live):
                    self._parts.emit(live.event("kill", signal=str(number)))
                    return
                self._signal(live, number)
                if ends:
                    live.note(stopped_by_user=True)
                    self._store.save_state(live.container)
            if number == signal.SIGKILL:
                self._await_end(live, waiter)

    def _signal(self, live: Live, number: int) -> None:
        """With the lock: send it, and let a frozen container feel it."""
        if live.process is None or live.state.status not in ALIVE:
            raise NotRunning(f"cannot kill container: {live.container.id}: Container {live.container.id} is not running")
        try:
            live.process.signal(number)
        except ProcessGone:
            raise NotRunning(f"cannot kill container: {live.container.id}: Container {live.container.id} is not running") from None
        if live.state.status is State.PAUSED and number in (signal.SIGKILL, signal.SIGTERM, stop_signal(live.container)):
            self._thaw(live)
            self._store.save_state(live.container)
        self._parts.emit(live.event("kill", signal=str(number)))

    def _signal_unless_gone(self, live: Live, number: int) -> None:
        """With the lock: as _signal; a process that ended just now needs none, its exit is on its way here."""
        with suppress(NotRunning):
            self._signal(live, number)

    def _await_end(self, live: Live, waiter: RegisteredWaiter) -> None:
        if waiter.result(_KILL_PATIENCE) is None:
            raise Internal(f"container {live.container.id} did not exit within {_KILL_PATIENCE:.0f} seconds of being killed")

    def stop(self, live: Live, timeout: int | None, name: str) -> None:
        """See Containers.stop."""
        number = signal_number(name) if name else stop_signal(live.container)
        patience = stop_timeout(live.container) if timeout is None else timeout
        with live.waiters.register(NEXT_EXIT, now=None) as waiter:
            with live.lock:
                if self._cancel_restart(live):
                    self._parts.emit(live.event("stop"))
                    return
                if live.state.status not in ALIVE:
                    raise AlreadyThere(f"container {live.container.id} is not running")
                live.note(stopped_by_user=True)
                # An engine that is killed now must not start it again.
                self._store.save_state(live.container)
                self._signal_unless_gone(live, number)
            if waiter.result(patience if 0 <= patience <= threading.TIMEOUT_MAX else None) is None:
                with live.lock:
                    if live.process is not None:
                        self._signal_unless_gone(live, signal.SIGKILL)
                self._await_end(live, waiter)
        self._parts.emit(live.event("stop"))

    def _cancel_restart(self, live: Live) -> bool:
        """With the lock: end a wait for the next restart; False if there was none."""
        if live.state.status is not State.RESTARTING:
            return False
        if live.timer is not None:
            live.timer.cancel()
        live.become(State.EXITED, stopped_by_user=True)
        self._store.save_state(live.container)
        live.waiters.exited(live.result())
        return True

    def restart(self, live: Live, timeout: int | None, name: str) -> None:
        """See Containers.restart."""
        with live.lock:
            live.staying += 1
        try:
            with suppress(AlreadyThere):
                self.stop(live, timeout, name)
        finally:
            with live.lock:
                live.staying -= 1
        with suppress(AlreadyThere):  # somebody else was faster
            self.start(live)
        self._parts.emit(live.event("restart"))

    def pause(self, live: Live, *, lasting: bool = True) -> None:
        """See Containers.pause. Unless `lasting` it is over when this engine is, however that ends: the next one lets it go on."""
        with live.lock:
            if live.state.status is State.PAUSED:
                raise WrongState(f"Container {live.container.id} is already paused")
            if live.process is None:
                raise live.not_running()
            try:
                live.process.pause()
            except OSError as error:  # its control group vanished, or a process does not stop
                if live.process.ended:
                    raise live.not_running() from None
                raise WrongState(f"cannot pause container {live.container.id}: {error.strerror or error}") from None
            live.become(State.PAUSED)
            if lasting:
                live.unwatch()
                self._store.save_state(live.container)
            self._parts.emit(live.event("pause"))

    def unpause(self, live: Live) -> None:
        """See Containers.unpause."""
        with live.lock:
            if live.state.status is not State.PAUSED:
                raise WrongState(f"Container {live.container.id} is not paused")
            self._thaw(live)
            self._store.save_state(live.container)
            self._parts.emit(live.event("unpause"))

    @contextmanager
    def still(self, live: Live, *, pause: bool = True) -> Iterator[None]:
        """With its processes frozen, if it has any and that is wanted; what does not run is kept from being started.

        Raises WrongState: they cannot be frozen, and have not ended just now; ContainerNotFound: it was removed, also meanwhile.
        """
        with live.lock:
            live.check_there()
            process = live.process
            if process is None:
                yield
                return
        paused = pause and live.state.status is State.RUNNING
        try:
            if paused:
                self.pause(live, lasting=False)
        except WrongState:
            if process.wait(_ENDING) is None:
                raise
        try:
            yield
        except LaminaError:
            live.check_there()
            raise
        finally:
            if paused:
                with suppress(WrongState):  # it ended meanwhile
                    self.unpause(live)

    def _thaw(self, live: Live) -> None:
        if live.process is not None:
            live.process.resume()
        live.become(State.RUNNING)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────
    def remove(self, live: Live, *, force: bool, volumes: bool) -> None:
        """See Containers.remove."""
        self._begin_removal(live, force)
        try:
            if live.state.status in ALIVE:
                self._kill_for_removal(live)
            with live.lock:
                self._launcher.release(live.container)
                gone = self._discard(live)
        except BaseException as error:
            self._stays(live, error)
            raise
        if volumes:
            self._remove_volumes(live)
        # Why a start failed is the start's answer; here it would be told twice.
        live.waiters.removed(WaitResult(live.state.exit_code))
        if live.container.cap:
            self._launcher.caps.remove(live.container, gone)
        self.removals.add(gone)
        self._launcher.snapshots.release(live.container.id)

    def _stays(self, live: Live, error: BaseException) -> None:
        """Its removal failed: it is what it was, and waits again for its next restart, if it did."""
        with live.lock:
            live.removing = False
            if live.state.status is State.RESTARTING:
                self._wait_for_restart(live)
            live.waiters.stayed(WaitResult(live.state.exit_code, _words(error)))

    def _begin_removal(self, live: Live, force: bool) -> None:
        container = live.container
        with live.lock:
            status = live.state.status
            if live.removing:
                raise WrongState(f"removal of container {container.id} is already in progress")
            if status in (*ALIVE, State.RESTARTING) and not force:
                first = "stop the container before removing or force remove"
                why = "container is paused and must be unpaused first" if status is State.PAUSED else f"container is {status}: {first}"
                raise WrongState(f'cannot remove container "/{container.name}": {why}')
            if live.timer is not None:
                live.timer.cancel()
            live.removing = True

    def _kill_for_removal(self, live: Live) -> None:
        with live.waiters.register(NEXT_EXIT, now=None) as waiter:
            with live.lock:
                if live.process is None:
                    return
                # Though its removal may fail yet, nobody wants it started again.
                live.note(stopped_by_user=True)
                self._store.save_state(live.container)
                self._signal_unless_gone(live, signal.SIGKILL)
            self._await_end(live, waiter)

    def _discard(self, live: Live) -> str:
        """With the lock: from here on it does not exist, whatever happens; the folder that is left to be removed."""
        gone = self._store.detach(live.container.id)
        live.become(State.REMOVING)
        self._roster.drop(live)
        self._parts.leases.unpin(f"container:{live.container.id}")
        live.drop_pending()
        self.on_gone(live.container.id)
        self._parts.emit(live.event("destroy"))
        return gone

    def _remove_volumes(self, live: Live) -> None:
        for mount in live.container.mounts:
            if mount.kind == "volume" and mount.owned:
                try:
                    self._parts.volumes.remove(mount.name, force=True)
                except _FAILURES:  # another container took it by --volumes-from; or it cannot be unmounted, and stays
                    continue

    def rename(self, live: Live, name: str) -> None:
        """See Containers.rename."""
        name = checked_name(name)
        with live.lock:
            if live.removing:
                raise WrongState(f"container {live.container.id} is marked for removal and cannot be renamed")
            before, old = live.container, live.container.name
            if name == old:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            names = self._roster.names
            names.claim(name, before.id)
            try:
                live.rename(name)
                self._store.save(live.container)
            except BaseException:
                live.container = before
                names.give_up(name, before.id)
                raise
            # Not before: else somebody else could have it, and this one have it again at the next start.
            names.give_up(old, before.id)
            self._parts.networks.renamed(before.id, name)
            self._parts.emit(live.event("rename", oldName=f"/{old}"))
        links.renamed(old, name, self._roster, self._store.save)
