"""A build's events as BuildKit's clients are told of them: vertices with names like `[2/4] RUN …`, their logs, and what is moved."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamina.builder import progress
from lamina.builder.progress import Event, Tell
from lamina.buildkit.messages import SourceInfo, StatusResponse, Timestamp, Vertex, VertexLog, VertexStatus, VertexWarning
from lamina.dockerfile import ast
from lamina.errors import InvalidArgument
from lamina.spec.progress import Update
from lamina.spec.reference import Reference

_COUNTED = (ast.Run, ast.Copy, ast.Add, ast.Workdir)
_HELD = 4 << 20


class Log:
    """What is told of one build, in order, from the first on. `name` makes its vertices differ from other builds'. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list[StatusResponse] = []
        self._count = self._size = 0
        self._closed = self._followed = self._left = False

    @property
    def followed(self) -> bool:
        """Whether somebody listens, or did."""
        return self._followed

    def work(self, name: str) -> Work:
        """A vertex, begun now."""
        with self._changed:
            self._count += 1
            number = self._count
        return Work(self, Vertex(f"sha256:{hashlib.sha256(f'{self._name} {number}'.encode()).hexdigest()}", name=name))

    def put(self, response: StatusResponse) -> None:
        """Tell something. Of output, 4 MiB wait to be heard: who listens more slowly than it comes is waited for, and where nobody listens
        the rest is not kept."""
        size = sum(len(log.msg) for log in response.logs)
        with self._changed:
            if size and self._followed:
                self._changed.wait_for(lambda: self._size < _HELD or self._left or self._closed)
            elif size and self._size >= _HELD:
                return
            if self._left:
                return
            self._size += size
            self._waiting.append(response)
            self._changed.notify_all()

    def close(self) -> None:
        """No more will be told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def follow(self) -> Iterator[StatusResponse]:
        """All that was and will be told, for one listener."""
        self._followed, self._left = True, False
        try:
            while told := self._heard():
                yield StatusResponse(
                    tuple(each for one in told for each in one.vertexes),
                    tuple(each for one in told for each in one.statuses),
                    tuple(each for one in told for each in one.logs),
                    tuple(each for one in told for each in one.warnings),
                )
        finally:
            with self._changed:
                self._left = True
                self._changed.notify_all()

    def _heard(self) -> list[StatusResponse]:
        """What is told next; nothing where no more will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            told, self._waiting, self._size = self._waiting, [], 0
            self._changed.notify_all()
            return told


def now() -> Timestamp:
    """The time."""
    return Timestamp.of(time.time_ns())


class Work:
    """One vertex that is at work."""

    def __init__(self, log: Log, vertex: Vertex) -> None:
        self._log, self._vertex = log, replace(vertex, started=now())
        self._moving: dict[str, VertexStatus] = {}
        self._told = 0.0
        log.put(StatusResponse(vertexes=(self._vertex,)))

    @property
    def digest(self) -> str:
        """What names it."""
        return self._vertex.digest

    @property
    def name(self) -> str:
        """What it is called."""
        return self._vertex.name

    def cached(self) -> None:
        """It needs no work."""
        self._vertex = replace(self._vertex, cached=True)

    def done(self, error: str = "") -> None:
        """It has ended. Idempotent."""
        if self._vertex.completed is None:
            for moving in list(self._moving.values()):
                self._tell(replace(moving, completed=now()))
            self._vertex = replace(self._vertex, completed=now(), error=error)
            self._log.put(StatusResponse(vertexes=(self._vertex,)))

    def output(self, text: str, *, error: bool = False) -> None:
        """It printed something, to its standard output or error."""
        self._log.put(StatusResponse(logs=(VertexLog(self.digest, now(), 1 + error, text.encode("utf-8", "surrogateescape")),)))

    def warn(self, text: str, filename: str = "", source: bytes = b"") -> None:
        """Something that a person should know."""
        info = SourceInfo(filename, source, "Dockerfile") if filename else None
        self._log.put(StatusResponse(warnings=(VertexWarning(self.digest, 1, text.encode(), info=info),)))

    def moved(self, name: str, current: int, total: int = 0, *, done: bool = False) -> None:
        """Bytes of something were moved, `current` of `total` by now; told ten times a second."""
        known = self._moving.get(name)
        moving = self._moving[name] = VertexStatus(
            name, self.digest, "", current, total, now(), known.started if known else now(), now() if done else None
        )
        if done or known is None or time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            self._tell(moving)
        if done:
            del self._moving[name]

    def _tell(self, status: VertexStatus) -> None:
        self._log.put(StatusResponse(statuses=(status,)))


class Narration:
    """Renders the events of the builder. `failed_step` is the instruction that failed, once one did, and its vertex."""

    def __init__(self, log: Log, definition: Work) -> None:
        self._log, self._definition = log, definition
        self._stages: _Stages | None = None

    def __call__(self, event: Event) -> None:
        """See Narrator: only warnings are of the build as a whole."""
        if isinstance(event, progress.Warned):
            self._definition.warn(event.text)

    def stages(self, dockerfile: ast.Dockerfile, bases: Mapping[int, str], order: Sequence[int]) -> _Stages:
        """See Narrator: each stage tells as it goes."""
        self._stages = _Stages(self._log, dockerfile, bases, order)
        return self._stages

    def failed(self) -> None:
        """See Narrator: told by `failure`, which knows why."""

    def failure(self, message: str) -> tuple[ast.Instruction | None, Work | None]:
        """The build failed for this reason: the instruction that did, and its vertex."""
        return self._stages.failure(message) if self._stages else (None, None)


@dataclass(slots=True)
class _Stage:
    """Where one stage stands: `steps` are its instructions as they come up, with the names of those that make a vertex; `name` is its own."""

    steps: list[tuple[ast.Instruction | None, str]]
    name: str = ""
    place: int = -1
    work: Work | None = None
    pulls: dict[str, int] = field(default_factory=dict)


class _Stages:
    """See builder.progress.StageEvents."""

    def __init__(self, log: Log, dockerfile: ast.Dockerfile, bases: Mapping[int, str], order: Sequence[int]) -> None:
        self._log = log
        self._stages = {index: _Stage(_steps(dockerfile, index, bases), _called(dockerfile, index)) for index in order}
        self._failed: int | None = None

    def of(self, index: int) -> Tell:
        """See StageEvents.of."""
        stage = self._stages.get(index, _Stage([]))
        return lambda event: self._event(stage, event)

    def ended(self, index: int) -> None:
        """See StageEvents.ended."""

    def failed(self, index: int) -> None:
        """See StageEvents.failed."""
        self._failed = index

    def failure(self, message: str) -> tuple[ast.Instruction | None, Work | None]:
        """Who failed; whatever else was at work ends too."""
        blamed: tuple[ast.Instruction | None, Work | None] = (None, None)
        for index, stage in self._stages.items():
            if index == self._failed and stage.place < len(stage.steps):
                blamed = (stage.steps[stage.place][0], stage.work)
            if stage.work is not None:
                stage.work.done(message if index == self._failed else "the build failed elsewhere")
        return blamed

    def _event(self, stage: _Stage, event: Event) -> None:
        match event:
            case progress.StepBegan():
                stage.place += 1
                name = stage.steps[stage.place][1] if stage.place < len(stage.steps) else ""
                stage.work = self._log.work(name) if name else None
            case progress.TriggerBegan(instruction):
                name = f"[{stage.name}{' ' if stage.name else ''}onbuild] {instruction.text}"
                stage.work = self._log.work(name) if isinstance(instruction, _COUNTED) else None
            case progress.CacheHit() if stage.work:
                stage.work.cached()
            case progress.Output(text, error) if stage.work:
                stage.work.output(text, error=error)
            case progress.StepEnded() if stage.work:
                stage.work.done()
            case progress.Warned(text) if stage.work:
                stage.work.warn(text)
            case progress.Passed(update) if stage.work:
                _pulled(stage.work, update)


def _pulled(work: Work, update: Update) -> None:
    if update.id and update.current is not None:
        work.moved(f"{update.status.lower()} {update.id}", update.current, update.total or 0, done=update.current == update.total)


def _steps(dockerfile: ast.Dockerfile, index: int, bases: Mapping[int, str]) -> list[tuple[ast.Instruction | None, str]]:
    """A stage's instructions and the names of their vertices; `""` for those that only change the configuration."""
    stage = dockerfile.stages[index]
    base = bases.get(index, "scratch")
    earlier = {each.name for each in dockerfile.stages[:index] if each.name}
    pulls = base != "scratch" and base.lower() not in earlier
    total = pulls + sum(isinstance(step, _COUNTED) for step in stage.steps)
    prefix = _called(dockerfile, index)
    width = 1 + int(math.log10(total)) if total else 1
    number = 0

    def named(text: str) -> str:
        nonlocal number
        number += 1
        return f"[{prefix}{' ' if prefix else ''}{number:{width}}/{total}] {text}"

    names: list[tuple[ast.Instruction | None, str]] = [(stage.start, named(f"FROM {_full(base, stage.start.base)}") if pulls else "")]
    names += [(step, named(step.text) if isinstance(step, _COUNTED) else "") for step in stage.steps]
    return names


def _called(dockerfile: ast.Dockerfile, index: int) -> str:
    """What the names of a stage's vertices begin with."""
    return dockerfile.stages[index].name or (f"stage-{index}" if len(dockerfile.stages) > 1 else "")


def _full(base: str, written: str) -> str:
    """The whole name of an image. One that is known by its ID, as that of a bake target is to another, is called what the Dockerfile calls it."""
    if base.startswith("sha256:"):
        return base if "$" in written else written
    try:
        return str(Reference.parse(base).with_default_tag())
    except InvalidArgument:
        return base
