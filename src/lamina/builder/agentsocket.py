"""A socket in a RUN's container behind which the client's SSH agent answers."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lamina.builder.given import Agent
from lamina.errors import LaminaError

_PIECE = 1 << 16


@contextmanager
def agent_socket(directory: str, agent: Agent, *, mode: int, uid: int, gid: int) -> Iterator[str]:
    """The path of a socket in `directory`; each connection to it gets one of the agent's, until the context is left."""
    path = os.path.join(directory, "agent.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{held}/agent.sock")  # sun_path holds 108 bytes only
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        listener.listen()
        threading.Thread(target=_accept, args=(listener, agent), name="agent", daemon=True).start()
        yield path
    finally:
        os.close(held)
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, agent: Agent) -> None:
    while True:
        try:
            inside, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(inside, agent), name="agent", daemon=True).start()


def _serve(inside: socket.socket, agent: Agent) -> None:
    with inside, suppress(OSError, LaminaError), agent() as outside:
        carry(inside, outside)


def carry(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until either side ends; for conversations of short messages."""
    poll = select.poll()
    poll.register(one, select.POLLIN)
    poll.register(other, select.POLLIN)
    ways = {one.fileno(): (one, other), other.fileno(): (other, one)}
    while True:
        for fd, _ in poll.poll():
            source, target = ways[fd]
            data = source.recv(_PIECE)
            if not data:
                return
            target.sendall(data)
