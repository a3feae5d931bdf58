"""A session in a process of its own: it speaks HTTP/2 with the client and writes what comes, while the daemon's threads only wait for it.

Both ends speak of calls by their numbers: `{"call": 7, "do": "tree", "with": [...]}`, answered by any number of
`{"call": 7, "moved": bytes}` and one of `{"call": 7, "answer": …}` (an agent's connection beside it) and
`{"call": 7, "refused": …, "code": …}`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lamina.buildkit.failure import UNAVAILABLE, Refused
from lamina.buildkit.http2 import Gone
from lamina.buildkit.session import Session
from lamina.distribution.auth import Auth
from lamina.errors import LaminaError
from lamina.linux import channel
from lamina.linux.channel import Channel, ChannelClosed
from lamina.worker import WorkerPool

_MOST = 256
_Reply = tuple[dict[str, Any], list[int]]


class Attendants:
    """The processes, one per session; a process that has none ends after a while."""

    def __init__(self) -> None:
        self._pool = WorkerPool(_MOST, most=_MOST, path=tuple(sys.path))

    def attend(self, session: Attended, sock: socket.socket, pending: bytes) -> None:
        """Have a process serve the session on `sock`; returns when the client's connection has ended. `pending` was read already."""
        try:
            with session.far() as end:
                params = {"pending": pending.decode("latin-1")}
                self._pool.run("lamina.buildkit.attendant:attend_job", params, [sock.fileno(), end.fileno()])
        finally:
            session.close()


class Attended:
    """See session.Session: the daemon's side. Any number of calls may be going on."""

    def __init__(self) -> None:
        self._near, self._far = channel.pair()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[_Reply | None]] = {}
        self._closed = False
        threading.Thread(target=self._read, name="session", daemon=True).start()

    @contextlib.contextmanager
    def far(self) -> Any:
        """The process's end, closed here when the context is left."""
        try:
            yield self._far
        finally:
            self._far.close()

    def close(self) -> None:
        """The session is over: whoever waits is told so."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting.values())
        for replies in waiting:
            replies.put(None)

    def tree(self, name: str, path: str, options: Mapping[str, Sequence[str]], progress: Callable[[int], None]) -> None:
        """See Session.tree."""
        self._call("tree", name, path, {key: list(values) for key, values in options.items()}, progress=progress)

    def upload(self, name: str, path: str) -> None:
        """See Session.upload."""
        self._call("upload", name, path)

    def send_tree(self, number: int, tar: str) -> None:
        """See Session.send_tree."""
        self._call("send_tree", number, tar)

    def send_file(self, number: int, path: str) -> None:
        """See Session.send_file."""
        self._call("send_file", number, path)

    def secret(self, name: str) -> bytes | None:
        """See Session.secret."""
        found = self._call("secret", name)[0]["answer"]
        return None if found is None else str(found).encode("latin-1")

    def credentials(self, host: str) -> Auth | None:
        """See Session.credentials."""
        found = self._call("credentials", host)[0]["answer"]
        return Auth.from_fields(found) if found else None

    def has_agent(self, name: str) -> bool:
        """See Session.has_agent."""
        return bool(self._call("has_agent", name)[0]["answer"])

    def agent(self, name: str) -> socket.socket:
        """See Session.agent."""
        fds = self._call("agent", name)[1]
        return socket.socket(fileno=fds[0])

    def _call(self, do: str, *arguments: Any, progress: Callable[[int], None] | None = None) -> _Reply:
        number, replies = next(self._numbers), queue.SimpleQueue[_Reply | None]()
        with self._lock:
            if self._closed:
                raise Gone("the client's session is over", code=UNAVAILABLE)
            self._waiting[number] = replies
        try:
            self._near.send({"call": number, "do": do, "with": arguments})
            while (reply := replies.get()) is not None and "moved" in reply[0]:
                if progress is not None:
                    progress(reply[0]["moved"])
        except ChannelClosed:
            reply = None
        finally:
            with self._lock:
                del self._waiting[number]
        if reply is None:
            raise Gone("the client's session is over", code=UNAVAILABLE)
        if "refused" in reply[0]:
            raise Refused(reply[0]["refused"], code=reply[0]["code"])
        return reply

    def _read(self) -> None:
        with contextlib.suppress(ChannelClosed):
            while True:
                message, fds = self._near.recv()
                with self._lock:
                    replies = self._waiting.get(message["call"])
                if replies is None:
                    channel.close_all(fds)
                else:
                    replies.put((message, fds))
        self.close()
        self._near.close()


def attend_job(params: dict[str, Any], fds: list[int], report: object) -> dict[str, Any]:  # noqa: ARG001
    """Worker: serve the session on the first descriptor, and the daemon's calls of it on the second, until the client's connection ends."""
    end = channel.from_fd(os.dup(fds[1]))
    with socket.socket(fileno=os.dup(fds[0])) as sock:
        session = Session(sock)
        threading.Thread(target=_obey, args=(end, session), name="calls", daemon=True).start()
        session.run(str(params["pending"]).encode("latin-1"))
    with contextlib.suppress(OSError):
        socket.socket(fileno=os.dup(end.fileno())).shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it
    return {}


def _obey(end: Channel, session: Session) -> None:
    with contextlib.suppress(ChannelClosed, OSError):
        while True:
            message, fds = end.recv()
            channel.close_all(fds)
            threading.Thread(target=_carry_out, args=(end, session, message), name="call", daemon=True).start()
    session.close()
    end.close()


def _carry_out(end: Channel, session: Session, message: Mapping[str, Any]) -> None:
    number = message["call"]
    try:
        arguments = list(message["with"])
        if message["do"] == "tree":
            arguments.append(_Moved(end, number))
        answer = getattr(session, message["do"])(*arguments)
        if message["do"] == "tree":
            arguments[-1].flush()
        reply: dict[str, Any] = {"call": number, "answer": _plain(answer)}
    except LaminaError as error:
        answer, reply = None, {"call": number, "refused": error.message, "code": Refused.of(error).number}
    except Exception as error:
        answer, reply = None, {"call": number, "refused": f"{type(error).__name__}: {error}"[:500], "code": UNAVAILABLE}
    with contextlib.suppress(ChannelClosed, OSError):
        if isinstance(answer, socket.socket):
            with answer:
                end.send(reply, [answer.fileno()])
        else:
            end.send(reply)


def _plain(answer: Any) -> Any:
    """An answer as JSON has it: bytes as latin-1, credentials by the names of their fields, nothing of a connection."""
    if isinstance(answer, bytes):
        return answer.decode("latin-1")
    if isinstance(answer, Auth):
        return {"username": answer.username, "password": answer.password, "identitytoken": answer.identity_token}
    return answer if isinstance(answer, bool) else None


class _Moved:
    """Tells of bytes moved, ten times a second."""

    def __init__(self, end: Channel, number: int) -> None:
        self._end, self._number, self._sum, self._told = end, number, 0, time.monotonic()

    def __call__(self, size: int) -> None:
        self._sum += size
        if time.monotonic() - self._told > 0.1:
            self.flush()

    def flush(self) -> None:
        """Tell what was not told yet."""
        self._end.send({"call": self._number, "moved": self._sum})
        self._sum, self._told = 0, time.monotonic()
