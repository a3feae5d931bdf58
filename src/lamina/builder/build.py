"""Builder: the facade that the API, the CLI and the library use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, replace

from lamina.builder import context, remote
from lamina.builder.arguments import Arguments, platform_arguments, unused
from lamina.builder.blame import blamed
from lamina.builder.cachemounts import CacheMounts
from lamina.builder.context import Received
from lamina.builder.engine import Engine
from lamina.builder.fetching import Fetcher, shown
from lamina.builder.gitsource import Git
from lamina.builder.given import Sessions
from lamina.builder.layerfiles import describe_layers
from lamina.builder.progress import Built, Classic, Narrator, StepBegan, Warned
from lamina.builder.request import BuildRequest, Cancellation, Context
from lamina.builder.schedule import Stages, States
from lamina.builder.site import Site
from lamina.builder.sources import CacheImages
from lamina.builder.squashing import squashed
from lamina.builder.stages import edges, find_target, refuse_long
from lamina.builder.stagework import Count, StageWork
from lamina.builder.state import State
from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.expand import Expander
from lamina.dockerfile.ignore import Ignore, InvalidPattern
from lamina.dockerfile.parser import parse, reads
from lamina.errors import InvalidArgument, NotFound, Unsupported
from lamina.image.model import Image
from lamina.linux.removing import discard_tree
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update
from lamina.spec.reference import Reference

_PREFIX = "build-"
_USUAL, _LOWER = "Dockerfile", "dockerfile"
"""The second is taken where the first is not there, as Docker does."""


class DockerfileNotFound(InvalidArgument):
    """The context has no file of that name."""


class Builder:
    """Builds images from Dockerfiles. One object serves any number of builds, from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.sessions = Sessions()

    def build(self, request: BuildRequest, sink: Sink, cancellation: Cancellation | None = None) -> Image:
        """Carry `request` out and return the image.

        `sink` gets the words of Docker's classic builder as `Update.stream`, and once `Update(aux={"ID": …})`;
        with `quiet`, nothing but the image's ID and a line feed. What the sink raises stops the build.

        Raises:
            DockerfileError: the Dockerfile is malformed or needs what is not there yet; the message points at its line.
            StepFailed: a RUN ended with another code than 0 (`.status`).
            Cancelled: `cancellation` said so; the running step was killed.
        """
        return self.told(request, Classic(sink, quiet=request.quiet), cancellation)

    def told(self, request: BuildRequest, progress: Narrator, cancellation: Cancellation | None = None) -> Image:
        """Carry `request` out as `build` does, with another teller of what happens."""
        os.makedirs(self._engine.scratch, exist_ok=True)
        try:
            with self._engine.leases.hold(), tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._engine.scratch) as scratch:
                own = Cancellation()
                forget = cancellation.on_cancel(own.cancel) if cancellation else lambda: None
                try:
                    return _Build(self._engine, request, progress, own, scratch).run()
                finally:
                    forget()
        except Exception:
            with suppress(Exception):
                progress.failed()
            raise

    def held(self) -> AbstractContextManager[None]:
        """Until the context is left, keep what is built: who asks for an `unfinished` image publishes it later."""
        return self._engine.leases.hold()

    def publish(self, image: Image, names: Sequence[Reference]) -> Image:
        """Make the image of an `unfinished` request one that shows, with these names."""
        return published(self._engine, image, names)

    def export(self, image: Image, path: str) -> None:
        """Write the files of an image, all layers together, as a tar to `path`, which is new."""
        files = describe_layers(self._engine.layers, image.layers[-1] if image.layers else None)
        self._engine.workers.run("lamina.builder.squashing:squash_job", {"files": files, "below": 0, "path": path})

    @contextmanager
    def fetched(self, address: str, sink: Sink) -> Iterator[int]:
        """What is at an address, as a descriptor to read from; gone when the context is left.

        Raises:
            AddressNotFound, AddressUnreachable.
        """
        address = address if "://" in address else f"http://{address}"
        os.makedirs(self._engine.scratch, exist_ok=True)
        fetcher = Fetcher(self._engine.cache, lambda: None, self._engine.proxies)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._engine.scratch) as scratch, closing(fetcher):
            sink(Update(f"Downloading from {shown(address)}"))
            with open(fetcher.fetch(address, scratch).path, "rb") as file:
                yield file.fileno()

    @property
    def scratch(self) -> str:
        """Where builds keep what they need while they run."""
        return self._engine.scratch

    @property
    def host(self) -> Platform:
        """The platform that is built for where none is asked for."""
        return self._engine.host

    def plain(self, name: str) -> bool:
        """Whether an image of that name is here that has no ONBUILD instructions, for whatever platform."""
        images = self._engine.images
        try:
            here = [variant.image for variant in images.variants(images.resolve(name)) if variant.image is not None]
        except (NotFound, InvalidArgument):
            return False
        return not any(image.config.config.on_build for image in here)

    @property
    def caches(self) -> CacheMounts:
        """The folders of RUN --mount=type=cache."""
        return self._engine.caches

    def sweep(self) -> None:
        """At start: end and delete what builds of a daemon before this one left."""
        self._engine.executor.sweep()
        with suppress(FileNotFoundError):
            for name in os.listdir(self._engine.scratch):
                if name.startswith(_PREFIX):
                    discard_tree(os.path.join(self._engine.scratch, name))


@dataclass(slots=True)
class _Build:
    """One build from its context to its image."""

    engine: Engine
    request: BuildRequest
    progress: Narrator
    cancellation: Cancellation
    scratch: str

    def run(self) -> Image:
        epoch = self.request.epoch
        home = os.path.join(self.scratch, "home")
        os.mkdir(home, 0o700)
        proxies = self.engine.proxies
        git, fetcher = Git(home, self.cancellation, proxies), Fetcher(self.engine.cache, self.cancellation.check, proxies)
        try:
            received, documents = self._receive(git, fetcher)
            ignore = self._ignore(documents)
            data = documents.get(received.dockerfile or self.request.dockerfile)
            dockerfile = self._dockerfile(documents.get(_LOWER) if data is None and self.request.dockerfile == _USUAL else data)
            site = Site(self.engine, self.request, self.cancellation, self.scratch, received, ignore, dockerfile, fetcher, git, epoch)
            return self._stages(site)
        finally:
            fetcher.close()

    def _receive(self, git: Git, fetcher: Fetcher) -> tuple[Received, dict[str, bytes]]:
        name = self.request.dockerfile
        lower = (_LOWER,) if name == _USUAL else ()
        wanted = (name, *lower, f"{name}.dockerignore", ".dockerignore") if self.request.text is None or self.request.ignore is None else ()
        alive = lambda _: self.cancellation.check()  # noqa: E731
        if self.request.context.remote:
            return remote.receive(self.request.context.remote, self.scratch, self.engine.workers, git, fetcher, wanted, alive)
        return context.receive(self.request.context, self.scratch, self.engine.workers, wanted, alive)

    def _ignore(self, documents: dict[str, bytes]) -> str:
        """The .dockerignore that counts. Raises InvalidPattern."""
        name = f"{self.request.dockerfile}.dockerignore"
        name = name if name in documents else ".dockerignore"
        text = self.request.ignore if self.request.ignore is not None else documents.get(name, b"").decode("utf-8", "surrogateescape")
        try:
            Ignore.parse(text)
        except InvalidPattern as error:
            raise InvalidPattern(f"{os.path.basename(name)}: {error.message}") from None
        return text

    def _stages(self, site: Site) -> Image:
        """Build the stages that the target needs, side by side."""
        dockerfile = site.dockerfile
        target = find_target(dockerfile, self.request.target)
        arguments, bases = self._bases(dockerfile)
        plan = edges(dockerfile, target, bases, lambda name: self.request.context_of(name) is not None)
        refuse_long(dockerfile, bases, plan, self.request.shown_name)
        labels = tuple(ast.Label(pairs=((key, value),), text=f"LABEL {key}={value}") for key, value in sorted(self.request.labels.items()))
        counts = _counts(dockerfile, plan, len(labels))
        for number, argument in enumerate(dockerfile.arguments, 1):
            self.progress(StepBegan(number, counts[target.index].total, argument.text))
        cached = CacheImages(self.engine, self.request.cache_from, self.request.platform, only=self.request.cache_only_from)
        for name in cached.absent:
            self.progress(Warned(f"image {name[:200]} of --cache-from is not here: it is not a cache"))
        turns = self.progress.stages(dockerfile, bases, list(plan))

        def build(index: int) -> State:
            stage, own = dockerfile.stages[index], labels if index == target.index else ()
            count = counts.get(index, Count(1, len(dockerfile.stages[index].steps) + 1))
            state = StageWork(site, stage, bases[index], arguments, states, turns.of(index), count, cached, own).run()
            turns.ended(index)
            return state

        stages = Stages(build, self.cancellation.cancel)
        states = States(stages.state)
        stages.run(plan, turns.failed)
        return self._finish(site, states[target.index], dockerfile)

    def _dockerfile(self, data: bytes | None) -> ast.Dockerfile:
        name = self.request.shown_name
        text = self.request.text
        if text is None:
            if data is None:
                raise DockerfileNotFound(f"failed to read dockerfile: {self.request.dockerfile} is not in the build context")
            text = data.decode("utf-8", "surrogateescape")
        parsed = parse(text, name=name)
        if parsed.syntax and not reads(parsed.syntax):
            raise Unsupported(f"{name}:1: syntax {parsed.syntax[:100]} is not supported", hint="only docker/dockerfile is built in")
        for warning in parsed.warnings:
            self.progress(Warned(warning))
        return parsed

    def _bases(self, dockerfile: ast.Dockerfile) -> tuple[Arguments, dict[int, str]]:
        """The arguments before the first FROM, and what each stage's FROM names after expansion."""
        expander = Expander(dockerfile.escape)
        predefined = platform_arguments(self.engine.host, self.request.platform or self.engine.host, self.request.target)
        arguments = Arguments(given={**predefined, **self.request.build_args})
        for argument in dockerfile.arguments:
            # To BuildKit each name sees those before it, to the classic builder only those of instructions before.
            for together in [[pair] for pair in argument.pairs] if self.request.buildkit else [argument.pairs]:
                scope = {**predefined, **arguments.outer}
                # Nor does BuildKit look at a default that the command line takes the place of.
                idle = {name for name, value in arguments.given.items() if value is not None} if self.request.buildkit else set[str]()
                with blamed(argument, self.request.shown_name):
                    pairs = [(name, None if value is None or name in idle else expander.word(value, scope)) for name, value in together]
                arguments = arguments.declare_outer(pairs)
        bases: dict[int, str] = {}
        for stage in dockerfile.stages:
            with blamed(stage.start, self.request.shown_name):
                base = expander.word(stage.start.base, {**predefined, **arguments.outer})
                if not base:
                    raise DockerfileError(f"base name ({stage.start.base}) should not be blank")
            bases[stage.index] = self._meant(base)
        return arguments, bases

    def _meant(self, base: str) -> str:
        """The image that a FROM names, a further context's where it names one."""
        found = self.request.context_of(base)
        if isinstance(found, Context):
            raise Unsupported(f"the build context {base[:100]} is a folder, and no image to begin FROM")
        return base if found is None else found

    def _finish(self, site: Site, state: State, dockerfile: ast.Dockerfile) -> Image:
        image = state.image
        if image is None:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        strange = unused(self.request.build_args, dockerfile)
        if strange:
            self.progress(Warned(f"One or more build-args [{' '.join(strange)}] were not consumed"))
        tags = tuple(tag.with_default_tag() for tag in self.request.tags)
        if self.request.squash:
            image = squashed(site, state)
        if not self.request.unfinished:
            image = published(self.engine, image, tags)
        self.progress(Built(image.id, [tag.familiar for tag in tags]))
        return image


def published(engine: Engine, image: Image, names: Sequence[Reference]) -> Image:
    """The image as one that is no longer in between, with these names."""
    if image.intermediate:
        layers = engine.layers.chain(image.layers[-1] if image.layers else None)
        return engine.images.create(image.config_bytes, layers, names=names, parent=image.parent, intermediate=False)
    for name in names:
        engine.images.tag(str(image.id), name)
    return replace(image, names=(*image.names, *names))


def _counts(dockerfile: ast.Dockerfile, plan: Mapping[int, object], labels: int) -> dict[int, Count]:
    """The number of each stage's first step; ARGs before the first FROM count, and labels of the command line at the end."""
    total = len(dockerfile.arguments) + sum(1 + len(dockerfile.stages[index].steps) for index in plan) + labels
    found: dict[int, Count] = {}
    number = len(dockerfile.arguments) + 1
    for index in plan:
        found[index] = Count(number, total)
        number += 1 + len(dockerfile.stages[index].steps)
    return found
