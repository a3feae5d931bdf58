"""A parsed Dockerfile as the document that golden/recorder writes of BuildKit's parse."""

from __future__ import annotations

from typing import Any

from lamina.dockerfile import ast
from lamina.dockerfile.mounts import parse_mount


def shape(dockerfile: ast.Dockerfile) -> dict[str, Any]:
    """The document of a whole file."""
    return {
        "escape": dockerfile.escape,
        "syntax": dockerfile.syntax,
        "arguments": [step(argument) for argument in dockerfile.arguments],
        "stages": [
            {
                "name": stage.name,
                "base": stage.start.base,
                "platform": stage.start.platform,
                "line": stage.start.line,
                "steps": [step(instruction) for instruction in stage.steps],
            }
            for stage in dockerfile.stages
        ],
    }


def step(instruction: ast.Instruction) -> dict[str, Any]:
    """The document of one instruction."""
    return {"keyword": instruction.keyword, "line": instruction.line, **_fields(instruction)}


def _fields(instruction: ast.Instruction) -> dict[str, Any]:
    match instruction:
        case ast.Env() | ast.Label() | ast.Arg():
            return {"pairs": [list(pair) for pair in instruction.pairs]}
        case ast.Maintainer(name=name):
            return {"name": name}
        case ast.Copy():
            return {**_files(instruction), "origin": instruction.origin, "parents": instruction.parents}
        case ast.Add():
            more = {"checksum": instruction.checksum, "keep_git_dir": instruction.keep_git_dir, "unpack": instruction.unpack}
            return {**_files(instruction), **more}
        case ast.Onbuild(trigger=trigger):
            return {"trigger": trigger}
        case ast.Workdir(path=path):
            return {"path": path}
        case ast.Run():
            return _run(instruction)
        case ast.Cmd(command=command) | ast.Entrypoint(command=command):
            return {"args": list(command.args), "shell": command.shell}
        case ast.Healthcheck():
            return _healthcheck(instruction)
        case ast.Expose(ports=ports):
            return {"ports": list(ports)}
        case ast.User(user=user):
            return {"user": user}
        case ast.Volume(paths=paths):
            return {"paths": list(paths)}
        case ast.StopSignal(signal=signal):
            return {"signal": signal}
        case ast.Shell(args=args):
            return {"args": list(args)}
    raise AssertionError(instruction)


def _files(instruction: ast.Copy | ast.Add) -> dict[str, Any]:
    return {
        "sources": list(instruction.sources),
        "target": instruction.target,
        "documents": [{"name": each.name, "content": each.content, "expand": each.expand} for each in instruction.heredocs],
        "chown": instruction.chown,
        "chmod": instruction.chmod,
        "link": instruction.link,
        "exclude": list(instruction.exclude),
    }


def _run(instruction: ast.Run) -> dict[str, Any]:
    mounts = [parse_mount(text) for text in instruction.mounts]
    names = ("kind", "origin", "source", "target", "readonly", "size", "id", "sharing", "required", "mode", "uid", "gid", "env")
    return {
        "args": list(instruction.command.args),
        "shell": instruction.command.shell,
        "documents": [{"name": each.name, "content": each.content, "chomp": each.chomp} for each in instruction.heredocs],
        "network": instruction.network or "default",
        "security": instruction.security or "sandbox",
        "mounts": [{name: getattr(mount, name) for name in names} for mount in mounts],
    }


def _healthcheck(instruction: ast.Healthcheck) -> dict[str, Any]:
    command = instruction.command
    test = ["NONE"] if command is None else ["CMD-SHELL" if command.shell else "CMD", *command.args]
    times = {name: getattr(instruction, name) for name in ("interval", "timeout", "start_period", "start_interval", "retries")}
    return {"test": test, **times}
