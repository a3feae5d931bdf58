"""Changes to a configuration as commit and import take them: `CMD ["sh"]`, `ENV a=b`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from lamina.dockerfile import ast
from lamina.dockerfile.parser import parse_change
from lamina.dockerfile.substitute import expanded
from lamina.image import configure
from lamina.spec.config import ContainerConfig


def apply_changes(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """`config` after each of `changes`, in order; variables are those of its environment.

    Raises:
        DockerfileError, InvalidPort: a change is malformed, or none that can be made outside of a build.
    """
    cmd_set = False
    for text in changes:
        instruction = expanded(parse_change(text), config.environment())
        config = configure.apply(config, instruction, cmd_set=cmd_set)
        cmd_set = cmd_set or isinstance(instruction, ast.Cmd)
    return config
