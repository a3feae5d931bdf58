"""The words of Docker's classic builder: what `history` shows as CREATED BY, and what a person reads while it builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lamina.dockerfile import ast
from lamina.image.configure import shell_of, working_directory
from lamina.spec.config import ContainerConfig, Healthcheck


def no_operation(shell: Sequence[str], comment: str) -> str:
    """How a step that ran nothing is written down: `/bin/sh -c #(nop)  CMD ["bash"]`."""
    return " ".join((*shell, "#(nop) ", comment))


def file_operation(shell: Sequence[str], keyword: str, what: str, target: str) -> str:
    """How COPY and ADD are written down: `/bin/sh -c #(nop) COPY file:… in /target `, the blank at the end included."""
    return " ".join((*shell, f"#(nop) {keyword} {what} in {target} "))


def work_directory(shell: Sequence[str], path: str) -> str:
    """How WORKDIR is written down: one blank, since it may make a layer."""
    return " ".join((*shell, f"#(nop) WORKDIR {path}"))


def run(argv: Sequence[str], arguments: Mapping[str, str]) -> str:
    """How RUN is written down: the command, the build arguments that it saw in front (`|1 A=b /bin/sh -c …`)."""
    pairs = [f"{name}={value}" for name, value in sorted(arguments.items())]
    return " ".join((f"|{len(pairs)}", *pairs, *argv) if pairs else argv)


def comment(instruction: ast.Instruction, before: ContainerConfig, after: ContainerConfig) -> str:
    """What an instruction that changes only the configuration says of itself; values are expanded."""
    match instruction:
        case ast.Env(pairs=pairs) | ast.Label(pairs=pairs):
            return " ".join((instruction.keyword, *(f"{name}={value}" for name, value in pairs)))
        case ast.Arg(pairs=arguments):
            return " ".join(("ARG", *(name if value is None else f"{name}={value}" for name, value in arguments)))
        case ast.Cmd():
            return f"CMD {_quoted(after.cmd)}"
        case ast.Entrypoint():
            return f"ENTRYPOINT {_quoted(after.entrypoint)}"
        case ast.Expose(ports=ports):
            return f"EXPOSE {' '.join(sorted(ports))}"
        case ast.Volume(paths=paths):
            return f"VOLUME [{' '.join(paths)}]"
        case ast.Shell(args=args):
            return f"SHELL [{' '.join(args)}]"
        case ast.Workdir(path=path):
            return f"WORKDIR {working_directory(before, path)}"
        case ast.User(user=user):
            return f"USER {user}"
        case ast.StopSignal(signal=signal):
            return f"STOPSIGNAL {signal}"
        case ast.Maintainer(name=name):
            return f"MAINTAINER {name}"
        case ast.Onbuild(trigger=trigger):
            return f"ONBUILD {trigger}"
        case ast.Healthcheck() if after.healthcheck is not None:
            return f"HEALTHCHECK {_healthcheck(after.healthcheck)}"
    return instruction.text


def created_by(instruction: ast.Instruction, before: ContainerConfig, after: ContainerConfig) -> str:
    """The history entry of an instruction that changes only the configuration.

    SHELL already speaks through the shell it sets, as Docker writes it.
    """
    return no_operation(shell_of(after), comment(instruction, before, after))


def returned(argv: Sequence[str], code: int) -> str:
    """What is said of a RUN that failed."""
    return f"The command '{' '.join(argv)}' returned a non-zero code: {code}"


def _healthcheck(check: Healthcheck) -> str:
    """A health check as Go's %q prints Docker's structure of it."""
    times = (check.interval, check.timeout, check.start_period, check.start_interval)
    return f"&{{{_quoted(check.test)} {' '.join(_go_quote(duration(time)) for time in times)} {_go_rune(check.retries)}}}"


_RUNES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 39: "\\'", 92: "\\\\"}


def _go_rune(number: int) -> str:
    """A number as Go's %q prints it: the character it stands for."""
    if number in _RUNES:
        return f"'{_RUNES[number]}'"
    character = chr(number) if number <= 0x10FFFF else "\ufffd"
    return f"'{character if character.isprintable() else _code(character)}'"


def duration(nanoseconds: int) -> str:
    """A duration as Go writes it: `1m30s`, `500ms`, `0s`."""
    if 0 < nanoseconds < 10**9:
        return f"{nanoseconds / 10**6:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    seconds = f"{rest / 10**9:.9f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else "") + seconds


def _quoted(words: Sequence[str]) -> str:
    """A list of strings as Go's %q prints it: `["a" "b"]`."""
    return f"[{' '.join(_go_quote(word) for word in words)}]"


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def _go_quote(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(character, character if character.isprintable() else _code(character)) for character in text) + '"'


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
