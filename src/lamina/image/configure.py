"""What an instruction changes in a configuration: pure, for builds and for the changes of commit and import."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

import msgspec

from lamina.dockerfile import ast
from lamina.errors import InvalidArgument
from lamina.spec.config import ContainerConfig, Healthcheck
from lamina.spec.signals import check_stop_signal

DEFAULT_SHELL = ("/bin/sh", "-c")


class InvalidPort(InvalidArgument):
    """The text is not a port that can be exposed."""


def apply(config: ContainerConfig, instruction: ast.Instruction, *, cmd_set: bool = False, buildkit: bool = False) -> ContainerConfig:
    """The configuration after `instruction`, whose variables are replaced already.

    `cmd_set` says that a CMD came earlier in the same work: then an ENTRYPOINT leaves it alone, else it clears the one
    inherited. Instructions that change no configuration (RUN, COPY, ARG) give `config` back. What a HEALTHCHECK leaves out
    stays as it was, as in Docker's classic builder and commit; with `buildkit` it is the default's again.

    Raises:
        InvalidPort: EXPOSE of something that is not a port.
        InvalidSignal: STOPSIGNAL of something that is neither a signal nor a number.
    """
    changes = _changes(config, instruction, cmd_set=cmd_set)
    if isinstance(instruction, ast.Healthcheck) and config.healthcheck and not buildkit:
        changes["healthcheck"] = _completed(changes["healthcheck"], config.healthcheck)
    return msgspec.structs.replace(config, **changes) if changes else config


def shell_of(config: ContainerConfig) -> tuple[str, ...]:
    """What runs the shell form of commands."""
    return config.shell or DEFAULT_SHELL


def working_directory(config: ContainerConfig, path: str) -> str:
    """`path` as WORKDIR means it: relative to the one before, absolute and clean."""
    return "/" + posixpath.normpath(posixpath.join("/", config.working_dir, path)).lstrip("/")


def _changes(config: ContainerConfig, instruction: ast.Instruction, *, cmd_set: bool) -> dict[str, Any]:
    match instruction:
        case ast.Env(pairs=pairs):
            return {"env": _environment(config.env, pairs)}
        case ast.Label(pairs=pairs):
            return {"labels": {**config.labels, **dict(pairs)}}
        case ast.Workdir(path=path):
            return {"working_dir": working_directory(config, path)}
        case ast.User(user=user):
            return {"user": user}
        case ast.Expose(ports=ports):
            return {"exposed_ports": {**config.exposed_ports, **{port: {} for text in ports for port in exposed(text)}}}
        case ast.Volume(paths=paths):
            return {"volumes": {**config.volumes, **{path: {} for path in paths}}}
        case ast.Cmd(command=command):
            return {"cmd": command.argv(shell_of(config)) if command.args else ()}
        case ast.Entrypoint(command=command):
            entrypoint = command.argv(shell_of(config)) if command.args else ()
            return {"entrypoint": entrypoint} if cmd_set else {"entrypoint": entrypoint, "cmd": ()}
        case ast.Shell(args=args):
            return {"shell": args}
        case ast.StopSignal(signal=signal):
            check_stop_signal(signal)
            return {"stop_signal": signal}
        case ast.Healthcheck():
            return {"healthcheck": _healthcheck(instruction)}
        case ast.Onbuild(trigger=trigger):
            return {"on_build": (*config.on_build, trigger)}
    return {}


def _environment(env: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """`env` with `pairs` set: a name keeps its place, new ones come last."""
    entries = {entry.partition("=")[0]: entry for entry in env}
    entries.update({name: f"{name}={value}" for name, value in pairs})
    return tuple(entries.values())


def exposed(text: str) -> Iterator[str]:
    """The ports that `80`, `53/udp`, `8000-8010` or `8080:80` expose, each as `port/protocol`.

    Raises:
        InvalidPort: a port is not a number or is out of range, or the protocol is unknown.
    """
    ports, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    first, dash, last = ports.rpartition(":")[2].partition("-")
    if protocol not in ("tcp", "udp", "sctp") or not _is_port(first) or (dash and not _is_port(last)):
        raise InvalidPort(f"invalid port: {text[:100]!r}", hint="write it as 80, 53/udp or 8000-8010/tcp")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers:
        raise InvalidPort(f"invalid port range: {text[:100]!r}")
    for number in numbers:
        yield f"{number}/{protocol}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536


def _healthcheck(instruction: ast.Healthcheck) -> Healthcheck:
    command = instruction.command
    if command is None:
        return Healthcheck(test=("NONE",))
    return Healthcheck(
        test=("CMD-SHELL" if command.shell else "CMD", *command.args),
        interval=instruction.interval,
        timeout=instruction.timeout,
        start_period=instruction.start_period,
        start_interval=instruction.start_interval,
        retries=instruction.retries,
    )


def _completed(check: Healthcheck, before: Healthcheck) -> Healthcheck:
    """`check` with the times and retries of the one before it where it gives none; where nothing is checked there are none."""
    if check.test == ("NONE",):
        return check
    return Healthcheck(
        test=check.test,
        interval=check.interval or before.interval,
        timeout=check.timeout or before.timeout,
        start_period=check.start_period or before.start_period,
        start_interval=check.start_interval or before.start_interval,
        retries=check.retries or before.retries,
    )
