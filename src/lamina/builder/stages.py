"""Which stages a target needs: the graph of FROM and COPY --from, pure."""

from __future__ import annotations

from collections.abc import Iterator

from lamina.dockerfile.ast import Copy, Dockerfile, Stage
from lamina.dockerfile.errors import DockerfileError
from lamina.errors import InvalidArgument


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
        raise TargetNotFound(f"failed to reach build target {target[:100]} in Dockerfile", hint=hint)
    return stage


def named(stages: tuple[Stage, ...], name: str) -> Stage | None:
    """The stage of that name or number."""
    for stage in stages:
        if stage.name and stage.name == name.lower():
            return stage
    if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(stages):
        return stages[int(name)]
    return None


def needed(dockerfile: Dockerfile, target: Stage, bases: dict[int, str]) -> tuple[Stage, ...]:
    """The stages that `target` stands on or copies from, itself included, in the file's order.

    `bases` gives each stage's FROM after expansion. A stage sees only the ones before it.

    Raises:
        DockerfileError: a stage copies from itself or a later one.
    """
    wanted = {target.index}
    for stage in reversed(dockerfile.stages[: target.index + 1]):
        if stage.index in wanted:
            wanted.update(_inputs(dockerfile, stage, bases[stage.index]))
    return tuple(stage for stage in dockerfile.stages if stage.index in wanted)


def _inputs(dockerfile: Dockerfile, stage: Stage, base: str) -> Iterator[int]:
    earlier = dockerfile.stages[: stage.index]
    # FROM 0 is an image called 0; only names refer to stages there.
    if not base.isdigit() and (below := named(earlier, base)):
        yield below.index
    for step in stage.steps:
        if not isinstance(step, Copy) or not step.origin:
            continue
        source = named(earlier, step.origin)
        if source is not None:
            yield source.index
        elif step.origin.isdigit() or (stage.name and step.origin.lower() == stage.name):
            raise DockerfileError(f"invalid from flag value {step.origin}: refers to the current or a later build stage", line=step.line)
