"""From the text of a Dockerfile to its tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from lamina.dockerfile.ast import Arg, Dockerfile, From, Instruction, Stage
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.instructions import READERS, Source
from lamina.dockerfile.lexer import BLANKS, LogicalLine, lex

_CHANGES = frozenset({"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"})
_NOT_TRIGGERS = {"ONBUILD": "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"}
_ONBUILD = re.compile(r"\s*ONBUILD\s*", re.IGNORECASE)
_FRONTENDS = ("docker/dockerfile", "docker.io/docker/dockerfile", "docker/dockerfile-upstream")


def reads(syntax: str) -> bool:
    """Whether this parser stands for the frontend that a `# syntax=` names: BuildKit's own for Dockerfiles, of whatever version."""
    return syntax.partition(":")[0].partition("@")[0] in _FRONTENDS


def parse(text: str, *, name: str = "Dockerfile") -> Dockerfile:
    """Read a whole Dockerfile; `name` is what messages call it.

    Raises:
        DockerfileError: it is malformed; the message points at the line.
    """
    lexed = lex(text, name=name)
    instructions = [read_line(line, lexed.escape, name) for line in lexed.lines]
    if not instructions:
        raise DockerfileError("the Dockerfile cannot be empty", name=name)
    arguments, rest = _before_from(instructions, name)
    return Dockerfile(arguments, _stages(rest, name), lexed.escape, lexed.syntax, lexed.warnings)


def parse_changes(texts: Sequence[str]) -> tuple[tuple[Instruction, ...], str]:
    """Read the changes of `commit --change` or `import --change` (`CMD ["a"]`, `ENV a=b`), as Docker does: all of them are the lines
    of one file. Its instructions, and its escape character.

    The values are as written: variables in them are not expanded yet (`expand.Expander`).

    Raises:
        DockerfileError: it is malformed, or has an instruction that only a build can carry out (RUN, COPY).
    """
    lexed = lex("\n".join(texts), name="change")
    instructions = tuple(_unplaced(line, lexed.escape, "change") for line in lexed.lines)
    if texts and not instructions:
        raise DockerfileError("the changes hold no instruction")
    for instruction in instructions:
        if instruction.keyword not in _CHANGES:
            raise DockerfileError(f"{instruction.keyword} is not a valid change command", hint=f"allowed are {', '.join(sorted(_CHANGES))}")
    return instructions, lexed.escape


def parse_one(text: str, *, name: str, escape: str = "\\") -> Instruction:
    """Read exactly one instruction, as the trigger of an ONBUILD is.  See parse_changes."""
    directive = "# escape=`\n" if escape == "`" else ""
    lines = lex(directive + text, name=name).lines
    if len(lines) != 1:
        raise DockerfileError(f"expected one instruction, found {len(lines)}: {text[:100]!r}")
    return _unplaced(lines[0], escape, name)


def _unplaced(line: LogicalLine, escape: str, name: str) -> Instruction:
    """See read_line; of a text of which no message is to name lines."""
    return read_line(replace(line, line=0, end_line=0), escape, name)


def read_line(line: LogicalLine, escape: str, name: str) -> Instruction:
    """The instruction on one logical line.

    Raises:
        DockerfileError: it is unknown or malformed.
    """
    keyword, *rest = BLANKS.split(line.text, maxsplit=1)
    try:
        reader = READERS.get(keyword.upper())
        if reader is None:
            raise DockerfileError(f"unknown instruction: {keyword[:50].upper()}", hint=_did_you_mean(keyword))
        source = Source(keyword.upper(), rest[0] if rest else "", line, escape)
        instruction = reader(source)
        if keyword.upper() == "ONBUILD":
            _check_trigger(line, escape, name)
    except DockerfileError as error:
        if error.line or not line.line:
            raise
        raise DockerfileError(error.reason, line=line.line, name=name, hint=error.hint) from None
    return replace(instruction, line=line.line, end_line=line.end_line, text=line.text)


def _did_you_mean(keyword: str) -> str:
    close = get_close_matches(keyword.upper()[:50], READERS, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _check_trigger(line: LogicalLine, escape: str, name: str) -> None:
    """Refuse triggers that can never be carried out. An unknown instruction is the build's to refuse in which it fires, as with Docker."""
    text = _ONBUILD.sub("", line.text, count=1)
    keyword = BLANKS.split(text, maxsplit=1)[0].upper()
    if keyword in _NOT_TRIGGERS:
        raise DockerfileError(_NOT_TRIGGERS[keyword])
    if keyword in ("FROM", "MAINTAINER"):
        raise DockerfileError(f"{keyword} isn't allowed as an ONBUILD trigger")
    if keyword in READERS:
        read_line(replace(line, text=text), escape, name)


def _before_from(instructions: list[Instruction], name: str) -> tuple[tuple[Arg, ...], list[Instruction]]:
    """The ARGs before the first FROM, and all from there on."""
    arguments: list[Arg] = []
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, From):
            return tuple(arguments), instructions[index:]
        if not isinstance(instruction, Arg):
            raise DockerfileError(
                f"no build stage in current context: {instruction.keyword}", line=instruction.line, name=name, hint="begin with FROM"
            )
        arguments.append(instruction)
    raise DockerfileError("no build stage in current context", line=instructions[-1].line, name=name, hint="a Dockerfile needs a FROM")


def _stages(instructions: list[Instruction], name: str) -> tuple[Stage, ...]:
    stages: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            if instruction.name and any(instruction.name == start.name for start, _ in stages):
                raise DockerfileError(f"duplicate name for build stage: {instruction.name}", line=instruction.line, name=name)
            stages.append((instruction, []))
        else:
            stages[-1][1].append(instruction)
    return tuple(Stage(index, start, tuple(steps)) for index, (start, steps) in enumerate(stages))
