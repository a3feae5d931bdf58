"""An image that is here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from lamina.errors import InvalidArgument
from lamina.explore.wording import human
from lamina.image.model import Image as Facts
from lamina.image.queries import Found
from lamina.library import html, tree
from lamina.library.container import Container, Finished
from lamina.library.difference import Difference
from lamina.library.layer import HEADS, Layer
from lamina.spec.config import ImageConfig
from lamina.spec.reference import Reference

if TYPE_CHECKING:
    from lamina.daemon.engine import Engine


class Image:
    """An image as it was when it was asked for; equal to others of the same ID. Iterates over its layers, base first."""

    def __init__(self, engine: Engine, facts: Facts) -> None:
        self._engine, self._facts = engine, facts

    @property
    def id(self) -> str:
        """The digest of its configuration."""
        return str(self._facts.id)

    @property
    def names(self) -> tuple[str, ...]:
        """Its names with tags, as Docker shows them."""
        return tuple(name.familiar for name in self._facts.names)

    @property
    def config(self) -> ImageConfig:
        """Its configuration."""
        return self._facts.config

    @property
    def size(self) -> int:
        """Bytes in the regular files of all layers."""
        return self._facts.size

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, base first; counted once, by a worker."""
        explorer = self._engine.explorer
        return tuple(map(Layer.of, explorer.layers(explorer.subject(self.id))))

    @property
    def root(self) -> tree.Entry:
        """All files as a tree: the layers seen through each other."""
        return tree.root(lambda path: self._engine.images.ls(self.id, path), self.open)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def open(self, path: str) -> BinaryIO:
        """A file as a Python file object: binary, seekable, read from where the layer's bytes lie; the caller closes it.

        Raises:
            PathNotFound: there is no such path.
            InvalidArgument: it is not a regular file.
        """
        return self._engine.images.open_file(self.id, path)

    def which(self, path: str) -> Found:
        """Which layer gave a path, which older versions it hides, or what deleted it."""
        return self._engine.images.which(self.id, path)

    def diff(self, other: Image | Container, path: str = "/") -> Difference:
        """What differs from this one to the other, at a path and below."""
        explorer = self._engine.explorer
        return Difference.of(explorer.diff(explorer.subject(self.id), explorer.subject(other.id), path))

    def create(
        self, command: Sequence[str] = (), *, name: str = "", env: Mapping[str, str] | None = None, network: str = "none"
    ) -> Container:
        """A container of it, not yet running. Without `command`, the image's own.

        Raises:
            InvalidArgument: the command is one text, or the name, a variable or the network is none that a container could have.
        """
        if isinstance(command, str):  # whose letters would be the words
            raise InvalidArgument(f"a command is a list of words, not a text: {command[:300]!r}")
        config: dict[str, object] = {"Image": self.id, "Env": [f"{key}={value}" for key, value in (env or {}).items()]}
        if command:
            config["Cmd"] = list(command)
        made = self._engine.containers.create(config, {"NetworkMode": network}, name=name)
        return Container(self._engine, made.id)

    def run(self, *command: str, env: Mapping[str, str] | None = None, network: str = "none") -> Finished:
        """Run a command to its end in a container that is removed afterwards."""
        container = self.create(command, env=env, network=network)
        try:
            container.start()
            return container.wait()
        finally:
            container.remove(force=True)

    def tag(self, name: str) -> Image:
        """Give it one more name."""
        return Image(self._engine, self._engine.images.tag(self.id, Reference.parse(name).with_default_tag()))

    def remove(self, *, force: bool = False) -> None:
        """Remove it with its names. Raises ImageInUse where something needs it."""
        self._engine.system.remove_image(self.id, force=force, prune=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Image {', '.join(self.names) or self.id[7:19]}>"

    def _repr_html_(self) -> str:
        title = f"{', '.join(self.names) or '<none>'} {self.id[7:19]} {human(self.size)}"
        return html.table(title, HEADS, (layer.cells() for layer in self.layers))
