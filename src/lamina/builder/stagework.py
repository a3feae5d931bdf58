"""The work of one stage: one instruction after the other, each looked up in the cache first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import msgspec

from lamina.builder import vertex, wording
from lamina.builder.adding import Adding
from lamina.builder.arguments import Arguments
from lamina.builder.blame import blamed
from lamina.builder.explain import Accounts
from lamina.builder.made import Made
from lamina.builder.progress import CacheHit, Explained, StepBegan, StepEnded, Tell, TriggerBegan, TriggersBegan
from lamina.builder.running import Running
from lamina.builder.site import Site
from lamina.builder.sources import CacheImages
from lamina.builder.stages import check_length, named
from lamina.builder.state import State, after, empty_config, with_path
from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.expand import Expander
from lamina.dockerfile.parser import parse_one
from lamina.dockerfile.substitute import expanded
from lamina.image import configure
from lamina.image.model import Image, LayerFacts
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform


@dataclass(frozen=True, slots=True)
class Count:
    """Where a stage's steps are among those of the whole build: `first` is its FROM's number, of `total`."""

    first: int
    total: int


class StageWork:
    """Builds one stage. `base` is what its FROM names, `labels` the command line's, taken as they are, for the last stage."""

    def __init__(
        self,
        site: Site,
        stage: ast.Stage,
        base: str,
        arguments: Arguments,
        states: Mapping[int, State],
        tell: Tell,
        count: Count,
        cached: CacheImages,
        labels: Sequence[ast.Instruction] = (),
    ) -> None:
        self._site, self._stage, self._base_name, self._states, self._tell = site, stage, base, states, tell
        self._arguments, self._count, self._labels, self._cached = arguments, count, labels, cached
        self._adding, self._running = Adding(site, stage, states, tell), Running(site, stage, states, tell)
        self._accounts = Accounts(site, stage)
        self._number = count.first
        request = site.request
        self._anew = request.no_cache or (bool(stage.name) and stage.name in request.no_cache_stages)

    def run(self) -> State:
        """Carry out all its instructions."""
        start, name = self._stage.start, self._site.request.shown_name
        self._begin(start)
        with blamed(start, name):
            state = self._base()
        self._tell(StepEnded(state.image.id if state.image else None))
        state = replace(state, base=state.layers, base_image=state.image)
        state = self._triggers(state)
        for instruction in self._stage.steps:
            self._begin(instruction)
            with blamed(instruction, name):
                state = self._step(state, instruction)
        for label in self._labels:
            self._begin(label)
            state = self._commit(state, label, self._configured(state, label))
        return state

    def _begin(self, instruction: ast.Instruction) -> None:
        self._site.cancellation.check()
        self._tell(StepBegan(self._number, self._count.total, instruction.text))
        self._number += 1

    def _base(self) -> State:
        dockerfile, base, arguments = self._site.dockerfile, self._base_name, self._arguments
        below = named(dockerfile.stages[: self._stage.index], base) if not base.isdigit() else None
        if below is not None:
            state = self._states[below.index]
            return replace(state, cmd_set=False, arguments=state.arguments.based())
        scope = {name: value for name, value in {**arguments.given, **arguments.outer}.items() if value is not None}
        platform = Expander(dockerfile.escape).word(self._stage.start.platform, scope)
        wanted = Platform.parse(platform) if platform else self._site.request.platform
        if base == "scratch":
            empty = empty_config(wanted or self._site.engine.host, "/" if self._site.request.buildkit else "")
            return State(None, with_path(empty), (), arguments.stage())
        image = self._site.image(base, wanted, self._tell)
        check_length(len(image.config.history) + len(image.config.config.on_build) + len(self._stage.steps))
        layers = self._site.engine.layers.chain(image.layers[-1] if image.layers else None)
        return State(image, with_path(image.config), layers, arguments.stage())

    def _triggers(self, state: State) -> State:
        """Carry out the base image's ONBUILD instructions, once: they are not handed on."""
        triggers = state.container.on_build
        if not triggers:
            return state
        self._tell(TriggersBegan(len(triggers)))
        config = msgspec.structs.replace(state.config, config=msgspec.structs.replace(state.container, on_build=()))
        state = replace(state, config=config)
        for text in triggers:
            with blamed(self._stage.start, self._site.request.shown_name):
                instruction = replace(parse_one(text, name="ONBUILD"), line=self._stage.start.line)
            self._tell(TriggerBegan(instruction))
            with blamed(instruction, self._site.request.shown_name):
                state = self._step(state, instruction)
        return state

    def _step(self, state: State, written: ast.Instruction) -> State:
        instruction = self._expanded(state, written)
        if isinstance(instruction, ast.Run):
            made = self._running.made(state, instruction)
        elif isinstance(instruction, (ast.Copy, ast.Add)):
            made = self._adding.made(state, instruction, self._accounts.known_files(instruction))
        elif isinstance(instruction, ast.Workdir):
            made = self._adding.work_directory(state, instruction)
        else:
            made = self._configured(state, instruction)
        state = self._commit(state, instruction, made)
        if isinstance(instruction, ast.Arg):
            return replace(state, arguments=state.arguments.declare(instruction.pairs, over=self._site.request.buildkit))
        if isinstance(instruction, ast.Env):
            return replace(state, arguments=state.arguments.assigned(name for name, _ in instruction.pairs))
        return replace(state, cmd_set=True) if isinstance(instruction, ast.Cmd) else state

    def _expanded(self, state: State, written: ast.Instruction) -> ast.Instruction:
        """An instruction with its variables replaced. To BuildKit each default of an ARG sees the names before it, and what is wrong with
        one that the command line takes the place of does not matter."""
        escape = self._site.dockerfile.escape
        if not isinstance(written, ast.Arg) or not self._site.request.buildkit:
            return expanded(written, state.scope, escape=escape)
        pairs: list[tuple[str, str | None]] = []
        for pair in written.pairs:
            seen = state.arguments.declare(pairs, over=True).scope(state.environment)
            try:
                pairs += cast(ast.Arg, expanded(ast.Arg(pairs=(pair,)), seen, escape=escape)).pairs
            except DockerfileError:
                if state.arguments.given.get(pair[0]) is None:
                    raise
                pairs.append(pair)
        return replace(written, pairs=tuple(pairs))

    def _configured(self, state: State, instruction: ast.Instruction) -> Made:
        container = configure.apply(state.container, instruction, cmd_set=state.cmd_set, buildkit=self._site.request.buildkit)
        author = instruction.name if isinstance(instruction, ast.Maintainer) else ""
        return Made(wording.created_by(instruction, state.container, container), container, author=author)

    def _commit(self, state: State, instruction: ast.Instruction, made: Made) -> State:
        """The state after a step: from the cache if it was done before, else after doing its work."""
        # How COPY and ADD spell their sources does not matter, as with Docker: `made` has what the files are, and where they go.
        what = repr(replace(instruction, line=0, end_line=0, text="")) if not isinstance(instruction, (ast.Copy, ast.Add)) else ""
        config = Digest.of(json.dumps(msgspec.to_builtins(made.container), sort_keys=True).encode())
        step = vertex.step(state.before, what, made.created_by, made.key, config, self._site.epoch).digest
        image = self._known(state, made, step)
        account = self._accounts.of(state, instruction, made)
        if image is not None:
            layers = self._site.engine.layers.chain(image.layers[-1] if image.layers else None)
            self._explain(lambda: self._accounts.why_hit(account))
            self._tell(CacheHit())
        else:
            missed = "miss: no image of --cache-from has this step" if self._cached.only else ""
            layer = self._layer(state, instruction, made, lambda: missed or self._accounts.why_missed(account))
            layers = (*state.layers, layer) if layer else state.layers
            image = self._made_image(state, made, layer, layers)
            self._site.engine.cache.put_image(step, image)
            if made.key:
                self._site.engine.cache.put_layer(made.key, layer, image)
            self._accounts.keep(account, made, image)
        self._tell(StepEnded(image.id))
        return replace(state, image=image, config=image.config, layers=layers)

    def _known(self, state: State, made: Made, step: Digest) -> Image | None:
        """The image that this step made before, here or in an image of --cache-from."""
        if self._anew:
            return None
        known = self._site.engine.cache.image(step)
        known = known if known is not None and self._cached.counts(known) else self._cached.image(state, made)
        return known if known is not None and self._site.keeps(known) else None

    def _made_image(self, state: State, made: Made, layer: LayerFacts | None, layers: Sequence[LayerFacts]) -> Image:
        author = made.author or state.config.author
        config = after(state.config, made.container, layer, created=self._site.created(), created_by=made.created_by, author=author)
        return self._site.engine.images.create(config, layers, parent=state.image.id if state.image else None, intermediate=True)

    def _layer(self, state: State, instruction: ast.Instruction, made: Made, why: Callable[[], str]) -> LayerFacts | None:
        """The layer of a step, by doing its work unless the same work was done before on the same files."""
        if made.work is None:
            self._explain(why)
            return None
        known = None
        if made.key and not self._anew:
            note = self._site.note(instruction, made.created_by) if made.floating else None
            known = self._site.engine.cache.layer(made.key, state.top, note)
            known = known if known is not None and self._cached.counts_layer(known.layer) else None
        if known is not None:
            self._explain(lambda: self._accounts.why_work_hit(made))
            self._tell(CacheHit())
            return known.layer
        self._explain(why)
        return made.work(made.created_by)

    def _explain(self, why: Callable[[], str]) -> None:
        if self._site.request.explain:
            self._tell(Explained(why()))
