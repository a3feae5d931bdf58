"""The sessions that are open, and what a build has of one: files, secrets and agents, each asked for when it is wanted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from lamina.builder.given import Agent
from lamina.buildkit.failure import Refused
from lamina.distribution.auth import Auth

_WAIT = 30.0


class Session(Protocol):
    """What is asked of a client: see session.Session."""

    def tree(self, name: str, path: str, options: Mapping[str, Sequence[str]], progress: Callable[[int], None]) -> None: ...

    def upload(self, name: str, path: str) -> None: ...

    def send_tree(self, number: int, tar: str) -> None: ...

    def send_file(self, number: int, path: str) -> None: ...

    def secret(self, name: str) -> bytes | None: ...

    def credentials(self, host: str) -> Auth | None: ...

    def has_agent(self, name: str) -> bool: ...

    def agent(self, name: str) -> socket.socket: ...


class SessionNotOpen(Refused):
    """No client holds a session of that ID open."""


class GivenSecrets(Mapping[str, bytes]):
    """The secrets of a session, each asked for once, when it is wanted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, bytes | None] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self._known:
            self._known[name] = self._session.secret(name)
        found = self._known[name]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class GivenAgents(Mapping[str, Agent]):
    """The SSH agents of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getitem__(self, name: str) -> Agent:
        if not self._session.has_agent(name):
            raise KeyError(name)
        return lambda: self._session.agent(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Sessions:
    """The sessions that are open. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[str, Session] = {}

    @contextmanager
    def opened(self, name: str, session: Session) -> Iterator[None]:
        """Have it found by its ID until the context is left."""
        with self._changed:
            self._open[name] = session
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._open.pop(name, None)

    def get(self, name: str) -> Session:
        """The session of that ID, which may yet be on its way.

        Raises:
            SessionNotOpen: it does not come.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._open, _WAIT):
                raise SessionNotOpen(f"no active session for {name[:80]}")
            return self._open[name]
