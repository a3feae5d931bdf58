"""One stream of events of a build, and the words that Docker's classic builder has for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
class CacheHit:
    """The step needed no work."""


@dataclass(frozen=True, slots=True)
class CommandStarted:
    """A RUN is running in the container `id`."""

    id: str


@dataclass(frozen=True, slots=True)
class Output:
    """What a RUN printed."""

    text: str


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
class Built:
    """The whole build is done; `names` are familiar references."""

    image: Digest
    names: Sequence[str]


Event = StepBegan | TriggersBegan | CacheHit | CommandStarted | Output | CommandEnded | StepEnded | Warned | Built


class Classic:
    """Tells events in the words of Docker's classic builder.

    With `quiet` only the ID of the image comes out; where the build fails, `failed` gives all that was held back.
    """

    def __init__(self, sink: Sink, *, quiet: bool = False) -> None:
        self._sink, self._quiet = sink, quiet
        self._held: list[str] = []

    def __call__(self, event: Event) -> None:
        """Tell one event. What the sink raises comes out here."""
        if isinstance(event, Built):
            self._sink(Update(aux={"ID": str(event.image)}))
            if self._quiet:
                self._sink(Update(stream=f"{event.image}\n"))
                return
        for text in words(event):
            if self._quiet:
                self._held.append(text)
            else:
                self._sink(Update(stream=text))

    def passed(self, update: Update) -> None:
        """Pass on the progress of a pull."""
        if not self._quiet:
            self._sink(update)

    def failed(self) -> None:
        """The build failed: what a quiet one printed is of interest after all."""
        for text in self._held:
            self._sink(Update(stream=text))
        self._held.clear()


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
        case Output(text):
            return [text]
        case CommandEnded(container):
            return [f"Removing intermediate container {container[:12]}\n"]
        case StepEnded(image):
            return [f" ---> {image.short if image else ''}\n"]
        case Warned(text):
            return [f"[Warning] {text}\n"]
        case Built(image, names):
            return [f"Successfully built {image.short}\n", *(f"Successfully tagged {name}\n" for name in names)]
