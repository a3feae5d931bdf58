"""The bus: what happens is told to whoever listens, and a while of it is remembered."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from lamina.apitypes.events import Event

HISTORY = 256
"""How many past events are kept, as dockerd keeps them."""
_BACKLOG = 10_000
Filters = Mapping[str, Sequence[str]]


class Subscription:
    """What one listener has yet to read. One thread reads it."""

    def __init__(self, bus: EventBus, filters: Filters, past: Iterable[Event]) -> None:
        self._bus = bus
        self._filters = filters
        self._queue: deque[Event] = deque(event for event in past if matches(event, filters))
        self._changed = threading.Condition()
        self._closed = False

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None after `timeout` seconds without one, or once it is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed, timeout)
            return self._queue.popleft() if self._queue else None

    @property
    def closed(self) -> bool:
        """Whether no more will come: closed by its reader, by the bus, or because the reader fell too far behind."""
        return self._closed and not self._queue

    def close(self) -> None:
        """Stop listening; idempotent, from any thread."""
        self._bus._forget(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def offer(self, event: Event) -> None:
        """Take an event in, if its filters let it through; a reader that never reads is cut off."""
        if not matches(event, self._filters):
            return
        with self._changed:
            if len(self._queue) >= _BACKLOG:
                self._closed = True
            else:
                self._queue.append(event)
            self._changed.notify_all()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class EventBus:
    """Thread-safe. `emit` is what the rooms get; nobody's slowness holds it up."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._listeners: list[Subscription] = []
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """See apitypes.events.Emit. An event without a time happens now."""
        with self._lock:
            timed = event if event.time_ns else replace(event, time_ns=self._now_ns())
            self._history.append(timed)
            for listener in self._listeners:
                listener.offer(timed)

    def subscribe(self, filters: Filters | None = None, *, since_ns: int | None = None, until_ns: int | None = None) -> Subscription:
        """Listen from now on, after the remembered events since `since_ns` (None: with `until_ns` all of them, else none, as with Docker).

        With `until_ns` in the past the subscription is closed already: it gives the past and ends.
        """
        with self._lock:
            now = self._now_ns()
            past = list(itertools.takewhile(lambda event: until_ns is None or event.time_ns <= until_ns, self._history))
            kept = [event for event in past if event.time_ns >= (since_ns or 0)] if since_ns is not None or until_ns is not None else []
            subscription = Subscription(self, filters or {}, kept)
            if until_ns is None or until_ns > now:
                self._listeners.append(subscription)
                return subscription
        subscription.close()
        return subscription

    @property
    def listeners(self) -> int:
        """How many listen now (`NEventsListener` of the API's info)."""
        return len(self._listeners)

    def close(self) -> None:
        """End every subscription."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.close()

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._listeners:
                self._listeners.remove(subscription)


def matches(event: Event, filters: Filters) -> bool:
    """Whether every filter lets `event` through: any value of a key suffices, of labels all are needed."""
    return all(_lets_through(event, key, values) for key, values in filters.items() if values)


def _lets_through(event: Event, key: str, values: Sequence[str]) -> bool:
    """Whether one filter does. Those that name an object (`container=x`) take its ID, its name, or how one of these begins."""
    if key == "label":
        return all(_has_label(event, wanted) for wanted in values)
    if key in ("type", "scope"):
        return (event.type if key == "type" else "local") in values
    if key == "event":
        return any(event.action == wanted or event.action.startswith(f"{wanted}:") for wanted in values)
    names = {event.id, event.attributes.get("name", "")}
    if key == "image":
        names = {event.attributes.get("image", "")} | (names if event.type == "image" else set())
        names |= {name.rpartition(":")[0] for name in names if "/" not in name.rpartition(":")[2]}
    elif key != event.type:
        return key not in ("container", "volume", "network", "daemon", "plugin", "builder")
    # As with Docker: the beginning of a name or ID will do, but of images.
    least = 12 if key == "image" else 0
    return any(wanted in names or (len(wanted) >= least and any(name.startswith(wanted) for name in names)) for wanted in values)


def _has_label(event: Event, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in event.attributes and (not equals or event.attributes[name] == value)
