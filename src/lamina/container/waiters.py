"""Waiting for a container's end: a waiter is registered before the caller answers its client, so nothing is missed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lamina.container.requests import WaitResult
from lamina.errors import InvalidArgument

NOT_RUNNING, NEXT_EXIT, REMOVED = "not-running", "next-exit", "removed"


class RegisteredWaiter:
    """See `containers.Waiter`."""

    def __init__(self, condition: str, forget: Callable[[RegisteredWaiter], None]) -> None:
        self.condition = condition
        self._forget = forget
        self._done = threading.Event()
        self._result: WaitResult | None = None

    def satisfy(self, result: WaitResult) -> None:
        """Let the waiting thread go on; the first result stands."""
        if not self._done.is_set():
            self._result = result
            self._done.set()

    def result(self, timeout: float | None = None) -> WaitResult | None:
        """See `containers.Waiter.result`."""
        self._done.wait(timeout)
        return self._result

    def close(self) -> None:
        """Stop waiting; a thread in `result` gets None."""
        self._forget(self)
        self._done.set()

    def __enter__(self) -> RegisteredWaiter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Waiters:
    """The waiters of one container. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[RegisteredWaiter] = set()
        self._callbacks: set[Callable[[], None]] = set()
        self._gone: WaitResult | None = None

    def register(self, condition: str, *, now: WaitResult | None) -> RegisteredWaiter:
        """A new waiter; `now` is the result if nothing runs, which satisfies `not-running` at once.

        Raises:
            InvalidArgument: there is no such condition.
        """
        if condition not in ("", NOT_RUNNING, NEXT_EXIT, REMOVED):
            raise InvalidArgument(f'invalid condition: "{condition}"')
        waiter = RegisteredWaiter(condition or NOT_RUNNING, self._forget)
        if waiter.condition == NOT_RUNNING and now is not None:
            waiter.satisfy(now)
            return waiter
        with self._lock:
            gone = self._gone
            if gone is None:
                self._waiting.add(waiter)
        if gone is not None:  # it was found before it was removed, and is waited for only now: nothing more comes
            waiter.satisfy(gone)
        return waiter

    def call_on_exit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called at the next exit or removal, from the thread that sees it; returns what takes that back."""
        with self._lock:
            self._callbacks.add(callback)
        return lambda: self._callbacks.discard(callback)

    def exited(self, result: WaitResult) -> None:
        """The container has exited, whether its restart policy starts it again or not."""
        self._settle((NOT_RUNNING, NEXT_EXIT), result)

    def removed(self, result: WaitResult) -> None:
        """The container is gone: nobody has anything left to wait for."""
        with self._lock:
            self._gone = result
        self._settle((NOT_RUNNING, NEXT_EXIT, REMOVED), result)

    def stayed(self, result: WaitResult) -> None:
        """A removal failed: who waits for it hears why, as from Docker."""
        self._settle((REMOVED,), result, exited=False)

    def _settle(self, conditions: tuple[str, ...], result: WaitResult, *, exited: bool = True) -> None:
        with self._lock:
            settled = [waiter for waiter in self._waiting if waiter.condition in conditions]
            self._waiting.difference_update(settled)
            callbacks, self._callbacks = (self._callbacks, set()) if exited else (set(), self._callbacks)
        for waiter in settled:
            waiter.satisfy(result)
        for callback in callbacks:
            callback()

    def _forget(self, waiter: RegisteredWaiter) -> None:
        with self._lock:
            self._waiting.discard(waiter)
