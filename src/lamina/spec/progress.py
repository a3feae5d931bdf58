"""One event stream of long work; the API, the CLI and the library render it each in their way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Update:
    """One step of long work, as Docker's JSON messages name its parts.

    `id` is what the work is about (a layer's short ID, a tag); `current` and `total` are bytes; `stream` is text for the terminal as it is,
    `error` that a command wrote it to its standard error; `aux` is a machine's answer (`{"ID": "sha256:…"}`).
    """

    status: str = ""
    id: str = ""
    current: int | None = None
    total: int | None = None
    stream: str = ""
    aux: Mapping[str, object] | None = None
    error: bool = False


Sink = Callable[[Update], None]
"""Takes updates from any thread. What it raises stops the work, which cleans up and lets it pass."""


def silent(update: Update) -> None:
    """A sink that drops everything."""
