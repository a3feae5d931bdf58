"""RUN: a command in a container of its own over the layers so far; what it changed becomes a layer."""

from __future__ import annotations

import codecs
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from lamina.builder import mounting
from lamina.builder.mounting import Mounts, Shown
from lamina.builder.networking import Lend, Networks, joined
from lamina.builder.request import Cancellation, RunOptions
from lamina.errors import LaminaError
from lamina.linux.removing import discard_tree
from lamina.network.mode import network_mode
from lamina.runtime.bundle import default_spec
from lamina.runtime.cgroup import cgroup_path
from lamina.runtime.client import Process
from lamina.runtime.initlayer import write_etc_files, write_init_layer
from lamina.runtime.launch import Attach, Exit, Launch, Mount
from lamina.snapshot.protocol import Own, RootMount
from lamina.spec.resolver import OF_THE_HOST, ResolverSettings
from lamina.worker.workers import Workers

_KILL = 9
Told = Callable[[str, bool], None]


class StepFailed(LaminaError):
    """A RUN ended with another code than 0. `status` is that code, which is Docker's too; `argv` is what was run."""

    def __init__(self, message: str, *, status: int, hint: str = "", argv: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.status, self.argv = status, tuple(argv)


class Starter(Protocol):
    """Starts containers and finds them again (runtime.client.Runtime)."""

    def start(self, launch: Launch, attaches: Sequence[Attach] = ()) -> Process: ...

    def adopt(self, directory: str) -> Process | Exit | None: ...


@dataclass(frozen=True, slots=True)
class Execution:
    """One RUN. `env` is complete; `script` is a here-document that is executed itself, by its first line.

    `mounts` are what --mount shows; `root` describes the files of the stack, where there are any.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    network: str
    script: str = ""
    script_name: str = ""
    extra_hosts: tuple[str, ...] = ()
    options: RunOptions = field(default_factory=RunOptions)
    mounts: tuple[Shown, ...] = ()
    root: dict[str, Any] = field(default_factory=dict)


class Executor:
    """Runs commands. `scratch` holds a directory per step while it runs; `sweep` ends what a crash left there."""

    def __init__(
        self,
        runtime: Starter,
        scratch: str,
        workers: Workers,
        networks: Networks | None = None,
        discard: Callable[[str], None] = discard_tree,
        lend: Lend | None = None,
        resolver: ResolverSettings = OF_THE_HOST,
    ) -> None:
        """Without `networks` only none and host can be asked for, without `lend` no container's network. `discard` removes a step's
        directory, now or soon. `resolver` is what /etc/resolv.conf holds instead of the host's."""
        self._runtime, self._scratch, self._workers, self._networks = runtime, scratch, workers, networks
        self._discard, self._lend, self._resolver = discard, lend, resolver
        self._init = f"{scratch}-init"
        self._lock = threading.Lock()
        self._ready = False

    @contextmanager
    def run(
        self,
        execution: Execution,
        root: Callable[[Own], RootMount],
        *,
        started: Callable[[str], None],
        output: Told,
        cancellation: Cancellation,
    ) -> Iterator[tuple[str, str, int]]:
        """Run to the end; gives the container's ID, its upper directory, which is gone when the context is left, and the code.

        `root` makes directories of its own the root over the layers so far. `started` gets the ID before the first `output`,
        which gets what the command prints, and whether to its standard error.
        Whatever is raised, here or inside, nothing is left.
        """
        container = secrets.token_hex(32)
        directory = os.path.join(self._scratch, container)
        try:
            with ExitStack() as stack:
                launch = self._prepare(container, directory, execution, root, stack)
                code = self._attend(launch, started, output, cancellation)
            yield container, os.path.join(directory, "diff"), code
        finally:
            try:
                if self._networks is not None:
                    self._networks.leave(container)
            finally:
                self._discard(directory)

    def sweep(self) -> None:
        """Kill steps that a daemon before this one left running, and delete what they wrote."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._scratch):
                directory = os.path.join(self._scratch, name)
                with suppress(LaminaError):
                    process = self._runtime.adopt(directory)
                    if isinstance(process, Process):
                        process.signal(_KILL)
                        process.wait(10)
                mounting.sweep(directory)
                discard_tree(directory)

    def _prepare(self, container: str, directory: str, execution: Execution, root: Callable[[Own], RootMount], stack: ExitStack) -> Launch:
        self._see_to_init()
        for name in ("diff", "work"):
            os.makedirs(os.path.join(directory, name), mode=0o755)
        hostname = container[:12]
        network = joined(container, network_mode(execution.network), execution.extra_hosts, self._networks, self._lend, self._resolver)
        netns, hostname, etc = network.lent or ("", hostname, None)
        etc = etc or write_etc_files(directory, hostname=hostname, hosts=network.hosts, resolv_conf=network.resolver)
        mounts, argv = self._script(directory, execution)
        shown = Mounts(directory, self._workers)
        made = stack.enter_context(shown.made(execution.mounts))
        points = shown.points(execution.root, made) if made else ""
        options = execution.options
        spec = default_spec(
            args=argv,
            env=execution.env,
            cwd=execution.cwd or "/",
            hostname=hostname,
            network=network.kind,
            netns=netns,
            mounts=(*mounts, *(mount for mount, _ in made)),
            etc=etc,
            limits=options.limits,
            shm_size=options.shm_size,
            security=options.security,
            cgroup_path=cgroup_path(options.cgroup_parent, container),
        )
        own = Own(os.path.join(directory, "diff"), os.path.join(directory, "work"), points or self._init, volatile=True)
        return Launch(container, directory, spec, root=root(own), volatile=True, user=execution.user, network=network.wiring, brief=True)

    def _see_to_init(self) -> None:
        """Mount points are the same for every step: one layer of them serves all, and nobody writes to it."""
        with self._lock:
            if not self._ready:
                write_init_layer(self._init)
                self._ready = True

    def _script(self, directory: str, execution: Execution) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
        """A script with a first line of its own is bound into the container and executed."""
        if not execution.script:
            return (), execution.argv
        path = os.path.join(directory, "script")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(execution.script)
            os.fchmod(file.fileno(), 0o755)
        target = f"/dev/pipes/{execution.script_name}"
        return (Mount("bind", target, path, readonly=True),), (target,)

    def _attend(self, launch: Launch, started: Callable[[str], None], output: Told, cancellation: Cancellation) -> int:
        cancellation.check()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                started(launch.id)
                process = self._runtime.start(launch, [Attach(writer, framed=True)])
            finally:
                os.close(writer)
            forget = cancellation.on_cancel(lambda: _kill(process))
            try:
                _forward(reader, output)
                ended = process.wait()
            except BaseException:
                _kill(process)
                process.wait()
                raise
            finally:
                forget()
        finally:
            os.close(reader)
        cancellation.check()
        return ended.code if ended is not None else 0


def _kill(process: Process) -> None:
    with suppress(LaminaError, OSError):
        process.signal(_KILL)


def _forward(reader: int, output: Told) -> None:
    """Pass on all that is printed, in the order in which it was; a character that is cut between two reads stays whole."""
    decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(2)]
    with open(reader, "rb", closefd=False) as frames:
        while len(head := frames.read(8)) == 8:
            error = head[0] == 2
            if text := decoders[error].decode(frames.read(int.from_bytes(head[4:], "big"))):
                output(text, error)
    for error in (False, True):
        if text := decoders[error].decode(b"", final=True):
            output(text, error)
