"""Changes to a configuration as commit and import take them: `CMD ["sh"]`, `ENV a=b`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.dockerfile import ast
from lamina.dockerfile.parser import parse_changes
from lamina.dockerfile.substitute import expanded
from lamina.image import configure
from lamina.spec.config import ContainerConfig


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """`config` after `changes`, which are one after the other the lines of a Dockerfile; variables are those of its environment.

    Raises:
        DockerfileError, InvalidPort: a change is malformed, or none that can be made outside of a build.
    """
    cmd_set = False
    instructions, escape = parse_changes(changes)
    for written in instructions:
        instruction = expanded(written, config.environment(), escape=escape)
        config = configure.apply(config, instruction, cmd_set=cmd_set)
        cmd_set = cmd_set or isinstance(instruction, ast.Cmd)
    return config
