"""What all steps of one build share: its parts, its context, and a few things each of them does."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from lamina.builder.context import Received
from lamina.builder.engine import Engine
from lamina.builder.fetching import Fetcher
from lamina.builder.gitsource import Git
from lamina.builder.layerfiles import describe_layers
from lamina.builder.progress import Passed, Tell
from lamina.builder.request import BuildRequest, Cancellation, Context
from lamina.builder.stages import named
from lamina.builder.state import State
from lamina.dockerfile import ast
from lamina.errors import InvalidArgument, NotFound, Unauthorized, Unavailable
from lamina.image.lookup import PlatformNotHere
from lamina.image.model import Image, ImageNotFound, LayerFacts, LayerNote
from lamina.snapshot.protocol import TarSource
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.spec.strict import readable


class PlatformMismatch(InvalidArgument):
    """The base image is for another platform than was asked for."""


@dataclass(slots=True)
class Site:
    """One build's. `ignore` is the text of the .dockerignore in force, `epoch` SOURCE_DATE_EPOCH in seconds. Thread-safe."""

    engine: Engine
    request: BuildRequest
    cancellation: Cancellation
    scratch: str
    received: Received
    ignore: str
    dockerfile: ast.Dockerfile
    fetcher: Fetcher
    git: Git
    epoch: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _locks: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _found: dict[str, Any] = field(default_factory=dict)

    @property
    def newest(self) -> int | None:
        """No time of a file is later than this, in nanoseconds; None: any is as it is."""
        return None if self.epoch is None else self.epoch * 10**9

    def now(self) -> int:
        """Nanoseconds since 1970: the epoch's, if there is one."""
        return self.engine.now() if self.newest is None else self.newest

    def created(self) -> str:
        """Now, as configurations have it."""
        seconds, nanoseconds = divmod(self.now(), 10**9)
        fraction = f".{nanoseconds:09d}" if self.epoch is None else ""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f"{fraction}Z"

    def note(self, instruction: ast.Instruction, created_by: str) -> LayerNote:
        """What is kept of a layer."""
        return LayerNote(self.created(), readable(created_by), readable(instruction.text))

    def job(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Run `module:function` of the builder in a worker; a cancelled build ends it."""
        return self.engine.workers.run(f"lamina.builder.{name}", params, (), lambda _: self.cancellation.check())

    def once(self, key: str, find: Any) -> Any:
        """What `find()` gives, asked once in this build however many stages want it at the same time."""
        with self._lock:
            lock = self._locks[key]
        with lock:
            if key not in self._found:
                self._found[key] = find()
            return self._found[key]

    def image(self, name: str, platform: Platform | None, tell: Tell) -> Image:
        """The image of that name for `platform`, pulled where it is absent or where --pull says so.

        Raises:
            PlatformMismatch: it is here, but only for other platforms.
        """
        image: Image = self.once(f"image {name} {platform}", lambda: self._image(name, platform, tell))
        if platform is not None and not image.config.platform.matches(platform):
            raise _mismatch(name, platform, image)
        return image

    def _image(self, name: str, platform: Platform | None, tell: Tell) -> Image:
        if not self.request.pull:
            try:
                found = self._resolved(name, platform)
                if self.keeps(found):
                    return found
            except ImageNotFound:
                pass
        reference = Reference.parse(name).with_default_tag()
        auth = self.request.credentials(reference) if self.request.credentials else None
        sink = self.engine.puller.pull(reference, platform=platform, auth=auth, sink=lambda update: tell(Passed(update)))
        return sink[0]

    def _resolved(self, name: str, platform: Platform | None) -> Image:
        try:
            return self.engine.images.resolve(name, platform)
        except PlatformNotHere:
            raise _mismatch(name, platform, self.engine.images.resolve(name)) from None

    def keeps(self, image: Image) -> bool:
        """Have the layers of an image that was found stay until the build has ended, whoever removes it; False where they went already."""
        layers, top = self.engine.layers, image.layers[-1] if image.layers else None
        with layers.lock:  # as who collects does: what is noted now and still here stays
            if top is not None:
                self.engine.leases.touch(top)
            return top is None or layers.has(top)

    def origin(self, name: str, stage: ast.Stage, states: Mapping[int, State], tell: Tell) -> Digest | None:
        """The stack that `--from=name` means in `stage`; None for an empty one."""
        return self.origin_of(name, stage, states, tell)[0]

    def origin_of(self, name: str, stage: ast.Stage, states: Mapping[int, State], tell: Tell) -> tuple[Digest | None, Digest | None]:
        """See `origin`; and the image that stands on the stack, if one does."""
        context = self.request.context_of(name)
        if isinstance(context, Context):
            return cast(Digest, self.once(f"context {context.tar}", lambda: self._layer_of(context.tar))), None
        source = named(self.dockerfile.stages[: stage.index], name) if context is None else None
        if source is not None:
            state = states[source.index]
            return state.top, state.image.id if state.image else None
        try:
            image = self.image(context or name, self.request.platform, tell)
        except (InvalidArgument, NotFound, Unauthorized, Unavailable) as error:
            if context is None:
                meant = "variables are not replaced here: begin a stage FROM them" if "$" in name else ""
                error.message = f"invalid from flag value {name}: {error.message}"
                error.hint = error.hint or meant or f"no stage above is called {name}, so an image is meant"
            raise
        return image.layers[-1] if image.layers else None, image.id

    def _layer_of(self, tar: str) -> Digest:
        """A tar of files as a layer on nothing, so that it is read like any other; nobody keeps it after the build."""
        with open(tar, "rb") as file, self.engine.layers.staging() as scratch:
            staged = self.engine.layers.stage(TarSource(file.fileno(), compression=""), scratch)
            return self.engine.layers.register(staged, None, LayerNote(self.created(), "", "")).id

    def write_layer(self, state: State, instruction: ast.Instruction, params: Mapping[str, Any], created_by: str) -> LayerFacts | None:
        """The layer that a copying job writes (`copying.write_job`); None where it would change nothing."""
        with self.engine.layers.staging() as scratch:
            path = os.path.join(scratch, "layer.tar")
            written = self.job("copying:write_job", {**params, "time": self.now(), "newest": self.newest, "path": path})
            return self.register(path, state, instruction, created_by, scratch) if written["entries"] else None

    def register(self, path: str, state: State, instruction: ast.Instruction, created_by: str, scratch: str) -> LayerFacts:
        """Make the tar at `path` a layer on the stack."""
        with open(path, "rb") as file:
            staged = self.engine.layers.stage(TarSource(file.fileno(), compression=""), scratch)
        return self.engine.layers.register(staged, state.top, self.note(instruction, created_by))

    def files_of(self, top: Digest | None) -> dict[str, Any]:
        """A stack of layers for a job's parameters."""
        return describe_layers(self.engine.layers, top)

    def place(self, what: str) -> str:
        """A new path in the build's scratch directory."""
        return os.path.join(self.scratch, f"{what}-{os.urandom(6).hex()}")


def _mismatch(name: str, wanted: Platform | None, image: Image) -> PlatformMismatch:
    return PlatformMismatch(
        f"image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {image.config.platform}"
    )
