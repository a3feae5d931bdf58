"""The daemon's side of the keeper: a `snapshot.FdStore` whose descriptors outlive this process."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

from lamina.errors import Internal
from lamina.linux import channel, helper
from lamina.linux.owned import Owned
from lamina.runtime.keeper import SOCKET

_TRIES = 3
_PATIENCE = 10  # seconds


class KeptFds:
    """See `lamina.snapshot.FdStore`. Finds the keeper that listens in a directory, or starts one there.

    What was asked for once is remembered, so that a layer's mount costs one round trip a process.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[str, Owned] = {}
        self._channel = _find_or_start(directory)

    def get(self, name: str) -> int | None:
        """See `FdStore.get`."""
        with self._lock:
            if name not in self._known:
                answer, fds = self._ask({"op": "get", "name": name})
                if not answer["found"]:
                    return None
                self._known[name] = Owned(fds[0])
            return self._known[name]

    def hold(self, name: str, fd: int) -> None:
        """See `FdStore.hold`."""
        with self._lock:
            self._ask({"op": "hold", "name": name}, [fd])
            self._known[name] = Owned(os.dup(fd))

    def drop(self, name: str) -> None:
        """See `FdStore.drop`."""
        with self._lock:
            self._ask({"op": "drop", "name": name})
            self._known.pop(name, None)

    def names(self) -> list[str]:
        """See `FdStore.names`."""
        with self._lock:
            return [str(name) for name in self._ask({"op": "names"})[0]["names"]]

    def end(self) -> None:
        """End the keeper; what it held is closed. For roots that are removed."""
        with self._lock:
            self._ask({"op": "end"})

    def close(self) -> None:
        """Let go; the keeper keeps everything, and ends if that is nothing."""
        with self._lock:
            with suppress(channel.ChannelClosed, channel.ChannelTimeout, channel.BadMessage):
                self._channel.send({"op": "leave"})
                self._channel.recv(_PATIENCE)
            self._channel.close()
            self._known.clear()

    def _ask(self, message: dict[str, Any], fds: list[int] | None = None) -> tuple[dict[str, Any], list[int]]:
        """One round trip; a keeper that was killed is replaced by an empty one.

        Raises:
            ChannelTimeout: it lives and did not answer in time.
        """
        for _ in range(_TRIES):
            try:
                self._channel.send(message, fds or [])
                return self._channel.recv(_PATIENCE)
            except channel.ChannelTimeout:
                # An answer that comes yet must not be taken for that to the next question: it could be another layer's descriptor.
                self._renew()
                raise
            except channel.ChannelClosed:
                self._renew()
        raise Internal("the keeper ends as soon as it is started")

    def _renew(self) -> None:
        self._channel.close()
        self._channel = _find_or_start(self._directory)


def _find_or_start(directory: str) -> channel.Channel:
    try:
        return channel.connect(directory, SOCKET, _PATIENCE)
    except channel.ChannelClosed:
        helper.start("lamina.runtime.keeper", directory)
        return channel.connect(directory, SOCKET, _PATIENCE)
