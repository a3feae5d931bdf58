"""The OCI runtimes that a container may name, besides the embedded one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lamina.errors import InvalidArgument
from lamina.runtime.launch import Program

EMBEDDED = "lamina"
KNOWN = ("crun", "runc")
"""What needs no configuration: the program of that name, where it is installed."""
_ALIASES = {"io.containerd.runc.v2": "runc", "io.containerd.runtime.v1.linux": "runc"}


class UnknownRuntime(InvalidArgument):
    """No runtime has that name, or it is not installed."""

    exit_code = 125


@dataclass(frozen=True, slots=True)
class Runtimes:
    """`added` are those of the engine's settings, by name, each with an absolute path or the name of a program in PATH; `default` is what a
    container gets that names none."""

    default: str = EMBEDDED
    added: Mapping[str, Program] = field(default_factory=dict)

    def program(self, name: str) -> Program | None:
        """The program of a runtime by its name, or by an absolute path; None is the embedded one.

        Raises:
            UnknownRuntime: in Docker's words.
        """
        name = name or self.default
        if name == EMBEDDED:
            return None
        if name in self.added:
            return _found(name, self.added[name])
        plain = _ALIASES.get(name, name)
        path = name if name.startswith("/") else shutil.which(plain) if plain in KNOWN else None
        if path and os.path.isfile(path) and os.access(path, os.X_OK):
            return Program(path)
        why = ": it is not installed" if plain in KNOWN else ": there is no such program" if name.startswith("/") else ""
        raise UnknownRuntime(f"unknown or invalid runtime name: {name[:200]}{why}")

    def document(self) -> dict[str, Any]:
        """What info says of them: those that can be named here."""
        found = {name: path for name in KNOWN if (path := shutil.which(name))}
        listed: dict[str, Any] = {EMBEDDED: {"path": "lamina-runtime"}, **{name: {"path": path} for name, path in found.items()}}
        for name, program in self.added.items():
            listed[name] = {"path": program.path, **({"runtimeArgs": list(program.arguments)} if program.arguments else {})}
        return listed


def _found(name: str, program: Program) -> Program:
    """A program without a path where it lies now. Raises UnknownRuntime."""
    if "/" in program.path:
        return program
    path = shutil.which(program.path)
    if path is None:
        raise UnknownRuntime(f"unknown or invalid runtime name: {name[:200]}: no program {program.path[:200]} is installed")
    return replace(program, path=path)
