"""Build arguments: which names a Dockerfile may use where, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamina.builder.request import EPOCH
from lamina.dockerfile import ast
from lamina.spec.platform import Platform

PREDEFINED = frozenset(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)
"""Arguments that need no ARG. They reach RUN but neither history nor cache, unless an ARG declares them."""


def platform_arguments(host: Platform, target: Platform, stage: str = "") -> dict[str, str]:
    """What BuildKit predefines: before the first FROM as they are, in a stage once an ARG declares them. `stage` is --target."""
    values = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("BUILD", host), ("TARGET", target)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return values


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments at one point of a Dockerfile.

    `given` come from the command line, `outer` are the ARGs before the first FROM, `declared` those of this stage and of stages that
    it is based on (None: declared without a value). ENV hides an ARG of its name, but for those that are `over` it.
    """

    given: Mapping[str, str | None] = field(default_factory=dict)
    outer: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str | None] = field(default_factory=dict)
    over: frozenset[str] = frozenset()

    def declare(self, pairs: Sequence[tuple[str, str | None]], *, over: bool = False) -> Arguments:
        """After an ARG of a stage: the command line wins, then the default, then the ARG before FROM of that name.

        With `over` it also wins against an ENV above, and one without a value leaves that of before, as with BuildKit.
        """
        declared, winning = dict(self.declared), set[str]()
        for name, default in pairs:
            given = self.given.get(name)
            value = given if given is not None else default if default is not None else self.outer.get(name)
            declared[name] = declared.get(name) if value is None and over else value
            if value is not None and over:
                winning.add(name)
        return replace(self, declared=declared, over=self.over | winning)

    def assigned(self, names: Iterable[str]) -> Arguments:
        """After an ENV of these names."""
        return replace(self, over=self.over - frozenset(names))

    def declare_outer(self, pairs: Iterable[tuple[str, str | None]]) -> Arguments:
        """After an ARG before the first FROM."""
        outer = dict(self.outer)
        for name, default in pairs:
            given = self.given.get(name)
            value = given if given is not None else default
            if value is not None:
                outer[name] = value
        return replace(self, outer=outer)

    def stage(self) -> Arguments:
        """At the FROM of an image: what other stages declared is not seen."""
        return replace(self, declared={}, over=frozenset())

    def based(self) -> Arguments:
        """At the FROM of a stage: it goes on with that one's, as with BuildKit, and ENV wins again."""
        return replace(self, over=frozenset())

    def visible(self, env: Mapping[str, str]) -> dict[str, str]:
        """What RUN sees besides `env` and what history and cache count: declared, with a value, not hidden by ENV."""
        return {name: value for name, value in self.declared.items() if value is not None and (name not in env or name in self.over)}

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """All that RUN sees besides `env`: the visible ones and given proxies."""
        proxies = {name: value for name, value in self.given.items() if name in PREDEFINED and value is not None and name not in env}
        return {**proxies, **self.visible(env)}

    def scope(self, env: Mapping[str, str]) -> dict[str, str]:
        """What `$name` means in an instruction of a stage; ENV wins against ARGs that are not over it."""
        environment = self.environment(env)
        return {**environment, **env, **{name: environment[name] for name in self.over}}


def unused(given: Iterable[str], dockerfile: ast.Dockerfile) -> list[str]:
    """Given arguments that no ARG of the file declares, sorted; BUILDKIT_* (clients pass BUILDKIT_INLINE_CACHE) are told to the builder."""
    steps: list[ast.Instruction] = [*dockerfile.arguments, *(step for stage in dockerfile.stages for step in stage.steps)]
    declared = {name for step in steps if isinstance(step, ast.Arg) for name, _ in step.pairs}
    return sorted(name for name in set(given) - declared - PREDEFINED - {EPOCH} if not name.startswith("BUILDKIT_"))
