"""What a build is asked to do, and how it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lamina.distribution.auth import Auth
from lamina.errors import Cancelled
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference


@dataclass(frozen=True, slots=True)
class Context:
    """The files a build may copy from: a directory, or a tar on a descriptor (pipe, socket or file).

    The tar may be plain or packed (gzip, zstd, bzip2, xz). The descriptor stays the caller's; it is read to its
    end. `Context()` is an empty context.
    """

    directory: str | None = None
    fd: int | None = None


class Cancellation:
    """Tells a running build to stop; safe from any thread, and more than once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: dict[int, Callable[[], None]] = {}

    def cancel(self) -> None:
        """Stop the build: a running step is killed, `Builder.build` raises Cancelled."""
        with self._lock:
            self._cancelled = True
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raise Cancelled if the build was told to stop."""
        if self._cancelled:
            raise Cancelled("the build was cancelled")

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called once on cancel (at once if it is too late); returns what takes it back."""
        with self._lock:
            if not self._cancelled:
                key = id(callback)
                self._callbacks[key] = callback
                return lambda: self._forget(key)
        callback()
        return lambda: None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One `docker build`.

    `dockerfile` is a path inside the context; `text`, if given, is the Dockerfile itself and the path only its
    name. A build argument whose value is None is declared without one. `network` is "" (the engine's default),
    "none" or "host". `credentials` gives what a registry wants for a base image that has to be pulled.
    """

    context: Context
    dockerfile: str = "Dockerfile"
    text: str | None = None
    tags: tuple[Reference, ...] = ()
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    network: str = ""
    platform: Platform | None = None
    cache_from: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    credentials: Callable[[Reference], Auth | None] | None = None
