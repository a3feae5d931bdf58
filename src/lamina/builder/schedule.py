"""Stages side by side: each begins once all it stands on is done, and is built once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from lamina.builder.state import State
from lamina.errors import Cancelled
from lamina.linux.scheduling import take_short_turns

WIDEST = 24
"""How many stages are built at a time: most of a stage's time is spent waiting for its commands."""


class States(Mapping[int, State]):
    """The states of stages by index, each had from `find` when it is asked for."""

    def __init__(self, find: Callable[[int], State]) -> None:
        self._find = find

    def __getitem__(self, index: int) -> State:
        return self._find(index)

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Stages:
    """The states of stages by their index. `build` makes one, in any thread; what it needs of others it asks of `state`.

    Stages need only earlier ones, so waiting for one never goes round in a circle.
    """

    def __init__(self, build: Callable[[int], State], abandon: Callable[[], None]) -> None:
        self._build, self._abandon = build, abandon
        self._lock = threading.Lock()
        self._states: dict[int, Future[State]] = {}

    def state(self, index: int) -> State:
        """The state that stage `index` ends in: built here and now, or by whoever began it before.

        Raises:
            Exception: what its build raised.
        """
        with self._lock:
            future = self._states.get(index)
            mine = future is None
            if future is None:
                future = self._states[index] = Future()
        if mine:
            try:
                future.set_result(self._build(index))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def run(self, plan: Mapping[int, frozenset[int]], failed: Callable[[int], None]) -> None:
        """Build all stages of `plan`, which says what each needs.

        The first that fails has the others end (`abandon`); `failed` is told which it was, once all have ended.

        Raises:
            Exception: what the first that failed raised.
        """
        if len(plan) == 1:
            self._alone(next(iter(plan)), failed)
            return
        waiting, done = dict(plan), set[int]()
        failures: list[tuple[int, BaseException]] = []
        with ThreadPoolExecutor(min(WIDEST, len(plan)), thread_name_prefix="stage", initializer=take_short_turns) as pool:
            running: dict[Future[State], int] = {}
            while running or (waiting and not failures):
                for index in [] if failures else [index for index, needs in waiting.items() if needs <= done]:
                    del waiting[index]
                    running[pool.submit(self.state, index)] = index
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    done.add(index)
                    if error := future.exception():
                        failures.append((index, error))
                        self._abandon()
        if failures:
            # The others were only told to stop: what they say of it is not why.
            index, error = next((each for each in failures if not isinstance(each[1], Cancelled)), failures[0])
            failed(index)
            raise error

    def _alone(self, index: int, failed: Callable[[int], None]) -> None:
        try:
            self.state(index)
        except BaseException:
            failed(index)
            raise
