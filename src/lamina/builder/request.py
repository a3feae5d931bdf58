"""What a build is asked to do, and how it is told to stop."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lamina.builder.given import Given
from lamina.distribution.auth import Auth
from lamina.errors import Cancelled, InvalidArgument
from lamina.runtime.launch import Limits
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

_STAND_IN = re.compile(r"\.dockerfile\.([0-9a-f]{20,40}|stdin|outside)\Z")
EPOCH = "SOURCE_DATE_EPOCH"
"""The build argument after which the same build gives the same digests (reproducible-builds.org)."""


@dataclass(frozen=True, slots=True)
class Context:
    """The files a build may copy from: a directory, or a tar on a descriptor (pipe, socket or file).

    The tar may be plain or packed (gzip, zstd, bzip2, xz). The descriptor stays the caller's; it is read to its
    end. `remote` is an address instead: of a git repository (`URL#ref:folder`), a tar, or a Dockerfile. `tar` is a
    plain tar at a path, which is read in place.
    `Context()` is an empty context.
    """

    directory: str | None = None
    fd: int | None = None
    remote: str = ""
    tar: str = ""


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


class InvalidEpoch(InvalidArgument):
    """SOURCE_DATE_EPOCH is not a number of seconds."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What holds for every RUN besides its network. `shm_size` in bytes; `security` are Docker's --security-opt."""

    limits: Limits = field(default_factory=Limits)
    shm_size: int = 64 << 20
    security: tuple[str, ...] = ()
    cgroup_parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One `docker build`.

    `dockerfile` is a path inside the context; `text`, if given, is the Dockerfile itself and the path only its name; `ignore` the
    .dockerignore that then counts. A build argument whose value is None is declared without one. `network` is "" (the engine's default),
    "none", "host", "container:NAME" or a network's name. `credentials` gives what a registry wants for a base image that has to be pulled.
    `cache_from` are images that count as a cache; with `cache_only_from` nothing else does. `squash` makes one layer of all that the build added. `explain`
    has each step say why it hit or missed the cache. `keep_containers` leaves the container of each RUN (--rm=false). `given` are secrets
    and SSH agents; None where the client cannot carry any. `contexts` are what further names mean in FROM and --from: an image by name or
    ID, or files in a tar. With `buildkit` instructions mean what they do to BuildKit where Docker's classic builder differs: see "What
    differs by protocol" in docs/builder.md. `no_cache_stages` are names of stages, in lower case, that are built anew. With
    `unfinished` the image stays an intermediate one: see Builder.publish.
    """

    context: Context
    dockerfile: str = "Dockerfile"
    text: str | None = None
    ignore: str | None = None
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
    cache_only_from: bool = False
    extra_hosts: tuple[str, ...] = ()
    credentials: Callable[[Reference], Auth | None] | None = None
    run: RunOptions = field(default_factory=RunOptions)
    squash: bool = False
    explain: bool = False
    given: Given | None = None
    keep_containers: bool = False
    contexts: Mapping[str, str | Context] = field(default_factory=dict)
    buildkit: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    unfinished: bool = False

    def context_of(self, name: str) -> str | Context | None:
        """What `contexts` has for a name, with or without `latest`."""
        try:
            familiar = Reference.parse(name).familiar.removesuffix(":latest")
        except InvalidArgument:
            familiar = name
        return self.contexts.get(name, self.contexts.get(familiar)) if self.contexts else None

    @property
    def shown_name(self) -> str:
        """The Dockerfile's name in messages. Clients send one from outside of the context under a name that their user never saw."""
        name = self.dockerfile.rpartition("/")[2]
        return "Dockerfile" if not name or _STAND_IN.match(name) else name

    @property
    def epoch(self) -> int | None:
        """Seconds since 1970 of SOURCE_DATE_EPOCH, None where it is not given.

        Raises:
            InvalidEpoch: it is no such number.
        """
        text = self.build_args.get(EPOCH)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise InvalidEpoch(f"invalid {EPOCH}: {text[:50]!r}", hint="give seconds since 1970")
        return int(text)
