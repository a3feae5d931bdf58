"""From the text of a Dockerfile to its tree."""

from __future__ import annotations

from lamina.dockerfile.ast import Dockerfile, Instruction


def parse(text: str, *, name: str = "Dockerfile") -> Dockerfile:
    """Read a whole Dockerfile; `name` is what messages call it.

    Raises:
        DockerfileError: it is malformed; the message points at the line.
    """
    raise NotImplementedError


def parse_change(text: str) -> Instruction:
    """Read one change of `commit --change` or `import --change`: `CMD ["a"]`, `ENV a=b`.

    The value is as written: variables in it are not expanded yet (`expand.Expander`).

    Raises:
        DockerfileError: it is malformed, or an instruction that only a build can carry out (RUN, COPY).
    """
    raise NotImplementedError
