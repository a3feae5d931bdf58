"""Makes errors of a step point at its line of the Dockerfile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamina.builder.execute import StepFailed
from lamina.builder.fetching import AddressNotFound, AddressUnreachable
from lamina.builder.gitsource import GitFailed
from lamina.dockerfile.ast import Instruction
from lamina.dockerfile.errors import DockerfileError
from lamina.errors import Forbidden, InvalidArgument, NotFound, Unauthorized, Unavailable, Unsupported
from lamina.runtime.launch import RuntimeFailed

_BLAMED = (
    InvalidArgument, Unsupported, AddressNotFound, AddressUnreachable, GitFailed, NotFound, Unauthorized, Forbidden, Unavailable
)  # fmt: skip


@contextmanager
def blamed(instruction: Instruction, dockerfile: str) -> Iterator[None]:
    """Errors that are the Dockerfile's fault get `NAME:LINE: ` in front, once; others pass as they are. `dockerfile` is its name in messages.

    A command that fails, or cannot be started, is told in Docker's words, which clients read: its line stands behind them.
    """
    place = f"{dockerfile}:{instruction.line}"
    try:
        yield
    except (StepFailed, RuntimeFailed) as error:
        error.hint = error.hint or (place if instruction.line else "")
        raise
    except _BLAMED as error:
        if instruction.line and not (isinstance(error, DockerfileError) and error.line):
            error.message = f"{place}: {error.message}"
        raise
