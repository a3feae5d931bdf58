"""One stream of events of a build, and the words that Docker's classic builder has for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lamina.dockerfile import ast
from lamina.spec.digest import Digest
from lamina.spec.progress import Sink, Update


@dataclass(frozen=True, slots=True)
class StepBegan:
    """An instruction's turn; `number` counts from 1 to `total`."""

    number: int
    total: int
    text: str


@dataclass(frozen=True, slots=True)
class TriggersBegan:
    """The base image's ONBUILD instructions come first."""

    count: int


@dataclass(frozen=True, slots=True)
class TriggerBegan:
    """The turn of one of them."""

    instruction: ast.Instruction


@dataclass(frozen=True, slots=True)
class CacheHit:
    """The step needed no work."""


@dataclass(frozen=True, slots=True)
class CommandStarted:
    """A RUN is running in the container `id`."""

    id: str


@dataclass(frozen=True, slots=True)
class Output:
    """What a RUN printed; `error`: to its standard error."""

    text: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """A RUN has ended and its container is gone."""

    id: str


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The instruction is done; `image` is None where there is no image yet (FROM scratch)."""

    image: Digest | None


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Explained:
    """Why the step hit or missed the cache, one sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Passed:
    """The progress of a pull or a download, as it is."""

    update: Update


@dataclass(frozen=True, slots=True)
class Built:
    """The whole build is done; `names` are familiar references."""

    image: Digest
    names: Sequence[str]


Event = (
    StepBegan
    | TriggersBegan
    | TriggerBegan
    | CacheHit
    | CommandStarted
    | Output
    | CommandEnded
    | StepEnded
    | Warned
    | Explained
    | Passed
    | Built
)
Tell = Callable[[Event], None]
_HELD = 4 << 20


class StageEvents(Protocol):
    """Takes the events of stages that are built side by side."""

    def of(self, index: int) -> Tell:
        """What stage `index` tells its events."""

    def ended(self, index: int) -> None:
        """The stage has told everything."""

    def failed(self, index: int) -> None:
        """Everything ends with stage `index`, which failed."""


class Narrator(Protocol):
    """Renders a build's events: those of the build as a whole, and those of its stages."""

    def __call__(self, event: Event) -> None:
        """An event of the whole build."""

    def stages(self, dockerfile: ast.Dockerfile, bases: Mapping[int, str], order: Sequence[int]) -> StageEvents:
        """Takes the events of the stages `order`; `bases` is what each stage's FROM names."""

    def failed(self) -> None:
        """The build failed."""


class Classic:
    """Tells events in the words of Docker's classic builder.

    With `quiet` only the ID of the image comes out; where the build fails, `failed` gives what was held back: the last 4 MiB of it.
    """

    def __init__(self, sink: Sink, *, quiet: bool = False) -> None:
        self._sink, self._quiet = sink, quiet
        self._held: deque[Update] = deque()
        self._size = 0

    def __call__(self, event: Event) -> None:
        """Tell one event. What the sink raises comes out here."""
        if isinstance(event, Passed):
            if not self._quiet:
                self._sink(event.update)
            return
        if isinstance(event, Built):
            if self._quiet:
                self._sink(Update(stream=f"{event.image}\n"))
                return
            self._sink(Update(aux={"ID": str(event.image)}))
        for text in words(event):
            update = Update(stream=text, error=isinstance(event, Output) and event.error)
            if self._quiet:
                self._hold(update)
            else:
                self._sink(update)

    def _hold(self, update: Update) -> None:
        self._held.append(update)
        self._size += len(update.stream)
        while self._size > _HELD:
            self._size -= len(self._held.popleft().stream)

    def stages(self, dockerfile: ast.Dockerfile, bases: Mapping[int, str], order: Sequence[int]) -> StageEvents:
        """See Narrator.stages: one stage after the other."""
        return Turns(self, order)

    def failed(self) -> None:
        """The build failed: what a quiet one printed is of interest after all."""
        for update in self._held:
            self._sink(update)
        self._held.clear()


@dataclass(slots=True)
class _Turn:
    """One stage's events that wait; `size` counts the characters of output among them."""

    held: list[Event] = field(default_factory=list)
    size: int = 0
    ended: bool = False


class Turns:
    """Has stages that are built side by side tell their events one stage after the other, in `order`.

    The first that has not ended tells as it goes; what the others say is held back until it is their turn. Thread-safe.
    """

    def __init__(self, tell: Tell, order: Sequence[int]) -> None:
        self._tell, self._order = tell, list(order)
        self._turns = {index: _Turn() for index in order}
        self._lock = threading.Lock()

    def of(self, index: int) -> Tell:
        """What stage `index` tells its events; those of a stage that nobody counted on are dropped."""
        return lambda event: self._event(index, event)

    def ended(self, index: int) -> None:
        """The stage has told everything."""
        with self._lock:
            if index in self._turns:
                self._turns[index].ended = True
            self._advance()

    def failed(self, index: int) -> None:
        """Everything ends with stage `index`, which failed: what came before it and itself is told."""
        with self._lock:
            for each in [each for each in self._order if each <= index]:
                self._release(self._turns[each])

    def _event(self, index: int, event: Event) -> None:
        with self._lock:
            turn = self._turns.get(index)
            if turn is None:
                return
            if self._order and self._order[0] == index:
                self._tell(event)
                return
            if isinstance(event, Output):
                if turn.size > _HELD:
                    return
                turn.size += len(event.text)
                if turn.size > _HELD:
                    event = Output("\n[the rest of this output is left out]\n")
            turn.held.append(event)

    def _advance(self) -> None:
        while self._order:
            turn = self._turns[self._order[0]]
            self._release(turn)
            if not turn.ended:
                return
            self._order.pop(0)

    def _release(self, turn: _Turn) -> None:
        held, turn.held = turn.held, []
        for event in held:
            self._tell(event)


def words(event: Event) -> list[str]:
    """The texts for one event, one message each."""
    match event:
        case StepBegan(number, total, text):
            return [f"Step {number}/{total} : {text}\n"]
        case TriggersBegan(count):
            return [f"# Executing {count} build trigger{'s' if count > 1 else ''}\n"]
        case CacheHit():
            return [" ---> Using cache\n"]
        case CommandStarted(container):
            return [f" ---> Running in {container[:12]}\n"]
        case Output(text, _):
            return [text]
        case CommandEnded(container):
            return [f"Removing intermediate container {container[:12]}\n"]
        case StepEnded(image):
            return [f" ---> {image.short if image else ''}\n"]
        case Warned(text):
            return [f"[Warning] {text}\n"]
        case Explained(text):
            return [f" ---> Cache {text}\n"]
        case TriggerBegan() | Passed():
            return []
        case Built(image, names):
            return [f"Successfully built {image.short}\n", *(f"Successfully tagged {name}\n" for name in names)]
