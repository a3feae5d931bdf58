"""What is asked of the runtime and what it answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lamina.errors import Internal, InvalidArgument

if TYPE_CHECKING:
    from lamina.snapshot.protocol import RootMount

DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q."""


class RuntimeFailed(Internal):
    """The container could not be set up; nothing of it remains. Docker's exit code 125."""

    exit_code = 125


class CommandNotFound(InvalidArgument):
    """The container has no such command. Docker's exit code 127."""

    exit_code = 127


class CommandNotExecutable(InvalidArgument):
    """The command is there and cannot be executed. Docker's exit code 126."""

    exit_code = 126


class MountMismatch(InvalidArgument):
    """A directory is to be mounted on a file, or a file on a directory. dockerd notes exit code 127."""

    exit_code = 127


@dataclass(frozen=True, slots=True)
class Attach:
    """A client's connection to the standard streams of a process.

    `fd` is a connected socket (or any stream descriptor), duplicated to the monitor: the caller may close
    its own at once. `framed` puts Docker's 8-byte header before each chunk of output.
    `pending` are bytes of standard input that were already read from it. `logs` first replays the log.
    Input goes to the process only where it was launched with `open_stdin`. `close_stdin_on_eof` is what
    StdinOnce and exec mean: this client's EOF is the process's.
    """

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    framed: bool = True
    pending: bytes = b""
    detach_keys: bytes = DETACH_KEYS
    logs: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """Another OCI runtime: the path of its program, and what its command line begins with."""

    path: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """One container to start.

    `directory` is the container's own, on the host: the monitor writes monitor.sock, monitor.json and exit.json into it.
    `spec` is an OCI runtime specification (`bundle.default_spec`); its `root.path` is not used, `root` is mounted instead
    (or `rootfs`, a directory that is bound, where `root` is None).
    `log` are the arguments of `logfile.LogFile`, whose `path` gets Docker's json-file format; what it logs is written to the descriptor
    `log_pipe` too, unless that is -1.
    `stdin_once` closes the process's standard input when the first attached client's ends.
    `volatile` is for containers removed on exit: the overlay and the exit record are not synced.
    `user` is Docker's USER text (`name`, `uid`, with `:group`), looked up in the container's own passwd and group;
    empty: the ids in `spec` hold. `groups` are further groups, by name or number. `watch_memory` says that memory is limited: then the
    monitor tells of the moment it runs out.
    `network` are the interfaces and gateways that its network namespace gets before the command runs (see linux.cabling.connect).
    `program` is the OCI runtime that runs it; None: the embedded one. `brief`: it is expected to end soon, and its monitor may take more
    memory until then for the sake of an earlier start.
    """

    id: str
    directory: str
    spec: Mapping[str, Any]
    root: RootMount | None = None
    rootfs: str = ""
    log: Mapping[str, Any] | None = None
    log_pipe: int = -1
    open_stdin: bool = False
    stdin_once: bool = False
    volatile: bool = False
    user: str = ""
    network: Mapping[str, Any] | None = None
    groups: tuple[str, ...] = ()
    watch_memory: bool = False
    program: Program | None = None
    brief: bool = False

    @property
    def tty(self) -> bool:
        """Whether the process gets a terminal."""
        return bool(self.spec.get("process", {}).get("terminal"))


@dataclass(frozen=True, slots=True)
class Exec:
    """One more process in a running container.

    `directory` is this exec's own (its monitor writes there as a container's does), `container` is the container's. `spec` is the
    container's specification, `process` an OCI process (`bundle.exec_process`). `patience`: how many seconds it may take until the command
    is executed; 0 for any number. Processes in the container, where they are root, can stop it before.
    `traced`: others than the container's own processes see it, and may look into it (see `parting`).
    """

    id: str
    directory: str
    container: str
    spec: Mapping[str, Any]
    process: Mapping[str, Any]
    open_stdin: bool = False
    user: str = ""
    groups: tuple[str, ...] = ()
    patience: float = 0
    traced: bool = False

    @property
    def tty(self) -> bool:
        """Whether the process gets a terminal."""
        return bool(self.process.get("terminal"))


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `code` is Docker's (128+n where signal n ended it); `finished_at` in seconds since 1970."""

    code: int
    signal: int = 0
    finished_at: float = 0.0
    oom_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount a user asked for. `kind` is bind, tmpfs, or volume (a bind that is not created when missing).

    `target` is absolute in the container. `options` are mount(8)'s words (ro, nosuid, size=64m, rprivate …).
    """

    kind: str
    target: str
    source: str = ""
    readonly: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits in Docker's units; 0 or empty means none, -1 that there is none any more (`memory_swap`, `cpu_quota`, `pids`).

    `weights` are devices with their weight, (major, minor, weight); `throttles` by OCI's name (`throttleReadBpsDevice` …) devices with a
    rate.
    """

    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    nano_cpus: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0
    swappiness: int | None = None
    oom_kill_disable: bool = False
    realtime_period: int = 0
    realtime_runtime: int = 0
    weights: tuple[tuple[int, int, int], ...] = ()
    throttles: Mapping[str, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
