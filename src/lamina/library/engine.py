"""The engine, as programs use it: `lamina.Engine.open(root)`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from lamina.builder.request import BuildRequest, Context
from lamina.daemon import engine as daemon
from lamina.errors import InvalidArgument
from lamina.library.container import Container
from lamina.library.image import Image
from lamina.library.sandbox import UNLIMITED, Limits, Sandbox
from lamina.spec.progress import Sink, silent
from lamina.spec.reference import Reference


class Engine(daemon.Engine):
    """An engine on a data root in this process, with images and containers as objects. The rooms themselves (`images`, `containers`,
    `builder`, `registry`, `volumes`, `networks`, `explorer`) are what the daemon has; everything is reached through them too."""

    def image(self, name: str) -> Image:
        """The image of a name, an ID or its beginning. Raises ImageNotFound."""
        return Image(self, self.images.resolve(name))

    def all_images(self) -> Iterator[Image]:
        """Images, newest first; no steps of builds."""
        return (Image(self, facts) for facts in self.images.list())

    def container(self, name: str) -> Container:
        """The container of a name, an ID or its beginning. Raises ContainerNotFound."""
        return Container(self, self.containers.get(name).id)

    def all_containers(self) -> Iterator[Container]:
        """All containers, newest first."""
        return (Container(self, str(row["Id"])) for row in self.containers.list(all=True, networks=False))

    def sandbox(self, image: str | Image, limits: Limits = UNLIMITED, *, network: str = "none") -> Sandbox:
        """A place of its own to run commands in, on an image; see `Sandbox`. Close it, or use it in a `with`.

        Raises:
            ImageNotFound: no image has that name.
        """
        return Sandbox.on(self, image if isinstance(image, Image) else self.image(image), limits, network)

    def import_tar(self, path: str | os.PathLike[str], name: str) -> Image:
        """An image of one layer of a root file system's tar, plain or compressed."""
        with open(path, "rb") as file:
            return Image(self, self.images.import_(file.fileno(), name=Reference.parse(name).with_default_tag()))

    def load(self, path: str | os.PathLike[str], sink: Sink = silent) -> tuple[Image, ...]:
        """The images of an archive, all or none."""
        with open(path, "rb") as file:
            return tuple(Image(self, facts) for facts in self.images.load(file.fileno(), sink))

    def save(self, path: str | os.PathLike[str], *images: str | Image, form: str = "docker") -> None:
        """Write images as one archive, a file that appears when it is whole: by name, or under all names that an image has now. A device
        or a pipe is written to.

        `form` is docker, oci or v1 (see `image.archive.save`).

        Raises:
            ImageNotFound: an image is not here any more.
            InvalidArgument: no image was given, or there is no such form.
            OSError: the file cannot be written.
        """
        if not images:
            raise InvalidArgument("no image to save: give at least one")
        names = [name for image in images for name in ([image] if isinstance(image, str) else self.image(image.id).names or [image.id])]
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb", buffering=0) as place:
                self.images.save(names, place.fileno(), form=form)
            return
        beside = f"{os.fspath(path)}.partial-{os.getpid()}"
        try:
            with open(beside, "xb") as file:
                self.images.save(names, file.fileno(), form=form)
            os.rename(beside, path)
        except BaseException as error:
            with suppress(FileNotFoundError):
                os.unlink(beside)
            if isinstance(error, OSError) and error.filename == beside:
                raise OSError(error.errno, error.strerror, os.fspath(path)) from None
            raise

    def pull(self, name: str) -> Image:
        """Bring an image from its registry."""
        found = self.registry.pull(Reference.parse(name).with_default_tag())
        return Image(self, found[0])

    def build(
        self, dockerfile: str, *, files: Mapping[str, bytes] | None = None, tag: str = "", network: str = "none", sink: Sink = silent
    ) -> Image:
        """Build the text of a Dockerfile. `files` are the context: contents by path; `sink` gets the words of the build.

        Raises:
            DockerfileError, StepFailed: see `Builder.build`.
            InvalidArgument: a path of `files` leads out of the context, or nowhere, or through another file.
        """
        tags = (Reference.parse(tag).with_default_tag(),) if tag else ()
        with tempfile.TemporaryDirectory(prefix="lamina-context-") as directory:
            for path, content in (files or {}).items():
                parts = PurePosixPath(path.lstrip("/")).parts
                if not parts or ".." in parts or "\0" in path:
                    raise InvalidArgument(f"not a path of a file in the context: {path[:300]!r}")
                place = Path(directory, *parts)
                try:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
                except (FileExistsError, IsADirectoryError, NotADirectoryError):
                    raise InvalidArgument(f"a path in the context is that of a file and of a directory: {path[:300]!r}") from None
            request = BuildRequest(context=Context(directory=directory), text=dockerfile, tags=tags, network=network)
            return Image(self, self.builder.build(request, sink))
