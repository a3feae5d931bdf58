"""Has what goes wrong in a step point at its line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lamina.builder.fetching import AddressNotFound, AddressUnreachable
from lamina.builder.gitsource import GitFailed
from lamina.dockerfile.ast import Instruction
from lamina.dockerfile.errors import DockerfileError
from lamina.errors import InvalidArgument, Unsupported


@contextmanager
def blamed(instruction: Instruction, dockerfile: str) -> Iterator[None]:
    """Errors that are the Dockerfile's fault get `NAME:LINE: ` in front, once; others pass as they are."""
    try:
        yield
    except (InvalidArgument, Unsupported, AddressNotFound, AddressUnreachable, GitFailed) as error:
        if instruction.line and not (isinstance(error, DockerfileError) and error.line):
            name = os.path.basename(dockerfile) or "Dockerfile"
            error.message = f"{name}:{instruction.line}: {error.message}"
        raise
