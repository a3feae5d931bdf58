"""A place to run commands in whose state can be kept, gone back to, and branched."""

from __future__ import annotations

import math
import select
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from lamina.container.checking import check_config
from lamina.container.document import texts
from lamina.container.snapshots import Snapshot
from lamina.errors import InvalidArgument, LaminaError
from lamina.library.container import LOOK, Container, Finished, exit_code, unframed
from lamina.library.difference import Difference

if TYPE_CHECKING:
    from lamina.daemon.engine import Engine
    from lamina.library.image import Image


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandbox may use; 0 is no limit. `memory` and `size` (of what it writes) are bytes, `cpus` processors, `pids` processes."""

    memory: int = 0
    cpus: float = 0.0
    pids: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        for name in ("memory", "cpus", "pids", "size"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InvalidArgument(f"a sandbox cannot have {value} as its limit of {name}: 0 is none")

    def host_config(self) -> dict[str, object]:
        """The same as fields of the API's HostConfig."""
        storage = {"StorageOpt": {"size": str(self.size)}} if self.size else {}
        return {"Memory": self.memory, "NanoCpus": int(self.cpus * 1e9), "PidsLimit": self.pids or None, **storage}


UNLIMITED = Limits()


class Sandbox:
    """A sandbox. Commands run in it one after the other; each has the whole container for itself, and what it leaves running ends with it.

    Nothing runs between commands, so keeping its state, and branching it, takes the same time however much was written. What a
    killed program leaves is removed by the next engine on the root. Not thread-safe; several sandboxes are independent.
    """

    def __init__(self, engine: Engine, image: Image, limits: Limits, network: str, base: Snapshot | None) -> None:
        self._engine, self._image, self._limits, self._network, self._base = engine, image, limits, network, base
        config = {"Image": image.id, "Cmd": ["true"], "Entrypoint": [], "Healthcheck": {"Test": ["NONE"]}}
        host = {"NetworkMode": network, "LogConfig": {"Type": "none"}, **limits.host_config()}
        self._container = engine.containers.create(config, host, base=base, temporary=True).id
        self._config = engine.containers.get(self._container).config

    @classmethod
    def on(cls, engine: Engine, image: Image, limits: Limits = UNLIMITED, network: str = "none") -> Sandbox:
        """A new one on an image. See `Engine.sandbox`."""
        return cls(engine, image, limits, network, None)

    @property
    def container(self) -> Container:
        """The container below it, for what is not here: files in and out, commit."""
        return Container(self._engine, self._container)

    def exec(
        self,
        *command: str,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        user: str = "",
        cwd: str = "",
        timeout: float | None = None,
    ) -> Finished:
        """Run a command to its end; its exit code and what it wrote to both streams. After `timeout` seconds it is killed: 137.

        Raises:
            CommandNotFound, CommandNotExecutable: the image has no such command, or it is not a program.
            InvalidArgument: there is no command; a word, a variable or the directory is none that a container could have; the timeout is
                no time.
            EngineClosed: also where the engine was closed meanwhile.
        """
        if not command:
            raise InvalidArgument("no command specified")
        if timeout is not None and not 0 <= timeout <= threading.TIMEOUT_MAX:
            raise InvalidArgument(f"a command cannot have {timeout} seconds: None is no limit")
        data = memoryview(input)  # a text fails here, not where the command waits for it
        changes: dict[str, object] = {
            "Env": [*texts(self._config, "Env"), *(f"{key}={value}" for key, value in (env or {}).items())],
            "User": user or self._config.get("User"),
            "WorkingDir": cwd or self._config.get("WorkingDir"),
            "OpenStdin": bool(data),
            "StdinOnce": bool(data),
        }
        check_config({**changes, "Cmd": list(command)})
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                waiter = self._engine.containers.perform(self._container, command, changes, fd=theirs.fileno(), stdin=bool(data))
            with waiter:
                try:
                    output = self._output(mine, data, timeout)
                    code = exit_code(self._engine, waiter)
                except BaseException:  # Ctrl-C, as notebooks have it: the next command finds the container free
                    self._kill()
                    with suppress(LaminaError):
                        exit_code(self._engine, waiter)
                    raise
        return Finished(code, unframed(output))

    def _output(self, stream: socket.socket, data: memoryview, timeout: float | None) -> bytes:
        """All that comes, to the stream's end; a command that has not ended in time is killed, which ends it."""
        if data:
            threading.Thread(target=_send, args=(stream.dup(), data), daemon=True).start()
        killer = threading.Timer(timeout, self._kill) if timeout is not None else None
        if killer is not None:
            killer.start()
        pieces = []
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        try:
            while True:
                while not poll.poll(LOOK * 1000):
                    self._engine.containers  # noqa: B018
                if not (piece := stream.recv(1 << 18)):
                    break
                pieces.append(piece)
        except ConnectionResetError:
            pass
        finally:
            if killer is not None:
                killer.cancel()
        return b"".join(pieces)

    def _kill(self) -> None:
        with suppress(LaminaError):
            self._engine.containers.kill(self._container)

    def changes(self) -> dict[str, str]:
        """A, M or D by path that was added to, modified in or deleted from the image."""
        return self.container.changes()

    def diff(self, other: Snapshot | Sandbox | Image | None = None) -> Difference:
        """What differs from another state to now; without one, from the state it began in."""
        explorer = self._engine.explorer
        before = self._base or self._image if other is None else other
        if isinstance(before, Snapshot):
            subject = explorer.snapshot(before)
        else:
            subject = explorer.subject(before._container if isinstance(before, Sandbox) else before.id)
        return Difference.of(explorer.diff(subject, explorer.subject(self._container)))

    def snapshot(self, name: str = "") -> Snapshot:
        """Keep its state."""
        return self._engine.containers.snapshots.create(self._container, name)

    def rollback(self, snapshot: Snapshot | None = None) -> None:
        """Make it what it was at a snapshot, its own or that of a sandbox on the same image; without one, what it began as."""
        self._engine.containers.snapshots.rollback(self._container, snapshot or self._base)

    def branch(self, snapshot: Snapshot | None = None) -> Sandbox:
        """Another sandbox that begins in this state, or in that of a snapshot. Both go on apart; what was written is not copied."""
        return self.branches(1, snapshot)[0]

    def branches(self, count: int, snapshot: Snapshot | None = None) -> Sequence[Sandbox]:
        """`count` of them, or none where one cannot be made. See `branch`."""
        base = snapshot or self._engine.containers.snapshots.state(self._container)
        made: list[Sandbox] = []
        try:
            for _ in range(count):
                made.append(Sandbox(self._engine, self._image, self._limits, self._network, base))
        except BaseException:
            for branch in made:
                branch.close()
            raise
        return made

    def close(self) -> None:
        """Remove it; its branches stay. Idempotent."""
        with suppress(LaminaError):
            self._engine.containers.remove(self._container, force=True, volumes=True)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sandbox {self._container[:12]}>"


def _send(stream: socket.socket, data: memoryview) -> None:
    with stream, suppress(OSError):
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
