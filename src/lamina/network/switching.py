"""The daemon's side of the switchboard: found where one runs, started where a container first needs it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lamina.errors import Internal, LaminaError
from lamina.linux import channel, helper
from lamina.network.hostports import Held
from lamina.network.model import Endpoint
from lamina.network.switchboard import SOCKET
from lamina.network.wiring import aliases

_TRIES = 3
_PATIENCE, _AFTER_SILENCE = 10.0, 1.0
"""Seconds that an answer is waited for; and while one is overdue, so that not each who asks waits as long."""


class Switching:
    """Asks the switchboard of one engine. Its caller's lock makes it thread-safe. `lost` is called with it, from the thread that asks or
    from one of its own, when one that was known is gone: all that it had must be told again."""

    def __init__(self, directory: str, lock: threading.RLock, lost: Callable[[], None]) -> None:
        self.directory = directory
        self._lost = lost
        self._lock = lock
        self._channel: channel.Channel | None = None
        self._had = self._telling = self._silent = False

    def names(self, container: str, endpoints: Iterable[Endpoint], *, links: dict[str, str], servers: Sequence[str], outside: bool) -> None:
        """Tell who a container is, and what it may ask. `links` are what it calls others on all networks, besides what each endpoint's
        settings say."""
        told: list[dict[str, Any]] = [
            {
                "network": endpoint.network,
                "name": endpoint.network_name,
                "names": list(endpoint.names),
                "addresses": [address for address in (endpoint.address4, endpoint.address6) if address],
                "links": aliases(endpoint.settings.get("Links") or ()),
            }
            for endpoint in endpoints
            if endpoint.names
        ]
        every = links | {alias: name for endpoint in told for alias, name in endpoint["links"].items()}
        rest = {"links": every, "servers": list(servers), "outside": outside}
        self._ask({"op": "names", "container": container, "endpoints": told, **rest})

    def ports(self, container: str, held: Sequence[Held]) -> None:
        """Hand over the sockets of a container's ports."""
        chosen = [one for one in held if one.socket is not None]
        ports = [[one.published.protocol, one.published.address, one.published.port] for one in chosen]
        self._ask({"op": "ports", "container": container, "ports": ports}, [one.socket.fileno() for one in chosen if one.socket])

    def lead(self, container: str, to4: str, to6: str) -> None:
        """The ports of a container by IPv4 and by IPv6 lead to these addresses from now on; "": nowhere."""
        self._ask({"op": "lead", "container": container, "to": [to4, to6]})

    def watch(self, container: str, pidfd: int) -> None:
        """All of a container's ends with that process."""
        self._ask({"op": "watch", "container": container}, [pidfd])

    def drop(self, container: str) -> None:
        """A container needs nothing any more."""
        self._ask({"op": "drop", "container": container}, needed=False)

    def containers(self) -> dict[str, list[str]]:
        """What it has, by container; nothing where none runs."""
        return dict(self._ask({"op": "list"}, needed=False).get("containers", {}))

    def close(self) -> None:
        """Let go; it goes on."""
        with self._lock:
            if self._channel is not None:
                self._channel.hang_up()
                self._channel.close()
            self._channel = None

    def _ask(self, message: dict[str, Any], fds: Sequence[int] = (), *, needed: bool = True) -> dict[str, Any]:
        """One round trip. Where none runs one is started, unless it is not `needed`: then the answer is empty."""
        with self._lock:
            for _ in range(_TRIES):
                known = self._channel is not None
                try:
                    found = self._channel or self._connected(start=needed)
                    found.send(message, fds)
                    answer = found.recv(self._patience)[0]
                    self._silent = False
                    return answer
                except channel.ChannelTimeout as error:
                    self.close()  # an answer that comes yet must not be taken for that to the next question
                    self._silent = True
                    raise channel.ChannelTimeout(f"the switchboard is silent: {error.message}") from None
                except channel.ChannelClosed:
                    self.close()
                    if known:
                        # Also where it is not needed for this: others need it, and nobody else may notice any more.
                        self._tell_again(needed=needed)
                    if not needed:
                        return {}
        raise Internal("the switchboard ends as soon as it is started")

    @property
    def _patience(self) -> float:
        return _AFTER_SILENCE if self._silent else _PATIENCE

    def _watch(self, known: channel.Channel) -> None:
        """Notice when the process at the other end is gone: what it had is needed all the time."""
        fd = os.dup(known.fileno())
        threading.Thread(target=self._wait_for_end, args=(known, fd), name="switchboard", daemon=True).start()

    def _wait_for_end(self, known: channel.Channel, fd: int) -> None:
        poll = select.poll()
        poll.register(fd, 0)
        poll.poll()
        os.close(fd)
        with self._lock:
            # Else it was let go of here, or who asked found out first.
            if self._channel is known:
                self.close()
                self._tell_again(needed=False)

    def _tell_again(self, *, needed: bool) -> None:
        """With the lock: tell a new one everything. Where that is not `needed` now the next who asks tries again."""
        if self._telling:
            return
        self._telling = True
        try:
            self._lost()
        except (LaminaError, OSError):
            if needed:
                raise
        finally:
            self._telling = False

    def _connected(self, *, start: bool) -> channel.Channel:
        """With the lock: find one, or start it; then it is told what an earlier one knew."""
        started = False
        try:
            found = channel.connect(self.directory, SOCKET, self._patience)
        except channel.ChannelClosed:
            if not start:
                raise
            helper.start("lamina.network.switchboard", self.directory)
            found, started = channel.connect(self.directory, SOCKET, self._patience), True
        self._channel = found
        self._watch(found)
        if started and self._had:
            self._tell_again(needed=False)
        self._had = True
        return found
