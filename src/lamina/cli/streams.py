"""A client beside its container or program: what that writes, the terminal's size, signals. Loaded while the engine is at work."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal, whose enums cost 5 ms
import posix
import sys

from lamina.client.stdcopy import STDERR, Demultiplexer
from lamina.client.text import quoted
from lamina.errors import LaminaError

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.client.running import Hijacked
    from lamina.client.transport import Transport

_ID_LENGTH = 64
PIECE = 1 << 16
_FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTERM", "SIGCONT")


class Streams:
    """What comes from one attached connection; what is typed as well is a dialogue.Dialogue's."""

    def __init__(self, hijacked: Hijacked, *, tty: bool) -> None:
        self.socket = hijacked.socket
        self._pending = hijacked.pending
        self._frames = None if tty else Demultiplexer()

    def copy(self) -> bool:
        """Copy until the other side ends its stream; true where the detach keys were typed instead."""
        if self._pending:
            self.show(self._pending)
        return self.go_on()

    def go_on(self) -> bool:
        """See `copy`. There is nothing to wait for but the socket: a blocking read spares two system calls a piece."""
        while data := self.receive():
            self.show(data)
        return False

    def receive(self) -> bytes:
        """The next piece; none at the end."""
        try:
            return self.socket.recv(PIECE)
        except ConnectionResetError:
            return b""

    def show(self, data: bytes) -> None:
        """Write a piece to where it belongs."""
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
            import select  # a library of its own, loaded by few

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


def pass_signals(engine: Transport, name: str) -> None:
    """From now on hand the signals we get to a container."""

    def kill(signal: str) -> None:
        # By what is loaded already: an import that a signal interrupts cannot be asked for once more.
        try:
            engine.request("POST", f"/containers/{quoted(name)}/kill?signal={signal}").close()
        except LaminaError:
            pass  # it has ended meanwhile

    def leaving() -> None:
        shown = name[:12] if len(name) == _ID_LENGTH else name
        sys.stderr.write(f"\nlamina: interrupted three times: leaving, and the container goes on\n'lamina stop {shown}' ends it\n")

    forward_signals(kill, leaving)


def converse(engine: Transport, name: str, wired: Hijacked, *, stdin: bool, tty: bool, keys: str, program: bool = False) -> bool:
    """Copy the streams to their end; true where the user detached."""
    if not tty:
        return _dialogue(wired).copy() if stdin else Streams(wired, tty=False).copy()
    from lamina.cli.terminal import DEFAULT_DETACH, DetachKeys, Raw, detach_sequence, size
    from lamina.client.containers import Containers

    def resize() -> None:
        rows, columns = size(1)
        if rows:
            try:
                Containers(engine).resize(name, rows, columns, program=program)
            except LaminaError:
                pass  # it ends while we ask

    resize()
    on_resize(resize)
    if not stdin:
        return Streams(wired, tty=True).copy()
    watch = DetachKeys(detach_sequence(keys or DEFAULT_DETACH))
    with Raw(0):
        detached = _dialogue(wired, watch.feed).copy()
    if detached:
        write_all(2, b"read escape sequence\n")
    return detached


def _dialogue(wired: Hijacked, keys: Callable[[bytes], tuple[bytes, bool]] | None = None) -> Streams:
    from lamina.cli.dialogue import Dialogue

    return Dialogue(wired, tty=keys is not None, keys=keys)
