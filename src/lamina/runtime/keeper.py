"""The keeper: a small single-threaded process that holds descriptors under names, so that they outlive the daemon.

What it holds today are mounted layers: a second mount of a layer would have a page cache of its own, so
the superblocks must be shared by all containers and across restarts. It listens on ROOT/run/keeper.sock:

    {"op": "hold", "name": …} + descriptor   -> {"ok": true}            a taken name is replaced
    {"op": "get", "name": …}                 -> {"found": bool} + descriptor
    {"op": "drop", "name": …}                -> {"ok": true}
    {"op": "names"}                          -> {"names": […]}
    {"op": "leave"}                          -> {"ok": true}, and the process ends if it holds nothing and nobody else is connected
    {"op": "end"}                            -> {"ok": true}, and the process ends

It also ends by itself when its socket is gone from its directory: the root was removed.
"""

from __future__ import annotations

import os
import select
import sys

from lamina.linux import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKET = "keeper.sock"
_LOOK_AGAIN = 60.0
"""Seconds between looks at whether the root still exists."""


class Keeper:
    """What is held, and the connections that ask for it."""

    def __init__(self, listener: Any, directory: str) -> None:
        self._listener = listener
        self._place = os.path.join(directory, SOCKET)
        self._held: dict[str, int] = {}
        self._connections: dict[int, channel.Channel] = {}
        self._poll = select.epoll()
        self._poll.register(listener.fileno(), select.EPOLLIN)
        self._ended = False

    def serve(self) -> None:
        """Answer until told to end."""
        while not self._ended:
            ready = self._poll.poll(_LOOK_AGAIN)
            self._ended = not ready and not os.path.exists(self._place)
            for fd, _ in ready:
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._answer(fd)

    def _accept(self) -> None:
        try:
            connection = channel.accept(self._listener)
        except OSError:
            return  # it went away before it was accepted, or no descriptor is left: it waits
        self._connections[connection.fileno()] = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def _answer(self, fd: int) -> None:
        connection = self._connections[fd]
        try:
            message, fds = connection.recv()
            answer, sent = self._perform(message, fds)
            connection.send(answer, sent)
        except (channel.ChannelClosed, channel.BadMessage, OSError):
            self._poll.unregister(fd)
            self._connections.pop(fd).close()

    def _perform(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        operation, name = message.get("op"), str(message.get("name", ""))
        if operation == "hold" and len(fds) == 1:
            self._drop(name)
            self._held[name] = fds[0]
            return {"ok": True}, []
        channel.close_all(fds)
        if operation == "get":
            return ({"found": True}, [self._held[name]]) if name in self._held else ({"found": False}, [])
        if operation == "names":
            return {"names": sorted(self._held)}, []
        if operation == "drop":
            self._drop(name)
        if operation == "end" or (operation == "leave" and not self._held and len(self._connections) == 1):
            # Whoever asks from now on must start another keeper, not wait for this one.
            self._listener.close()
            os.unlink(self._place)
            self._ended = True
        return {"ok": operation in ("drop", "leave", "end")}, []

    def _drop(self, name: str) -> None:
        if name in self._held:
            os.close(self._held.pop(name))


def main() -> None:
    """`keeper DIRECTORY READY`: listen in DIRECTORY, say so by closing descriptor READY."""
    directory, ready = sys.argv[-2], int(sys.argv[-1])
    listener = channel.listen(directory, SOCKET)
    os.close(ready)
    Keeper(listener, directory).serve()


if __name__ == "__main__":
    main()
