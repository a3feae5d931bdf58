"""The work of stages: one instruction after the other, each looked up in the cache first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lamina.builder import vertex, wording
from lamina.builder.arguments import Arguments
from lamina.builder.blame import blamed
from lamina.builder.context import Received
from lamina.builder.copying import CopyFailed, escapes
from lamina.builder.engine import Engine
from lamina.builder.execute import Execution, StepFailed
from lamina.builder.layerfiles import describe_layers
from lamina.builder.progress import CacheHit, Classic, CommandEnded, CommandStarted, Output, StepBegan, StepEnded, TriggersBegan
from lamina.builder.request import BuildRequest, Cancellation
from lamina.builder.stages import named
from lamina.builder.state import State, after, empty_config, with_path
from lamina.dockerfile import ast
from lamina.dockerfile.expand import Expander
from lamina.dockerfile.parser import parse_one
from lamina.dockerfile.substitute import expanded
from lamina.errors import InvalidArgument, Unsupported
from lamina.image import configure
from lamina.image.model import Image, ImageNotFound, LayerFacts, LayerNote
from lamina.snapshot.protocol import Own, RootMount, TarSource
from lamina.spec.config import ContainerConfig
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

_NETWORKS = {"": "", "default": "", "bridge": "", "none": "none", "host": "host"}
_ADDRESSES = ("http://", "https://", "git://", "git@", "ssh://", "ftp://")
_INSTRUCTIONS_WITH_FILES = (ast.Copy, ast.Add)


class NotSupportedYet(Unsupported):
    """The language has it, this builder not yet."""


class PlatformMismatch(InvalidArgument):
    """The base image is for another platform than was asked for."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What a step amounts to before it is done: its history entry, configuration, and the work behind it (its key, and how)."""

    created_by: str
    container: ContainerConfig
    key: Digest | None = None
    work: Callable[[str], LayerFacts | None] | None = None
    author: str = ""


@dataclass(slots=True)
class StageWork:
    """Builds stages of one Dockerfile in order. `ignore` is the text of the .dockerignore in force."""

    engine: Engine
    request: BuildRequest
    progress: Classic
    cancellation: Cancellation
    scratch: str
    received: Received
    ignore: str
    dockerfile: ast.Dockerfile
    total: int
    number: int = 0

    def next_number(self) -> int:
        """The number of the step that begins."""
        self.number += 1
        return self.number

    def stage(
        self, stage: ast.Stage, base: str, arguments: Arguments, states: Mapping[int, State], labels: Sequence[ast.Instruction]
    ) -> State:
        """Build one stage on what came before; `labels` are the command line's, taken as they are."""
        self._begin(stage.start)
        with blamed(stage.start, self.request.dockerfile):
            state = self._base(stage, base, arguments, states)
        self.progress(StepEnded(state.image.id if state.image else None))
        state = self._triggers(state, states, stage)
        for instruction in stage.steps:
            self._begin(instruction)
            with blamed(instruction, self.request.dockerfile):
                state = self._step(state, instruction, states, stage)
        for label in labels:
            self._begin(label)
            state = self._commit(state, label, self._configured(state, label))
        return state

    def _begin(self, instruction: ast.Instruction) -> None:
        self.cancellation.check()
        self.progress(StepBegan(self.next_number(), self.total, instruction.text))

    def _base(self, stage: ast.Stage, base: str, arguments: Arguments, states: Mapping[int, State]) -> State:
        below = named(self.dockerfile.stages[: stage.index], base) if not base.isdigit() else None
        if below is not None:
            return replace(states[below.index], arguments=arguments.stage(), cmd_set=False)
        scope = {name: value for name, value in {**arguments.given, **arguments.outer}.items() if value is not None}
        platform = Expander(self.dockerfile.escape).word(stage.start.platform, scope)
        wanted = Platform.parse(platform) if platform else self.request.platform
        if base == "scratch":
            return State(None, with_path(empty_config(wanted or self.engine.host)), (), arguments.stage())
        image = self._image(base, wanted)
        layers = self.engine.layers.chain(image.layers[-1] if image.layers else None)
        return State(image, with_path(image.config), layers, arguments.stage())

    def _image(self, name: str, platform: Platform | None) -> Image:
        """The image of that name, pulled where it is absent or where --pull says so."""
        image: Image | None = None
        if not self.request.pull:
            try:
                image = self.engine.images.resolve(name)
            except ImageNotFound:
                pass
        if image is None:
            reference = Reference.parse(name).with_default_tag()
            auth = self.request.credentials(reference) if self.request.credentials else None
            (image, *_) = self.engine.puller.pull(reference, platform=platform, auth=auth, sink=self.progress.passed)
        if platform is not None and not image.config.platform.matches(platform):
            raise PlatformMismatch(
                f"image with reference {name} was found but does not match the specified platform: "
                f"wanted {platform}, actual: {image.config.platform}"
            )
        return image

    def _triggers(self, state: State, states: Mapping[int, State], stage: ast.Stage) -> State:
        """Carry out the base image's ONBUILD instructions, once: they are not handed on."""
        triggers = state.container.on_build
        if not triggers:
            return state
        self.progress(TriggersBegan(len(triggers)))
        config = msgspec.structs.replace(state.config, config=msgspec.structs.replace(state.container, on_build=()))
        state = replace(state, config=config)
        for text in triggers:
            instruction = replace(parse_one(text, name="ONBUILD"), line=stage.start.line)
            with blamed(instruction, self.request.dockerfile):
                state = self._step(state, instruction, states, stage)
        return state

    def _step(self, state: State, written: ast.Instruction, states: Mapping[int, State], stage: ast.Stage) -> State:
        instruction = expanded(written, state.scope, escape=self.dockerfile.escape)
        if isinstance(instruction, ast.Run):
            made = self._run(state, instruction)
        elif isinstance(instruction, _INSTRUCTIONS_WITH_FILES):
            made = self._copied(state, instruction, states, stage)
        elif isinstance(instruction, ast.Workdir):
            made = self._work_directory(state, instruction)
        else:
            made = self._configured(state, instruction)
        state = self._commit(state, instruction, made)
        if isinstance(instruction, ast.Arg):
            return replace(state, arguments=state.arguments.declare(instruction.pairs))
        return replace(state, cmd_set=True) if isinstance(instruction, ast.Cmd) else state

    def _configured(self, state: State, instruction: ast.Instruction) -> _Made:
        container = configure.apply(state.container, instruction, cmd_set=state.cmd_set)
        author = instruction.name if isinstance(instruction, ast.Maintainer) else ""
        return _Made(wording.created_by(instruction, state.container, container), container, author=author)

    def _run(self, state: State, instruction: ast.Run) -> _Made:
        _refuse(bool(instruction.mounts), "RUN --mount")
        _refuse(instruction.security not in ("", "sandbox"), f"RUN --security={instruction.security[:50]}")
        _refuse(instruction.network not in _NETWORKS, f"RUN --network={instruction.network[:50]}")
        _refuse(self.request.network not in _NETWORKS, f"--network {self.request.network[:50]}")
        network = _NETWORKS[instruction.network] or _NETWORKS[self.request.network] or self.engine.network
        argv = instruction.command.argv(configure.shell_of(state.container))
        visible = state.arguments.visible(state.environment)
        hidden = state.arguments.environment(state.environment)
        script = _script(instruction)
        execution = Execution(
            argv, (*state.container.env, *(f"{name}={value}" for name, value in sorted(hidden.items()))), state.container.working_dir,
            state.container.user, network, script, instruction.heredocs[0].name if script else "", self.request.extra_hosts,
        )  # fmt: skip
        counted = (*state.container.env, *(f"{name}={value}" for name, value in sorted(visible.items())))
        work = vertex.execute(state.top, argv, env=counted, cwd=execution.cwd, user=execution.user, network=network, script=script)
        return _Made(
            wording.run(argv, visible), state.container, work.digest,
            lambda created_by: self._execute(state, instruction, execution, created_by),
        )  # fmt: skip

    def _execute(self, state: State, instruction: ast.Instruction, execution: Execution, created_by: str) -> LayerFacts | None:
        layers = self.engine.layers

        def root(own: Own) -> RootMount:
            layers.prepare(state.top, own)
            return layers.root(state.top, own)

        ran = self.engine.executor.run(
            execution,
            root,
            started=lambda container: self.progress(CommandStarted(container)),
            output=lambda text: self.progress(Output(text)),
            cancellation=self.cancellation,
        )
        with ran as (container, upper, code):
            if code:
                raise StepFailed(wording.returned(execution.argv, code), status=code)
            layer = None
            if layers.changed(state.top, upper):
                layer = layers.commit_upper(upper, state.top, self._note(instruction, created_by))
        self.progress(CommandEnded(container))
        return layer

    def _copied(self, state: State, instruction: ast.Copy | ast.Add, states: Mapping[int, State], stage: ast.Stage) -> _Made:
        _refuse(instruction.link, f"{instruction.keyword} --link")
        _refuse(bool(instruction.exclude), f"{instruction.keyword} --exclude")
        unpack = False
        if isinstance(instruction, ast.Add):
            unpack = instruction.unpack is not False
            _refuse(bool(instruction.checksum), "ADD --checksum")
            _refuse(instruction.keep_git_dir, "ADD --keep-git-dir")
            address = next((source for source in instruction.sources if source.startswith(_ADDRESSES)), None)
            _refuse(address is not None, f"ADD of an address ({address})")
        else:
            _refuse(instruction.parents, "COPY --parents")
        if not instruction.sources and not instruction.heredocs:
            raise CopyFailed(f"{instruction.keyword} failed: no source files were specified")
        params, origin = self._sources(state, instruction, states, stage)
        params |= {"unpack": unpack, "chown": instruction.chown, "chmod": instruction.chmod}
        facts = self._content(params, origin, instruction.sources)
        content = Digest.parse(facts["digest"])
        work = vertex.copy(state.top, content, target=params["target"], chown=instruction.chown, chmod=instruction.chmod, unpack=unpack)
        kind = "multi" if facts["sources"] > 1 else "dir" if facts["directory"] else "file"
        owner = f"--chown={instruction.chown} " if instruction.chown else ""
        created_by = wording.file_operation(
            configure.shell_of(state.container), instruction.keyword, f"{owner}{kind}:{content.encoded}", instruction.target
        )
        return _Made(created_by, state.container, work.digest, lambda entry: self._write(state, instruction, params, entry))

    def _content(self, params: dict[str, Any], origin: Digest | None, paths: tuple[str, ...]) -> dict[str, Any]:
        """What the sources come to. Of a stack of layers it never changes, so it is worked out once."""
        key = vertex.selection(origin, paths).digest if origin is not None else None
        facts = self.engine.cache.selection(key) if key else None
        if facts is None:
            facts = self._job("digest", params)
            if key:
                self.engine.cache.put_selection(key, facts)
        return facts

    def _sources(
        self, state: State, instruction: ast.Copy | ast.Add, states: Mapping[int, State], stage: ast.Stage
    ) -> tuple[dict[str, Any], Digest | None]:
        """The parameters of the jobs, and the stack that is copied from (None: the context)."""
        origin: Digest | None = None
        files = self.received.describe(self.ignore)
        if isinstance(instruction, ast.Copy) and instruction.origin:
            top = self._origin(instruction.origin, states, stage)
            files = describe_layers(self.engine.layers, top)
            origin = top or Digest.of(b"")
        for source in instruction.sources:
            if escapes(source):
                raise CopyFailed(f"{instruction.keyword} failed: forbidden path outside the build context: {source}")
        sources: list[dict[str, Any]] = []
        if instruction.sources:
            sources.append({"files": files, "paths": list(instruction.sources)})
        if instruction.heredocs:
            documents = {document.name: document.content for document in instruction.heredocs}
            sources.append({"files": {"kind": "inline", "documents": documents, "time": self.engine.now()}, "paths": list(documents)})
        target = os.path.join("/", state.container.working_dir, instruction.target)
        if instruction.target in (".", "./") or instruction.target.endswith(("/", "/.")):
            target = target.rstrip("/") + "/"
        return {
            "keyword": instruction.keyword,
            "sources": sources,
            "target": target,
            "root": describe_layers(self.engine.layers, state.top),
            "scratch": self.scratch,
        }, origin

    def _origin(self, origin: str, states: Mapping[int, State], stage: ast.Stage) -> Digest | None:
        source = named(self.dockerfile.stages[: stage.index], origin)
        if source is not None:
            return states[source.index].top
        image = self._image(origin, self.request.platform)
        return image.layers[-1] if image.layers else None

    def _work_directory(self, state: State, instruction: ast.Workdir) -> _Made:
        container = configure.apply(state.container, instruction)
        params = {
            "keyword": "WORKDIR", "sources": [], "target": container.working_dir, "unpack": False, "chown": "", "chmod": "",
            "root": describe_layers(self.engine.layers, state.top), "scratch": self.scratch,
        }  # fmt: skip
        work = vertex.directory(state.top, container.working_dir)
        created_by = wording.work_directory(configure.shell_of(container), container.working_dir)
        return _Made(created_by, container, work.digest, lambda entry: self._write(state, instruction, params, entry))

    def _write(self, state: State, instruction: ast.Instruction, params: dict[str, Any], created_by: str) -> LayerFacts | None:
        """Have a worker write the layer, and take it in."""
        layers = self.engine.layers
        with layers.staging() as scratch:
            path = os.path.join(scratch, "layer.tar")
            answer = self._job("write", {**params, "path": path, "time": self.engine.now()})
            if not answer["entries"]:
                return None
            with open(path, "rb") as file:
                staged = layers.stage(TarSource(file.fileno(), compression=""), scratch)
            return layers.register(staged, state.top, self._note(instruction, created_by))

    def _job(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Run one of the copying jobs; a cancelled build ends it."""
        return self.engine.workers.run(f"lamina.builder.copying:{name}_job", params, (), lambda _: self.cancellation.check())

    def _commit(self, state: State, instruction: ast.Instruction, made: _Made) -> State:
        """The state after a step: from the cache if it was done before, else after doing its work."""
        what = repr(replace(instruction, line=0, end_line=0, text=""))
        before = str(state.image.id) if state.image else ""
        step = vertex.step(before, what, made.created_by, made.key).digest
        image = None if self.request.no_cache else self.engine.cache.image(step)
        if image is not None:
            layers = self.engine.layers.chain(image.layers[-1] if image.layers else None)
            self.progress(CacheHit())
        else:
            layer = self._layer(state, made)
            author = made.author or state.config.author
            config = after(state.config, made.container, layer, created=self._created(), created_by=made.created_by, author=author)
            layers = (*state.layers, layer) if layer else state.layers
            image = self.engine.images.create(config, layers, parent=state.image.id if state.image else None, intermediate=True)
            self.engine.cache.put_image(step, image)
            if made.key:
                self.engine.cache.put_layer(made.key, layer, image)
        self.progress(StepEnded(image.id))
        return replace(state, image=image, config=image.config, layers=layers)

    def _layer(self, state: State, made: _Made) -> LayerFacts | None:
        """The layer of a step, by doing its work unless the same work was done before on the same files."""
        if made.work is None:
            return None
        known = self.engine.cache.layer(made.key, state.top) if made.key and not self.request.no_cache else None
        if known is not None:
            self.progress(CacheHit())
            return known.layer
        return made.work(made.created_by)

    def _note(self, instruction: ast.Instruction, created_by: str) -> LayerNote:
        return LayerNote(self._created(), created_by, instruction.text)

    def _created(self) -> str:
        seconds, nanoseconds = divmod(self.engine.now(), 10**9)
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def _script(instruction: ast.Run) -> str:
    """The here-document that is executed itself: the only one, beginning with `#!`."""
    documents = instruction.heredocs
    if len(documents) == 1 and documents[0].content.startswith("#!") and instruction.command.args == (documents[0].content,):
        return documents[0].content
    return ""


def _refuse(refused: bool, what: str) -> None:
    if refused:
        raise NotSupportedYet(f"{what} is not supported yet")
