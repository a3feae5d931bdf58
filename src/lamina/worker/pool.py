"""A pool of worker processes, started by exec when work comes and gone again when it stops coming."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamina.errors import Unavailable
from lamina.linux import channel, spawn
from lamina.linux.channel import Channel, ChannelClosed
from lamina.worker.failure import raised
from lamina.worker.workers import WorkerCrashed

_MAIN = "import sys; sys.path[:] = sys.argv[2:]; from lamina.worker.main import main; main(int(sys.argv[1]))"
_PATIENCE = 5.0
_LOOKS, _BETWEEN_LOOKS = 5, 0.03
_LIGHT = 48 << 20


@dataclass(slots=True, eq=False)
class _Worker:
    """One process and our end of its channel. `idle_since` is of the monotonic clock."""

    process: spawn.Child
    channel: Channel
    idle_since: float = field(default=0.0)
    light: bool = field(default=False)

    def rest(self) -> None:
        """It has no work from now on."""
        self.idle_since = time.monotonic()
        try:
            with open(f"/proc/{self.process.pid}/statm", "rb") as file:
                _, resident, shared, *_ = map(int, file.read().split())
        except (OSError, ValueError):
            self.light = False
        else:
            self.light = (resident - shared) * os.sysconf("SC_PAGE_SIZE") < _LIGHT

    def sleeps(self) -> bool:
        """Whether all its threads wait for somebody else: not for a processor, and not for the disk."""
        tasks = f"/proc/{self.process.pid}/task"
        try:
            return all(_state(f"{tasks}/{task}/stat") == "S" for task in os.listdir(tasks))
        except OSError:
            return False

    def end(self, *, kill: bool = False) -> int:
        """Close the channel, upon which the process leaves by itself; returns its status."""
        self.channel.close()
        if kill:
            self.process.kill()
        status = self.process.wait(_PATIENCE)
        if status is None:
            self.process.kill()
            status = self.process.wait()
        assert status is not None
        return status


class WorkerPool:
    """At most `size` processes work at once. Thread-safe.

    One that waits for somebody else (a client that reads its `save` slowly, a registry, a pipe) does not count: when a job
    finds no room, the busy processes are looked at, and one more starts for each that sleeps, up to `most` altogether.

    `path` is the workers' whole `sys.path`; they see nothing else (`python -I -S`). One without work for `idle`
    seconds ends; but of those that came to rest with little memory of their own, the last stays for `stay` seconds: a job that must
    wait for a new one begins a tenth of a second later. Workers die with this process: their channel closes.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        most: int = 16,
        path: Sequence[str] = tuple(sys.path),
        python: str = sys.executable,
        idle: float = 5.0,
        stay: float = 0.0,
    ) -> None:
        self._size, self._most, self._python = size, max(size, most), python
        self._idle, self._stay = idle, max(idle, stay)
        self._path = tuple(entry for entry in path if entry)
        lock = threading.Lock()
        # Two conditions, so that a worker that is free wakes one job that waits: not all of them, and not the warden.
        self._changed, self._resting_long = threading.Condition(lock), threading.Condition(lock)
        self._resting: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._starting = 0
        self._warden: threading.Thread | None = None
        self._closed = False

    def run(
        self, job: str, params: Mapping[str, Any], fds: Sequence[int] = (), on_update: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """See `Workers.run`."""
        worker = self._told({"job": job, "params": dict(params)}, fds)
        try:
            answer = self._answer(worker, job, on_update)
        except BaseException:
            self._drop(worker)
            raise
        self._rest(worker)
        if "error" in answer:
            raise raised(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """End all workers, running jobs too; `run` raises from here on."""
        with self._changed:
            self._closed = True
            resting, self._resting = self._resting, []
            busy = list(self._busy)
            self._changed.notify_all()
        for worker in busy:
            worker.process.kill()
        for worker in resting:
            worker.end()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are there now, for figures of memory."""
        with self._changed:
            return tuple(worker.process.pid for worker in (*self._resting, *self._busy))

    def _told(self, request: dict[str, Any], fds: Sequence[int]) -> _Worker:
        """A worker that was told of a job. One that was ended while it rested, where memory ran out say, fails no job: it is another's."""
        while True:
            worker = self._take()
            try:
                worker.channel.send(request, fds)
                return worker
            except BaseException as error:
                self._drop(worker)
                if not isinstance(error, ChannelClosed):
                    raise
                if not worker.idle_since:
                    raise _crashed(worker, request["job"]) from None

    def _answer(self, worker: _Worker, job: str, on_update: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        try:
            while True:
                answer, strays = worker.channel.recv()
                channel.close_all(strays)
                if "update" not in answer:
                    return answer
                if on_update is not None:
                    on_update(answer["update"])
        except ChannelClosed:
            raise _crashed(worker, job) from None

    def _take(self) -> _Worker:
        """A worker that rests, or a new one; waits while `size` are at work."""
        looks: list[set[_Worker]] = []
        with self._changed:
            while not self._closed and len(self._busy - _in_all(looks)) + self._starting >= self._size:
                if not self._changed.wait(_BETWEEN_LOOKS if len(self._busy) < self._most else None):
                    looks = [*looks[1 - _LOOKS :], {worker for worker in self._busy if worker.sleeps()}]
            if self._closed:
                raise Unavailable("the engine is shutting down")
            if self._resting:
                worker = self._resting.pop()
                self._busy.add(worker)
                return worker
            self._starting += 1
        worker_or_none: _Worker | None = None
        try:
            worker_or_none = self._start()
            return worker_or_none
        finally:
            with self._changed:
                self._starting -= 1
                if worker_or_none is not None:
                    self._busy.add(worker_or_none)
                self._changed.notify()

    def _start(self) -> _Worker:
        ours, theirs = channel.pair()
        try:
            # In this process's session: the kernel shares processors between sessions first (sched(7), autogroups), and
            # a session of their own would put all workers on a par with the daemon, whatever they give way to.
            process = spawn.start([self._python, "-I", "-S", "-c", _MAIN, str(spawn.FIRST), *self._path], os.environ, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Worker(process, ours)

    def _rest(self, worker: _Worker) -> None:
        with self._changed:
            self._busy.discard(worker)
            worker.rest()
            if closed := self._closed:
                pass
            else:
                self._resting.append(worker)
                if len(self._resting) > 1:
                    self._resting_long.notify()  # the one before it is not the last any more
                if self._warden is None:
                    self._warden = threading.Thread(target=self._retire_idle, name="worker-warden", daemon=True)
                    self._warden.start()
            self._changed.notify()
        if closed:
            worker.end()

    def _drop(self, worker: _Worker) -> None:
        worker.end(kill=True)
        with self._changed:
            self._busy.discard(worker)
            self._changed.notify()

    def _retire_idle(self) -> None:
        """The warden's life: it ends workers that rested long enough, and itself when none rests."""
        while True:
            with self._changed:
                now = time.monotonic()
                ends = self._ends()
                leaving = [worker for worker, end in zip(self._resting, ends, strict=True) if end <= now]
                self._resting = [worker for worker in self._resting if worker not in leaving]
                if not leaving:
                    if not ends:
                        self._warden = None
                        return
                    self._resting_long.wait(max(0.01, min(ends) - now))
            for worker in leaving:
                worker.end()

    def _ends(self) -> list[float]:
        """When each worker that rests is to end, by the monotonic clock."""
        last = next((worker for worker in reversed(self._resting) if worker.light), None)
        return [worker.idle_since + (self._stay if worker is last else self._idle) for worker in self._resting]


def _crashed(worker: _Worker, job: str) -> WorkerCrashed:
    return WorkerCrashed(f"a worker process ended with status {worker.end(kill=True)} while it ran {job}")


def _state(path: str) -> str:
    """The state of a thread, one letter: proc_pid_stat(5)."""
    with open(path, "rb") as file:
        return file.read().rpartition(b")")[2][1:2].decode()


def _in_all(looks: Sequence[set[_Worker]]) -> set[_Worker]:
    """Who slept at each of the last looks; nobody before there were enough of them."""
    return set.intersection(*looks) if len(looks) == _LOOKS else set()


def pool_size() -> int:
    """How many workers suit this machine: one a processor, at least two so that short jobs pass long ones."""
    return max(2, len(os.sched_getaffinity(0)))
