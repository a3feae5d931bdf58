"""`run` and `exec` as few waits: connections are made, and what comes next is asked for, while the engine is at work on what came before."""

from __future__ import annotations

import _socket

from lamina.client.text import document, query, quoted
from lamina.client.transport import Connection, Response, Transport
from lamina.errors import LaminaError

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable

HIJACK = ("Connection: Upgrade", "Upgrade: tcp")
"""The lines of a request that takes its connection over."""


class Hijacked:
    """A socket taken over from HTTP: what was read already, and whether its bytes are framed (see stdcopy)."""

    __slots__ = ("framed", "pending", "socket")

    def __init__(self, response: Response) -> None:
        self.socket: _socket.socket
        self.socket, self.pending = response.connection.detach()
        self.framed = response.headers.get("content-type") == "application/vnd.docker.multiplexed-stream"


class _Kept:
    """One connection for several requests. While the engine is at work on what is created, so many further `connections` are made as the
    next requests take, and `meanwhile` is done."""

    __slots__ = ("_asking", "_connections", "_meanwhile", "_spare", "_transport")

    def __init__(self, transport: Transport, *, connections: int = 0, meanwhile: Callable[[], object] | None = None) -> None:
        self._transport, self._connections, self._meanwhile = transport, connections, meanwhile
        self._asking: Connection | None = None
        self._spare: list[Connection] = []

    def reach(self) -> None:
        """Connect already, so that the engine listens by the time there is something to ask. Where nobody answers, that is told (or an engine
        started) when something is asked. Only on this machine: for another one that is silent, minutes would be waited twice."""
        if not self._transport.address.path:
            return
        try:
            self._asking = self._transport.as_it_is().connect()
        except LaminaError:
            pass

    def _get_ready(self) -> None:
        try:
            while len(self._spare) < self._connections:
                self._spare.append(self._transport.connect())
        except LaminaError:
            pass  # made when it is needed, or told then
        if self._meanwhile is not None:
            self._meanwhile()

    def _connection(self) -> Connection:
        return self._spare.pop() if self._spare else self._transport.connect()

    def _create(self, path: str, config: dict[str, object], *, last: bool = False) -> dict[str, object]:
        self._spare = []  # made for one that failed long ago: an image was pulled since
        return self._ask(path, config, first=True, last=last)

    def _ask(self, path: str, body: object = None, *, first: bool = False, last: bool = False) -> dict[str, object]:
        """A POST on the kept connection, its answer read to the end; the `last` one ends the connection."""
        asking, self._asking = self._asking or self._transport.connect(), None
        asking.send("POST", path, body, last=last)
        if first:
            self._get_ready()
        answer = asking.response("POST").checked(path)
        found = document(answer.read())
        if answer.headers.get("connection", "").lower() != "close":
            self._asking = asking
        return found


class Run(_Kept):
    """The requests of `run`: create; then streams and the wait for the end, side by side; then start."""

    def create(self, config: dict[str, object], *, name: str = "", platform: str = "") -> dict[str, object]:
        """Create a container; its `Id` and `Warnings`."""
        pairs = [(key, value) for key, value in (("name", name), ("platform", platform)) if value]
        return self._create(f"/containers/create{query(pairs)}", config)

    def follow(
        self, name: str, *, stdin: bool, stdout: bool, stderr: bool, detach_keys: str = "", condition: str = ""
    ) -> tuple[Hijacked, Response]:
        """Take over a connection to the streams, and ask to wait: when this returns the engine listens to both."""
        waiting, streams = self._connection(), self._connection()
        try:
            wait = wait_path(name, condition)
            waiting.send("POST", wait)
            attach = attach_path(name, stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=detach_keys)
            wired = Hijacked(streams.request("POST", attach, headers=HIJACK))
            return wired, waiting.response("POST").checked(wait)
        except BaseException:
            waiting.close()
            raise

    def start(self, name: str, *, verify: bool = False) -> None:
        """Start a container; returns once its command runs. `verify`: its layers' bytes are looked at before."""
        self._ask(f"/containers/{quoted(name)}/start{'?verify=1' if verify else ''}", last=True)


class Program(_Kept):
    """The requests of `exec`: create, start, and how it ended."""

    def create(self, container: str, config: dict[str, object]) -> str:
        """Prepare a program in a running container; its ID."""
        return str(self._create(f"/containers/{quoted(container)}/exec", config, last=True).get("Id", ""))

    def start(self, exec_id: str, *, tty: bool, detach: bool) -> Hijacked | None:
        """Start it; its streams, or nothing where it is detached."""
        body: dict[str, object] = {"Detach": detach, "Tty": tty}
        answer = self._connection().request("POST", f"/exec/{quoted(exec_id)}/start", body, headers=() if detach else HIJACK)
        return None if detach else Hijacked(answer)

    def exit_code(self, exec_id: str) -> int | None:
        """How it ended; None where the engine does not know."""
        found = self._transport.get(f"/exec/{quoted(exec_id)}/json")
        code = found.get("ExitCode") if isinstance(found, dict) else None
        return code if isinstance(code, int) else None


def attach_path(name: str, *, stdin: bool, stdout: bool, stderr: bool, detach_keys: str = "") -> str:
    """Where the container's streams are asked for."""
    pairs = [("stream", "1")]
    pairs += [(key, "1") for key, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)) if wanted]
    pairs += [("detachKeys", detach_keys)] if detach_keys else []
    return f"/containers/{quoted(name)}/attach{query(pairs)}"


def wait_path(name: str, condition: str = "") -> str:
    """Where its end is waited for."""
    return f"/containers/{quoted(name)}/wait{query([('condition', condition)] if condition else [])}"
