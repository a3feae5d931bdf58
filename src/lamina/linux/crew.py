"""Threads that are kept for more work: one that is there begins several times sooner than one that must be started."""

from __future__ import annotations

import os
import sys
import threading
from queue import Empty, SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    Given = ParamSpec("Given")
_KEPT = 8
"""How many may be without work at a time."""
_PATIENCE = 30.0
"""Seconds after which one without work ends."""


class Crew:
    """Does each work in a thread of its own, all at once; a thread whose work is done takes the next. What work changes of its thread must
    not matter to other work. The threads bear the crew's name and do not keep the process alive. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name, self._process = name, os.getpid()
        self._idle: list[SimpleQueue[Callable[[], object]]] = []
        self._lock = threading.Lock()

    def start(self, work: Callable[Given, object], *args: Given.args, **kwargs: Given.kwargs) -> None:
        """Do it, and return at once. What it raises is told as what ends a thread (threading.excepthook).

        Raises:
            RuntimeError: there is no room for another thread.
        """
        if self._process != os.getpid():  # a fork has none of the threads
            self._process, self._idle, self._lock = os.getpid(), [], threading.Lock()
        try:
            orders = self._idle.pop()
        except IndexError:
            orders = SimpleQueue()
            threading.Thread(target=self._serve, args=(orders,), name=self._name, daemon=True).start()
        orders.put(lambda: work(*args, **kwargs))

    def _serve(self, orders: SimpleQueue[Callable[[], object]]) -> None:
        while (work := self._next(orders)) is not None:
            try:
                work()
            except Exception:
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            del work  # and what it holds
            with self._lock:
                if len(self._idle) >= _KEPT:
                    return
                self._idle.append(orders)

    def _next(self, orders: SimpleQueue[Callable[[], object]]) -> Callable[[], object] | None:
        try:
            return orders.get(timeout=_PATIENCE)
        except Empty:
            try:
                self._idle.remove(orders)
                return None
            except ValueError:  # it was chosen for work at this very moment
                return orders.get()
