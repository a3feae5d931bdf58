"""One reader an instruction: from its arguments to its value in the tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.lexer import BLANKS, LogicalLine, heredoc_of
from lamina.dockerfile.words import boolean, cut_flags, duration, json_array, pairs, plain_words, quoted_words, single, words_or_array

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z")
_SWITCHES = frozenset({"link", "parents", "keep-git-dir", "unpack"})
Flags = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Source:
    """An instruction's arguments as written, flags included."""

    keyword: str
    rest: str
    line: LogicalLine
    escape: str

    def flags(self, *known: str) -> tuple[Flags, str]:
        """The flags by name and the arguments after them; a flag not in `known` is refused."""
        words, rest = cut_flags(self.rest)
        found: Flags = {}
        for word in words:
            name, equals, value = word[2:].partition("=")
            if name not in known:
                raise DockerfileError(f"unknown flag for {self.keyword}: --{name[:50]}", hint=self._known(known))
            if not equals and name not in _SWITCHES:
                raise DockerfileError(f"missing a value on flag: --{name}")
            found[name] = (*found.get(name, ()), value)
        return found, rest.strip()

    def argument(self) -> str:
        """All arguments as one text; none is an error."""
        _, rest = self.flags()
        if not rest:
            raise DockerfileError(f"{self.keyword} requires exactly one argument")
        return rest

    def _known(self, known: tuple[str, ...]) -> str:
        return f"known are {', '.join('--' + name for name in known)}" if known else f"{self.keyword} takes no flags"


def _command(source: Source, text: str) -> ast.Command:
    array = json_array(text)
    if any("\0" in word for word in array or (text,)):
        raise DockerfileError(f"{source.keyword} must not hold a NUL")
    return ast.Command(array, shell=False) if array is not None else ast.Command((text,) if text else (), shell=True)


def _from(source: Source) -> ast.Instruction:
    flags, rest = source.flags("platform")
    words = plain_words(rest)
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.match(name):
            raise DockerfileError(f"invalid name for build stage: {words[2][:100]!r}, name can't start with a number or contain symbols")
    elif len(words) == 1:
        name = ""
    else:
        raise DockerfileError("FROM requires either one or three arguments", hint="FROM image [AS name]")
    return ast.From(base=words[0], platform=single(flags, "platform"), name=name)


def _arg(source: Source) -> ast.Instruction:
    words = quoted_words(source.flags()[1], source.escape)
    if not words:
        raise DockerfileError("ARG requires at least one argument")
    found: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise DockerfileError("ARG names can not be blank")
        found.append((name, value if equals else None))
    return ast.Arg(pairs=tuple(found))


def _run(source: Source) -> ast.Instruction:
    flags, rest = source.flags("mount", "network", "security", "device")
    command = _command(source, rest)
    if not command.args:
        raise DockerfileError("RUN requires at least one argument")
    if "device" in flags:
        raise DockerfileError("RUN --device is not supported: this engine knows no CDI devices")
    return ast.Run(
        command=_with_heredocs(command, source.line.heredocs),
        mounts=flags.get("mount", ()),
        network=single(flags, "network"),
        security=single(flags, "security"),
        heredocs=source.line.heredocs,
    )


def _with_heredocs(command: ast.Command, heredocs: tuple[ast.Heredoc, ...]) -> ast.Command:
    """A lone `<<EOF` is the script itself; else the shell gets its here-documents below the line, as it reads them."""
    if not heredocs or not command.shell:
        return command
    if len(heredocs) == 1 and heredoc_of(command.args[0]):
        return replace(command, args=(heredocs[0].content,))
    return replace(command, args=(command.args[0] + "".join(f"\n{document.content}{document.name}" for document in heredocs),))


def _sources(rest: str, source: Source) -> tuple[tuple[str, ...], str, tuple[ast.Heredoc, ...]]:
    """Sources, target and here-documents of COPY and ADD."""
    words = words_or_array(rest)
    if len(words) < 2:
        raise DockerfileError(
            f"{source.keyword} requires at least two arguments, but only {len(words)} were provided",
            hint="destination could not be determined",
        )
    if source.line.heredocs and heredoc_of(words[-1]) is not None:
        raise DockerfileError(f"{source.keyword} cannot accept a heredoc as a destination")
    paths = tuple(word for word in words[:-1] if heredoc_of(word) is None) if source.line.heredocs else words[:-1]
    return paths, words[-1], source.line.heredocs


def _copy(source: Source) -> ast.Instruction:
    flags, rest = source.flags("from", "chown", "chmod", "link", "parents", "exclude")
    sources, target, heredocs = _sources(rest, source)
    return ast.Copy(
        sources=sources,
        target=target,
        heredocs=heredocs,
        origin=single(flags, "from"),
        chown=single(flags, "chown"),
        chmod=single(flags, "chmod"),
        link=bool(boolean(flags, "link")),
        parents=bool(boolean(flags, "parents")),
        exclude=flags.get("exclude", ()),
    )


def _add(source: Source) -> ast.Instruction:
    flags, rest = source.flags("chown", "chmod", "link", "checksum", "keep-git-dir", "unpack", "exclude")
    sources, target, heredocs = _sources(rest, source)
    return ast.Add(
        sources=sources,
        target=target,
        heredocs=heredocs,
        chown=single(flags, "chown"),
        chmod=single(flags, "chmod"),
        link=bool(boolean(flags, "link")),
        checksum=single(flags, "checksum"),
        keep_git_dir=bool(boolean(flags, "keep-git-dir")),
        unpack=boolean(flags, "unpack"),
        exclude=flags.get("exclude", ()),
    )


def _expose(source: Source) -> ast.Instruction:
    ports = plain_words(source.flags()[1])
    if not ports:
        raise DockerfileError("EXPOSE requires at least one argument")
    return ast.Expose(ports=tuple(sorted(ports)))


def _volume(source: Source) -> ast.Instruction:
    paths = words_or_array(source.flags()[1])
    if not paths:
        raise DockerfileError("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return ast.Volume(paths=paths)


def _shell(source: Source) -> ast.Instruction:
    args = json_array(source.flags()[1])
    if args is None:
        raise DockerfileError("SHELL requires the arguments to be in JSON form", hint='SHELL ["/bin/bash", "-c"]')
    if not args:
        raise DockerfileError("SHELL requires at least one argument")
    if any("\0" in word for word in args):
        raise DockerfileError("SHELL must not hold a NUL")
    return ast.Shell(args=args)


def _healthcheck(source: Source) -> ast.Instruction:
    flags, rest = source.flags("interval", "timeout", "start-period", "start-interval", "retries")
    kind, *more = BLANKS.split(rest, maxsplit=1)
    if not kind:
        raise DockerfileError("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if more or flags:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return ast.Healthcheck(command=None)
    if kind.upper() != "CMD":
        raise DockerfileError(f"unknown type {kind[:50]!r} in HEALTHCHECK", hint="try CMD or NONE")
    command = _command(source, more[0] if more else "")
    if not command.args:
        raise DockerfileError("missing command after HEALTHCHECK CMD")
    times = {name: duration(single(flags, name), name) for name in flags if name != "retries"}
    return ast.Healthcheck(
        command=command,
        interval=times.get("interval", 0),
        timeout=times.get("timeout", 0),
        start_period=times.get("start-period", 0),
        start_interval=times.get("start-interval", 0),
        retries=_retries(single(flags, "retries")),
    )


def _retries(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise DockerfileError(f"--retries must be at least 0, not {text[:50]!r}")
    return int(text or "0")


def _onbuild(source: Source) -> ast.Instruction:
    if not source.rest:
        raise DockerfileError("ONBUILD requires at least one argument")
    documents = "".join(f"\n{document.content}{document.name}" for document in source.line.heredocs)
    return ast.Onbuild(trigger=source.rest + documents)


READERS: dict[str, Callable[[Source], ast.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": lambda source: ast.Cmd(command=_command(source, source.flags()[1])),
    "COPY": _copy,
    "ENTRYPOINT": lambda source: ast.Entrypoint(command=_command(source, source.flags()[1])),
    "ENV": lambda source: ast.Env(pairs=pairs(source.flags()[1], "ENV", source.escape)),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda source: ast.Label(pairs=pairs(source.flags()[1], "LABEL", source.escape)),
    "MAINTAINER": lambda source: ast.Maintainer(name=source.argument()),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda source: ast.StopSignal(signal=source.argument()),
    "USER": lambda source: ast.User(user=source.argument()),
    "VOLUME": _volume,
    "WORKDIR": lambda source: ast.Workdir(path=source.argument()),
}
