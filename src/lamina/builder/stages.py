"""Which stages a target needs: the graph of FROM and COPY --from, pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from lamina.dockerfile.ast import Copy, Dockerfile, Instruction, Run, Stage
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.mounts import origin_of
from lamina.errors import InvalidArgument

LONGEST = 1000
"""How many steps an image may have: each is an image of its own that lists all steps before it, which the square of their number limits."""


class TooManySteps(DockerfileError):
    """An image would have more steps than `LONGEST`."""


class TargetNotFound(InvalidArgument):
    """No stage has the name or number that --target gives."""


def find_target(dockerfile: Dockerfile, target: str) -> Stage:
    """The stage to build: the last, or the one that `target` names (a name in any case, or a number).

    Raises:
        TargetNotFound: there is none.
    """
    if not target:
        return dockerfile.stages[-1]
    stage = named(dockerfile.stages, target)
    if stage is None:
        names = ", ".join(stage.name for stage in dockerfile.stages if stage.name)
        hint = f"stages are {names}" if names else "no stage of the Dockerfile has a name"
        raise TargetNotFound(f'target stage "{target[:100]}" could not be found', hint=hint)
    return stage


def named(stages: tuple[Stage, ...], name: str) -> Stage | None:
    """The stage of that name or number."""
    for stage in stages:
        if stage.name and stage.name == name.lower():
            return stage
    if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(stages):
        return stages[int(name)]
    return None


def edges(
    dockerfile: Dockerfile, target: Stage, bases: dict[int, str], elsewhere: Callable[[str], bool] = lambda _: False
) -> dict[int, frozenset[int]]:
    """The stages that `target` stands on or copies from, itself included, in the file's order, and what each needs itself.

    `bases` gives each stage's FROM after expansion. A stage sees only the ones before it. `elsewhere` tells names that mean no stage.

    Raises:
        DockerfileError: a stage copies or mounts from itself or a later one.
    """
    found = {target.index: frozenset[int]()}
    for stage in reversed(dockerfile.stages[: target.index + 1]):
        if stage.index in found:
            found[stage.index] = frozenset(_inputs(dockerfile, stage, bases[stage.index], elsewhere))
            found.update({index: frozenset() for index in found[stage.index] if index not in found})
    return dict(sorted(found.items()))


def refuse_long(dockerfile: Dockerfile, bases: Mapping[int, str], plan: Iterable[int], name: str) -> None:
    """Refuse stages whose image would have too many steps, those of the stages below counted in.

    Raises:
        TooManySteps: points at the first step that is too many.
    """
    lengths: dict[int, int] = {}
    for index in plan:
        stage, base = dockerfile.stages[index], bases[index]
        below = named(dockerfile.stages[:index], base) if not base.isdigit() else None
        before = lengths.get(below.index, 0) if below else 0
        lengths[index] = before + len(stage.steps)
        check_length(lengths[index], stage.steps[LONGEST - before].line if lengths[index] > LONGEST else 0, name)


def check_length(steps: int, line: int = 0, name: str = "Dockerfile") -> None:
    """Raises TooManySteps where an image would have more than `LONGEST`."""
    if steps > LONGEST:
        raise TooManySteps(
            f"an image of {steps} steps is not built: {LONGEST} are the most",
            line=line,
            name=name,
            hint="set several variables or labels in one instruction, run several commands in one RUN",
        )


def needed(dockerfile: Dockerfile, target: Stage, bases: dict[int, str]) -> tuple[Stage, ...]:
    """The stages of `edges`."""
    return tuple(dockerfile.stages[index] for index in edges(dockerfile, target, bases))


def _inputs(dockerfile: Dockerfile, stage: Stage, base: str, elsewhere: Callable[[str], bool]) -> Iterator[int]:
    earlier = dockerfile.stages[: stage.index]
    # FROM 0 is an image called 0; only names refer to stages there.
    if not base.isdigit() and (below := named(earlier, base)):
        yield below.index
    for step in stage.steps:
        for origin in _origins(step):
            if elsewhere(origin):
                continue
            source = named(earlier, origin)
            if source is not None:
                yield source.index
            elif origin.isdigit() or named(dockerfile.stages[stage.index :], origin):
                why, hint = _out_of_reach(dockerfile, stage, origin)
                raise DockerfileError(f"invalid from flag value {origin}: {why}", line=step.line, hint=hint)


def _origins(step: Instruction) -> list[str]:
    """What COPY --from and RUN --mount=from= name."""
    if isinstance(step, Copy) and step.origin:
        return [step.origin]
    if isinstance(step, Run):
        return [origin for text in step.mounts if (origin := origin_of(text))]
    return []


def _out_of_reach(dockerfile: Dockerfile, stage: Stage, origin: str) -> tuple[str, str]:
    """Why `stage` cannot copy from `origin`, which is none of those before it, and what to do."""
    if origin.lower() in (stage.name, str(stage.index)):
        return "refers to current build stage", ""
    if named(dockerfile.stages, origin) is None:
        return "index out of bounds", ""
    return "refers to a later build stage", f"stages are built from top to bottom: move {origin} up"
