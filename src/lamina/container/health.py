"""Health checks: when the next probe is due and what its result means, pure; and the one thread that has them run."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from lamina.container.document import mapping, number, texts
from lamina.container.live import Live
from lamina.container.model import Container, State
from lamina.container.parts import Parts
from lamina.container.store import ContainerStore
from lamina.container.times import rfc3339
from lamina.errors import LaminaError

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_SECOND = 10**9
_SHORTEST, _LONGEST = 10**6, 10**18
_KEPT = 5
_FAILED = -1
_NO_ROOM = 1.0
"""Seconds until a probe is tried again for which there was no thread."""
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """What to run and when; durations in nanoseconds. `retries` failures in a row make a container unhealthy."""

    command: tuple[str, ...]
    interval: int = 30 * _SECOND
    timeout: int = 30 * _SECOND
    start_period: int = 0
    start_interval: int = 5 * _SECOND
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Result:
    """How one probe went: times in nanoseconds since 1970."""

    start_ns: int
    end_ns: int
    code: int
    output: str

    def document(self) -> dict[str, Any]:
        """The API's HealthcheckResult."""
        return {"Start": rfc3339(self.start_ns), "End": rfc3339(self.end_ns), "ExitCode": self.code, "Output": self.output}


class Prober(Protocol):
    """See `execs.Execs.probe`."""

    def probe(self, live: Live, command: tuple[str, ...], seconds: float) -> tuple[int, str]: ...


def check_of(container: Container) -> Check | None:
    """The check of a container that has one."""
    health = mapping(container.config, "Healthcheck")
    kind, *words = texts(health, "Test") or ["NONE"]
    if kind == "NONE" or not words:
        return None
    shell = texts(container.config, "Shell") or ["/bin/sh", "-c"]
    default = Check(())
    return Check(
        tuple(words if kind == "CMD" else [*shell, *words]),
        _duration(health, "Interval") or default.interval,
        _duration(health, "Timeout") or default.timeout,
        _duration(health, "StartPeriod"),
        _duration(health, "StartInterval") or default.start_interval,
        number(health, "Retries") or default.retries,
    )


def _duration(health: Document, name: str) -> int:
    """An image may say what it likes: as long as can be waited for, and not so short that nothing else is done."""
    value = number(health, name)
    return max(_SHORTEST, min(value, _LONGEST)) if value else 0


def begun(before: Document | None) -> dict[str, Any]:
    """The API's Health of a container that was started just now; what earlier runs logged stays."""
    return {"Status": STARTING, "FailingStreak": 0, "Log": list((before or {}).get("Log", ()))}


def after(health: Document, check: Check, result: Result, ran_ns: int) -> dict[str, Any]:
    """The API's Health after a probe that began `ran_ns` after the container's start."""
    log = [*health["Log"], result.document()][-_KEPT:]
    if result.code == 0:
        return {"Status": HEALTHY, "FailingStreak": 0, "Log": log}
    if health["Status"] == STARTING and ran_ns < check.start_period:
        return {**health, "Log": log}
    streak = health["FailingStreak"] + 1
    return {"Status": UNHEALTHY if streak >= check.retries else health["Status"], "FailingStreak": streak, "Log": log}


def delay(health: Document, check: Check, ran_ns: int) -> int:
    """Nanoseconds from the end of a probe (or the start) to the next one."""
    starting = health["Status"] == STARTING and ran_ns < check.start_period
    return check.start_interval if starting else check.interval


class HealthChecks:
    """Runs the checks of all containers. One thread waits for what is due; a probe has a thread of its own while it runs."""

    def __init__(self, parts: Parts, store: ContainerStore, prober: Prober, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._store, self._prober, self._monotonic = parts, store, prober, monotonic
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Live, object, float]] = []
        self._number = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def running(self, live: Live, *, fresh: bool) -> None:
        """With its lock: it was started just now, or found running."""
        check = check_of(live.container)
        if check is None:
            return
        if fresh or live.state.health is None:
            live.note(health=begun(live.state.health))
            self._store.save_state(live.container)
        # From here on by a clock that nobody sets; how long one ran that was found running is known by the other clock alone.
        ran = 0 if fresh else self._parts.clock() - live.state.started_ns
        self._schedule(live, check, self._monotonic() - ran / _SECOND)

    def close(self) -> None:
        """Run no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ran(self, started: float) -> int:
        """Nanoseconds since then."""
        return round((self._monotonic() - started) * _SECOND)

    def _schedule(self, live: Live, check: Check, started: float) -> None:
        """`started` is when the container was, by the monotonic clock."""
        assert live.state.health is not None
        wait = delay(live.state.health, check, self._ran(started)) / _SECOND
        with self._changed:
            self._number += 1
            heapq.heappush(self._due, (self._monotonic() + wait, self._number, live, live.process, started))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="health", daemon=True)
                with suppress(RuntimeError):  # there is no room for one: who is scheduled next tries again
                    thread.start()
                    self._thread = thread
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > self._monotonic()):
                    self._changed.wait(None if not self._due else max(0.0, self._due[0][0] - self._monotonic()))
                if self._closed:
                    return
                _, number, live, process, started = heapq.heappop(self._due)
            if live.process is not process or process is None:
                continue
            try:
                threading.Thread(target=self._probe, args=(live, process, started), name="probe", daemon=True).start()
            except RuntimeError:  # there is no room for one at this moment
                with self._changed:
                    heapq.heappush(self._due, (self._monotonic() + _NO_ROOM, number, live, process, started))

    def _probe(self, live: Live, process: object, started: float) -> None:
        check = check_of(live.container)
        if check is None:
            return
        try:
            if live.state.status is State.RUNNING:
                began, ran = self._parts.clock(), self._ran(started)
                code, output = self._asked(live, check)
                self._note(live, process, check, Result(began, self._parts.clock(), code, output), ran)
        finally:
            with live.lock:
                if live.process is process and not live.removing:
                    self._schedule(live, check, started)

    def _asked(self, live: Live, check: Check) -> tuple[int, str]:
        try:
            return self._prober.probe(live, check.command, check.timeout / _SECOND)
        except LaminaError as error:
            return _FAILED, error.message
        except OSError as error:  # a full disk, say: the next probe is due all the same
            return _FAILED, str(error.strerror or error)

    def _note(self, live: Live, process: object, check: Check, result: Result, ran_ns: int) -> None:
        """What a probe says of a run that is over meanwhile, or while it is frozen with all others, counts for nothing."""
        with live.lock:
            before = live.state.health
            if live.process is not process or before is None or live.removing or live.state.status is not State.RUNNING:
                return
            now = after(before, check, result, ran_ns)
            live.note(health=now)
            self._store.save_state(live.container)
            if now["Status"] != before["Status"]:
                self._parts.emit(live.event(f"health_status: {now['Status']}"))
