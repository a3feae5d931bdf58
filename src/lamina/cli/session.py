"""What a command works with: the engine, the terminal's three streams, and the environment it was started in."""

from __future__ import annotations

import posix
import sys

from lamina.client.transport import Transport
from lamina.errors import LaminaError

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamina.cli.flags import Arguments


class Session:
    """Given to every command. `environment` is the only way to the environment below `main`."""

    __slots__ = ("_connect", "_transport", "config_directory", "environment")

    def __init__(self, connect: object, environment: Mapping[str, str], config_directory: str) -> None:
        self._connect = connect
        self._transport: Transport | None = None
        self.environment = environment
        self.config_directory = config_directory

    @property
    def engine(self) -> Transport:
        """The engine, found (and started, if need be) on first use."""
        if self._transport is None:
            transport = self._connect() if callable(self._connect) else None
            if not isinstance(transport, Transport):
                raise LaminaError("no engine is configured")
            self._transport = transport
        return self._transport

    def platform(self, arguments: Arguments) -> str:
        """What --platform says, else DOCKER_DEFAULT_PLATFORM; empty for the engine's own."""
        return arguments.text("platform") if arguments.given("platform") else self.environment.get("DOCKER_DEFAULT_PLATFORM", "")

    def verifies(self, arguments: Arguments) -> bool:
        """Whether --verify is given.

        Raises:
            Unsupported: the engine is another than laminad, and would pass over it.
        """
        asked = arguments.on("verify")
        if asked:
            self.engine.get("/lamina/info")
        return asked

    def print(self, text: str) -> None:
        """A line on standard output."""
        sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """A line on standard error."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        """A warning on standard error."""
        self.note(f"WARNING: {text}")

    def each(self, names: list[str], act: object, *, echo: bool = True) -> int:
        """Do `act` to every name, printing those done and the errors of the others; the exit code."""
        code = 0
        for name in names:
            try:
                if callable(act):
                    act(name)
            except LaminaError as error:
                code = 1
                self.note(f"lamina: {error}")
            else:
                if echo:
                    self.print(name)
        return code

    def write(self, data: bytes) -> None:
        """Bytes to standard output at once."""
        sys.stdout.flush()
        view = memoryview(data)
        try:
            while view:
                view = view[posix.write(1, view) :]
        except BlockingIOError:  # others made it so after we began
            from lamina.cli.streams import write_all

            write_all(1, view)


def is_terminal(fd: int) -> bool:
    """Whether a descriptor is a terminal's."""
    return posix.isatty(fd)
