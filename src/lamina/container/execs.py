"""One more command in a running container. An exec is known until its container goes; its folder lies in the container's while it runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from lamina.container.aside import aside
from lamina.container.attaching import InvalidDetachKeys, detach_sequence, runtime_attach
from lamina.container.checking import check_directory
from lamina.container.document import Document, flag, refuse_nul, text, texts
from lamina.container.launching import Launcher
from lamina.container.live import Live, Roster
from lamina.container.model import Container, State, WrongState
from lamina.container.parts import Parts, Process
from lamina.container.removal import remove_tree
from lamina.container.requests import AttachRequest
from lamina.container.spec import box, console_size
from lamina.container.store import write_file
from lamina.errors import InvalidArgument, LaminaError, NotFound
from lamina.runtime.bundle import exec_process
from lamina.runtime.launch import Exec, Exit
from lamina.runtime.process import ProcessGone
from lamina.runtime.records import SOCKET

_EXIT_ON_ITS_WAY, _ENDING = 2.0, 0.2
_PROBED = 4096
"""Bytes of a probe's output that are kept."""
_KEPT = 256
"""How many execs that ended are remembered for each container."""


class ExecNotFound(NotFound):
    """No exec has that ID."""


@dataclass(frozen=True, slots=True)
class ExecRecord:
    """An exec as it was asked for and as it is. `exit_code` is None until it ended."""

    id: str
    container: str
    config: Mapping[str, Any]
    pid: int = 0
    exit_code: int | None = None

    @property
    def command(self) -> list[str]:
        """The words that are run."""
        return texts(self.config, "Cmd")


@dataclass(slots=True)
class LiveExec:
    """An exec as this process knows it now; `of` is the container's first process that it was made beside."""

    record: ExecRecord
    live: Live
    of: Process | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: Process | None = None
    size: tuple[int, int] | None = None
    started: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """A container as it runs now, and its specification."""

    container: Container
    process: Process | None
    spec: dict[str, Any]


class Execs:
    """All execs. Thread-safe."""

    def __init__(self, parts: Parts, roster: Roster, launcher: Launcher) -> None:
        self._parts, self._roster, self._launcher = parts, roster, launcher
        self._lock = threading.Lock()
        self._execs: dict[str, LiveExec] = {}
        self._specs: dict[str, _Run] = {}

    def create(self, live: Live, config: Document, ref: str = "") -> str:
        """See Containers.exec_create. `ref` is what the container was asked for by."""
        _check_running(live, ref)
        if not texts(config, "Cmd"):
            raise InvalidArgument("No exec command specified")
        refuse_nul(config)
        check_directory(config)
        keys = text(config, "DetachKeys")
        try:
            detach_sequence(keys)
        except InvalidDetachKeys:
            raise InvalidDetachKeys(f"Invalid escape keys ({keys[:100]}) provided", hint="write detach keys as ctrl-p,ctrl-q") from None
        record = ExecRecord(self._parts.new_id(), live.container.id, dict(config))
        with self._lock:
            self._execs[record.id] = LiveExec(record, live, live.process, size=console_size(config))
        self._parts.emit(live.event(f"exec_create: {_told(record)}", execID=record.id))
        return record.id

    def check(self, exec_id: str) -> None:
        """See Containers.exec_check."""
        each = self._find(exec_id)
        _check_running(each.live)
        if each.started:
            raise WrongState(f"exec {exec_id} has already been started")

    def start(self, exec_id: str, request: AttachRequest | None, size: tuple[int, int] | None, patience: float = 0) -> None:
        """See Containers.exec_start, and `Exec.patience`."""
        self.check(exec_id)
        each = self._find(exec_id)
        with each.lock:
            if each.started:
                raise WrongState(f"exec {exec_id} has already been started")
            each.started = True
            each.size = size or each.size
            self._run(each, request, patience)

    def probe(self, live: Live, command: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a command for a health check: its exit code (-1: it took longer than `seconds` and was killed), and the beginning of its
        output.

        Raises as start.
        """
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                exec_id = self.create(live, {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True})
                self.start(exec_id, AttachRequest(theirs.fileno()), None, seconds)
            each = self._find(exec_id)
            output, ended = _collected(mine, time.monotonic() + seconds)
            process = each.process
            if not ended and process is not None:
                with suppress(ProcessGone):
                    process.signal(signal.SIGKILL)
                process.wait(_EXIT_ON_ITS_WAY)
        if not ended:
            return -1, f"Health check exceeded timeout ({_seconds(seconds)}){': ' * bool(output)}{output}"
        how = process.wait(_EXIT_ON_ITS_WAY) if process is not None else None
        return (how.code if how is not None else each.record.exit_code or 0), output

    def inspect(self, exec_id: str) -> dict[str, Any]:
        """See Containers.exec_inspect."""
        each = self._find(exec_id)
        # A client that has seen the end of its streams may ask before the start has returned here: the lock waits for that.
        with each.lock:
            process = each.process
        if process is not None:
            # A monitor takes its socket away before its clients see the end: then the exit is on its way here.
            ending = not os.path.exists(f"{each.live.container.directory}/exec/{exec_id}/{SOCKET}")
            how = process.wait(_EXIT_ON_ITS_WAY if ending else 0)
            if how is not None:
                self._ended(each, how)
        record, config = each.record, each.record.config
        running = each.started and record.exit_code is None
        command = record.command
        return {
            "CanRemove": False,
            "ContainerID": record.container,
            "DetachKeys": text(config, "DetachKeys"),
            "ExitCode": record.exit_code,
            "ID": record.id,
            "OpenStderr": flag(config, "AttachStderr"),
            "OpenStdin": flag(config, "AttachStdin"),
            "OpenStdout": flag(config, "AttachStdout"),
            "Running": running,
            "Pid": record.pid,
            "ProcessConfig": {
                "arguments": command[1:],
                "entrypoint": command[0],
                "privileged": flag(config, "Privileged"),
                "tty": flag(config, "Tty"),
                "user": text(config, "User") or text(each.live.container.config, "User"),
            },
        }

    def resize(self, exec_id: str, height: int, width: int) -> None:
        """See Containers.exec_resize."""
        each = self._find(exec_id)
        if each.record.exit_code is not None:
            raise ExecNotFound(f"no such exec: {exec_id}")
        each.size = (height, width)
        process = each.process
        if process is not None:
            with suppress(ProcessGone):
                process.resize(height, width)

    def of(self, container_id: str) -> list[str]:
        """IDs of the execs of a container that run."""
        with self._lock:
            mine = [each for each in self._execs.values() if each.record.container == container_id]
        return [each.record.id for each in mine if each.process is not None]

    def forget(self, container_id: str) -> None:
        """Its container is gone."""
        with self._lock:
            self._execs = {key: each for key, each in self._execs.items() if each.record.container != container_id}
            self._specs.pop(container_id, None)

    def recover(self, live: Live) -> None:
        """Find the execs again that another process started in a container that runs."""
        parent = f"{live.container.directory}/exec"
        for name in os.listdir(parent) if os.path.isdir(parent) else ():
            try:
                with open(f"{parent}/{name}/exec.json", "rb") as file:
                    config = _decoded(file.read())
                found = self._parts.runtime.adopt(f"{parent}/{name}")
            except (OSError, ValueError, LaminaError):
                continue
            self._adopt(live, ExecRecord(name, live.container.id, config), found)

    def _adopt(self, live: Live, record: ExecRecord, found: Process | Exit | None) -> None:
        each = LiveExec(record, live, live.process, started=True)
        with self._lock:
            self._execs[record.id] = each
        if isinstance(found, Exit) or found is None:
            self._ended(each, found or Exit(255, error="how it ended is not known"))
            return
        each.process = found
        each.record = replace(record, pid=found.pid)
        self._follow(each, found)

    def _run(self, each: LiveExec, request: AttachRequest | None, patience: float) -> None:
        """With the exec's lock: start it, or note why it could not be started."""
        record, live = each.record, each.live
        directory = f"{live.container.directory}/exec/{record.id}"
        tty = flag(record.config, "Tty")
        attaches = [] if request is None else [runtime_attach(request, fd=request.fd, tty=tty)]
        try:
            # Not its parents: the folder of a container that is being removed is not to come back.
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(directory), 0o700)
            os.mkdir(directory, 0o700)
            write_file(f"{directory}/exec.json", _encoded(record.config))
            self._parts.emit(live.event(f"exec_start: {_told(record)}", execID=record.id))
            if request is not None:
                request.accept()
            process = self._parts.runtime.exec(
                replace(self._request(each, directory, attached=request is not None), patience=patience), attaches
            )
        except (LaminaError, OSError) as error:
            said = getattr(type(error), "exit_code", 0)
            each.record = replace(record, exit_code=said if said in (126, 127) else 126)
            remove_tree(directory, self._parts.workers)
            self._forget_oldest(record.container)
            first = live.process
            # A container that can be entered no more is at its end, which comes in a moment; a missing command says nothing about it.
            if first is None or first.ended or (said not in (126, 127) and first.wait(_ENDING) is not None):
                raise live.not_running() from None
            raise
        each.process = process
        each.record = replace(record, pid=process.pid)
        if each.size is not None and tty:
            with suppress(ProcessGone):
                process.resize(*each.size)
        self._follow(each, process)

    def _follow(self, each: LiveExec, process: Process) -> None:
        process.on_detach(lambda: self._parts.emit(each.live.event("exec_detach", execID=each.record.id)))
        process.on_exit(lambda how: self._exit_seen(each, how))

    def _request(self, each: LiveExec, directory: str, *, attached: bool) -> Exec:
        record, container = each.record, each.live.container
        config = record.config
        spec = self._spec(each.live)
        tty, env = flag(config, "Tty"), texts(config, "Env")
        # the container's terminal is not the command's: what that one has in TERM was asked for, or is not passed on
        if not tty and not any(entry.partition("=")[0] == "TERM" for entry in (*texts(container.config, "Env"), *env)):
            env = [*env, "TERM"]
        process = exec_process(
            spec,
            args=record.command,
            env=env,
            cwd=text(config, "WorkingDir"),
            tty=tty,
            privileged=flag(config, "Privileged"),
        )
        if each.size is not None:
            process["consoleSize"] = box(each.size)
        return Exec(
            id=record.id,
            directory=directory,
            container=container.directory,
            spec=spec,
            process=process,
            open_stdin=attached and flag(config, "AttachStdin"),
            user=text(config, "User") or text(container.config, "User") or "0",
            groups=tuple(texts(container.host_config, "GroupAdd")),
            traced=self._traced(),
        )

    def _spec(self, live: Live) -> dict[str, Any]:
        """The container's OCI specification, which stays what it is for as long as this run of it lasts and nobody changes its record."""
        container, process = live.container, live.process
        known = self._specs.get(container.id)
        if known is None or known.container is not container or known.process is not process:
            known = self._specs[container.id] = _Run(container, process, self._launcher.spec(container, self._roster, None))
        return known.spec

    def _traced(self) -> bool:
        """Whether a container that sees processes of another's may trace: who sees whose is not asked, since few share."""
        running = [live.container for live in self._roster.all() if live.process is not None]
        sharing = any(text(container.host_config, "PidMode").startswith("container:") for container in running)
        return sharing and any(_may_trace(container.host_config) for container in running)

    def _exit_seen(self, each: LiveExec, how: Exit) -> None:
        """In the watching thread, which must not wait."""
        aside("exec exit", self._ended, each, how)

    def _ended(self, each: LiveExec, how: Exit) -> None:
        with each.lock:
            if each.record.exit_code is not None:
                return
            each.process = None
            each.record = replace(each.record, exit_code=how.code)
        self._parts.emit(each.live.event("exec_die", execID=each.record.id, exitCode=str(how.code)))
        remove_tree(f"{each.live.container.directory}/exec/{each.record.id}", self._parts.workers)
        self._forget_oldest(each.record.container)

    def _forget_oldest(self, container_id: str) -> None:
        with self._lock:
            ended = [
                key for key, each in self._execs.items() if each.record.container == container_id and each.record.exit_code is not None
            ]
            for key in ended[:-_KEPT]:
                del self._execs[key]

    def _find(self, exec_id: str) -> LiveExec:
        with self._lock:
            found = self._execs.get(exec_id)
            if found is not None and not found.started and found.live.process is not found.of:  # it goes with that run of the container
                del self._execs[exec_id]
                found = None
        if found is None:
            raise ExecNotFound(f"No such exec instance: {exec_id}")
        return found


def _may_trace(host: Document) -> bool:
    added = {name.upper().removeprefix("CAP_") for name in texts(host, "CapAdd")}
    return flag(host, "Privileged") or bool(added & {"ALL", "SYS_PTRACE"})


def _collected(stream: socket.socket, deadline: float) -> tuple[str, bool]:
    """What a probe writes, without the frames, at most 4096 bytes of it; and whether it ended before the deadline."""
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        stream.settimeout(left)
        try:
            piece = stream.recv(65536)
        except TimeoutError:
            break
        except OSError:
            piece = b""
        if not piece:
            return _unframed(data), True
        if len(data) <= 2 * _PROBED:
            data += piece
    return _unframed(data), False


def _unframed(data: bytes) -> str:
    text = b""
    while len(data) >= 8:
        size = int.from_bytes(data[4:8], "big")
        text, data = text + data[8 : 8 + size], data[8 + size :]
    return text[:_PROBED].decode(errors="replace") + "..." * (len(text) > _PROBED)


def _seconds(value: float) -> str:
    """As Go writes durations of this size."""
    return f"{value:g}s" if value >= 1 else f"{value * 1000:g}ms"


def _check_running(live: Live, ref: str = "") -> None:
    status = live.state.status
    if status is State.PAUSED:
        raise WrongState(f"Container {ref or live.container.id} is paused, unpause the container before exec")
    if status is not State.RUNNING:
        raise live.not_running()


def _told(record: ExecRecord) -> str:
    """The command in events, as Docker's: after its first word is a space, also where nothing follows."""
    return f"{record.command[0]} {' '.join(record.command[1:])}"


def _encoded(config: Mapping[str, Any]) -> bytes:
    return json.dumps(config, separators=(",", ":")).encode()


def _decoded(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("no exec's configuration")
    return document
