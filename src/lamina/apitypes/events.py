"""What happened to a thing the engine keeps, as it travels from the room it happened in to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One event in Docker's words.

    `type` is container, image, volume, network, builder or daemon; `action` is create, start, die …;
    `id` is the thing's ID (an image's digest or name, a volume's name); `attributes` are the actor's
    (labels, name, image, exitCode, signal …); `time_ns` is nanoseconds since 1970, 0 for "now": the bus sets it.
    """

    type: str
    action: str
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = 0


Emit = Callable[[Event], None]
"""Takes an event from any thread, never blocks, never raises."""


def dropped(event: Event) -> None:
    """An `Emit` that nobody listens to."""
