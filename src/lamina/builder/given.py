"""What a client gives to RUN --mount=type=secret and ssh; nothing of it is written to a disk, counts for the cache or is kept."""

from __future__ import annotations

import queue
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from lamina.errors import NotFound, Unavailable

_AGENT_SECONDS = 30
Agent = Callable[[], socket.socket]
"""Opens a connection to an SSH agent, the caller's to close."""


class SessionNotFound(NotFound):
    """No client holds a session of that ID open."""


class AgentSilent(Unavailable):
    """The client that has the agent did not connect it."""


@dataclass(frozen=True, slots=True)
class Given:
    """Secrets and SSH agents by their IDs."""

    secrets: Mapping[str, bytes] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)


class Session:
    """One client's, as long as its connection is open: what it gives, and its agents' connections, which it brings when it is asked.
    Thread-safe."""

    def __init__(self, secrets: Mapping[str, bytes], agents: tuple[str, ...]) -> None:
        self.given = Given(secrets, {name: self._opener(name) for name in agents})
        self._wanted: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._brought: dict[str, queue.SimpleQueue[socket.socket]] = {}

    def _opener(self, name: str) -> Agent:
        return lambda: self._open(name)

    def _open(self, name: str) -> socket.socket:
        number = secrets.token_hex(8)
        self._brought[number] = queue.SimpleQueue()
        self._wanted.put((name, number))
        try:
            return self._brought[number].get(timeout=_AGENT_SECONDS)
        except queue.Empty:
            raise AgentSilent(f"the client did not connect the SSH agent {name}") from None
        finally:
            del self._brought[number]

    def wanted(self, timeout: float) -> tuple[str, str] | None:
        """The agent that a connection is wanted to, and the connection's number; None after `timeout` seconds."""
        try:
            return self._wanted.get(timeout=timeout)
        except queue.Empty:
            return None

    def bring(self, number: str, fd: int) -> None:
        """Hand a connection over that was asked for; `fd` is duplicated.

        Raises:
            SessionNotFound: nobody waits for it.
        """
        waiting = self._brought.get(number)
        if waiting is None:
            raise SessionNotFound(f"nobody waits for connection {number[:40]}")
        waiting.put(socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_STREAM))


class Sessions:
    """The sessions that are open. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    @contextmanager
    def opened(self, given: Mapping[str, bytes], agents: tuple[str, ...]) -> Iterator[tuple[str, Session]]:
        """A session and its ID, until the context is left."""
        name, session = secrets.token_hex(16), Session(given, agents)
        with self._lock:
            self._open[name] = session
        try:
            yield name, session
        finally:
            with self._lock:
                del self._open[name]

    def get(self, name: str) -> Session:
        """The session of that ID.

        Raises:
            SessionNotFound: it is not open.
        """
        with self._lock:
            session = self._open.get(name)
        if session is None:
            raise SessionNotFound(f"no such build session: {name[:40]}")
        return session
