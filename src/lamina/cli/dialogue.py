"""Copies both ways between our standard streams and an attached container: one poll loop that never blocks on a full socket."""

from __future__ import annotations

import _socket
import posix
import select

from lamina.cli.streams import PIECE, Streams

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.client.running import Hijacked


class Dialogue(Streams):
    """One attached connection with standard input. `keys` is a terminal's DetachKeys.feed, or nothing."""

    def __init__(self, hijacked: Hijacked, *, tty: bool, keys: Callable[[bytes], tuple[bytes, bool]] | None = None) -> None:
        super().__init__(hijacked, tty=tty)
        self._keys = keys
        self._outgoing = b""
        self._resting = False
        self._poll = select.poll()

    def go_on(self) -> bool:
        """See Streams.copy."""
        link = self.socket.fileno()
        self._poll.register(link, select.POLLIN)
        self._poll.register(0, select.POLLIN)
        while True:
            for fd, event in self._poll.poll():
                if fd == link and event & select.POLLOUT:
                    self._send()
                if fd == link and event & ~select.POLLOUT:
                    if not (data := self.receive()):
                        return False
                    self.show(data)
                if fd == 0 and self._type():
                    return True

    def _type(self) -> bool:
        data = self._read_input()
        detached = False
        if data and self._keys:
            data, detached = self._keys(data)
        elif not data:
            self._poll.unregister(0)
            self._half_close()
        if data:
            self._outgoing = data
            self._send()
        return detached

    def _send(self) -> None:
        """Send what is held back; input rests while the socket is full."""
        try:
            sent = self.socket.send(self._outgoing, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            sent = len(self._outgoing)  # nobody reads any more; what it wrote is still to come
        self._outgoing = self._outgoing[sent:]
        held = bool(self._outgoing)
        self._poll.modify(self.socket.fileno(), select.POLLIN | select.POLLOUT if held else select.POLLIN)
        if held != self._resting:
            # Not polled at all: a pipe whose writer has gone is told of even where nothing is asked for, with bytes still in it.
            self._resting = held
            if held:
                self._poll.unregister(0)
            else:
                self._poll.register(0, select.POLLIN)

    def _half_close(self) -> None:
        try:
            self.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def _read_input() -> bytes:
        try:
            return posix.read(0, PIECE)
        except OSError:
            return b""
