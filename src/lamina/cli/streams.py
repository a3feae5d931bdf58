"""Copies between our standard streams and an attached container: one poll loop that never blocks on a full socket."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal, whose enums cost 5 ms
import _socket
import posix
import select

from lamina.client.containers import Hijacked
from lamina.client.stdcopy import STDERR, Demultiplexer

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE = 1 << 16
_FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTERM", "SIGCONT")


class Streams:
    """One attached connection. `keys` is a terminal's DetachKeys.feed, or nothing."""

    def __init__(self, hijacked: Hijacked, *, stdin: bool, tty: bool, keys: Callable[[bytes], tuple[bytes, bool]] | None = None) -> None:
        self._socket = hijacked.socket
        self._pending = hijacked.pending
        self._frames = None if tty else Demultiplexer()
        self._stdin = stdin
        self._keys = keys
        self._outgoing = b""
        self._resting = False

    def copy(self) -> bool:
        """Copy until the other side ends its stream; true where the detach keys were typed instead."""
        if self._pending:
            self._show(self._pending)
        # without input there is nothing to wait for but the socket: a blocking read spares two system calls a piece
        return self._poll() if self._stdin else self._drain()

    def _drain(self) -> bool:
        while data := self._receive():
            self._show(data)
        return False

    def _poll(self) -> bool:
        poll = select.poll()
        link = self._socket.fileno()
        poll.register(link, select.POLLIN)
        poll.register(0, select.POLLIN)
        while True:
            for fd, event in poll.poll():
                if fd == link and event & select.POLLOUT:
                    self._send(poll)
                if fd == link and event & ~select.POLLOUT:
                    if not (data := self._receive()):
                        return False
                    self._show(data)
                if fd == 0 and self._type(poll):
                    return True

    def _type(self, poll: select.poll) -> bool:
        data = self._read_input()
        detached = False
        if data and self._keys:
            data, detached = self._keys(data)
        elif not data:
            poll.unregister(0)
            self._stdin = False
            self._half_close()
        if data:
            self._outgoing = data
            self._send(poll)
        return detached

    def _send(self, poll: select.poll) -> None:
        """Send what is held back; input rests while the socket is full."""
        try:
            sent = self._socket.send(self._outgoing, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            sent = len(self._outgoing)  # nobody reads any more; what it wrote is still to come
        self._outgoing = self._outgoing[sent:]
        held = bool(self._outgoing)
        poll.modify(self._socket.fileno(), select.POLLIN | select.POLLOUT if held else select.POLLIN)
        if held != self._resting:
            # Not polled at all: a pipe whose writer has gone is told of even where nothing is asked for, with bytes still in it.
            self._resting = held
            if held:
                poll.unregister(0)
            else:
                poll.register(0, select.POLLIN)

    def _half_close(self) -> None:
        try:
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def _read_input() -> bytes:
        try:
            return posix.read(0, _PIECE)
        except OSError:
            return b""

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_PIECE)
        except ConnectionResetError:
            return b""

    def _show(self, data: bytes) -> None:
        if self._frames is None:
            write_all(1, data)
            return
        for kind, piece in self._frames.feed(data):
            write_all(2 if kind == STDERR else 1, piece)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte to a descriptor, also to one that others made non-blocking in the meantime."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            wait = select.poll()
            wait.register(fd, select.POLLOUT)
            wait.poll()


def forward_signals(kill: Callable[[str], None], leaving: Callable[[], None]) -> None:
    """From now on hand the signals we get to `kill`, by their number's name. The third that asks to end ends us, after `leaving`.

    A first process that handles no signal outlives all that are sent to it but SIGKILL: Docker's CLI goes then, too.
    """
    asked = 0

    def handler(number: int, _frame: object) -> None:
        nonlocal asked
        asked += number in (_signal.SIGINT, _signal.SIGTERM)
        if asked > 2:
            leaving()
            raise KeyboardInterrupt
        kill(str(int(number)))

    for name in _FORWARDED:
        _signal.signal(getattr(_signal, name), handler)


def on_resize(resize: Callable[[], None]) -> None:
    """From now on call `resize` when the terminal's size changes."""
    _signal.signal(_signal.SIGWINCH, lambda _number, _frame: resize())
