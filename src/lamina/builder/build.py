"""Builder: the facade that the API, the CLI and the library use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.builder.request import BuildRequest, Cancellation
from lamina.spec.progress import Sink

if TYPE_CHECKING:
    from lamina.image.images import Image


class Builder:
    """Builds images from Dockerfiles. One object serves any number of builds, from any thread."""

    def build(self, request: BuildRequest, sink: Sink, cancellation: Cancellation | None = None) -> Image:
        """Carry `request` out and return the image.

        `sink` gets the words of Docker's classic builder as `Update.stream`, and once `Update(aux={"ID": …})`;
        with `quiet`, nothing but the image's ID and a line feed. What the sink raises stops the build.

        Raises:
            DockerfileError: the Dockerfile is malformed or needs what is not there yet; the message points at its line.
            StepFailed: a RUN ended with another code than 0 (`.status`).
            Cancelled: `cancellation` said so; the running step was killed.
        """
        raise NotImplementedError
