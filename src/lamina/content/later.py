"""Work that may come a moment after its cause, once for many causes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger("lamina.content")


class Later:
    """Does `work` in a thread of its own at most `delay` seconds after a request. Thread-safe; idle, it has no thread.

    What `work` raises is logged; whoever waits in `flush` is not kept.
    """

    def __init__(self, work: Callable[[], None], *, delay: float) -> None:
        self._work, self._delay = work, delay
        self._changed = threading.Condition()
        self._asked = self._done = self._wanted = 0
        self._thread: threading.Thread | None = None

    def request(self) -> None:
        """See to it that `work` is done, begun after this call; returns at once."""
        with self._changed:
            self._asked += 1
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="later", daemon=True)
                with suppress(RuntimeError):  # there is no room for one: the next request has it done, or `flush`
                    thread.start()
                    self._thread = thread

    @property
    def pending(self) -> bool:
        """Whether something that was requested is still to be done."""
        with self._changed:
            return self._done < self._asked

    def flush(self) -> None:
        """Return when all that was requested until now is done, whatever is requested meanwhile."""
        with self._changed:
            wanted = self._wanted = self._asked
            self._changed.notify_all()
            while self._done < wanted and self._thread is not None:
                self._changed.wait()
            left = self._done < wanted
        if left:
            self._do(wanted)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._done == self._asked:
                    self._thread = None
                    self._changed.notify_all()
                    return
                if self._done >= self._wanted:
                    self._changed.wait(self._delay)
                taken = self._asked
            self._do(taken)

    def _do(self, taken: int) -> None:
        """Do the work of the first `taken` requests."""
        try:
            self._work()
        except Exception:
            _log.exception("work that was put off failed")
        with self._changed:
            self._done = max(self._done, taken)
            self._changed.notify_all()
