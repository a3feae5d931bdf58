"""The tree of a Dockerfile: one frozen value an instruction, as written, before expansion of variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document. `content` is as written, leading tabs gone where it was opened by `<<-`."""

    name: str
    content: str
    expand: bool = True
    chomp: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """What RUN, CMD, ENTRYPOINT and HEALTHCHECK start: one line for the shell, or the arguments themselves."""

    args: tuple[str, ...]
    shell: bool

    def argv(self, shell: tuple[str, ...]) -> tuple[str, ...]:
        """The arguments to execute, `shell` being the one in force (`("/bin/sh", "-c")`)."""
        return (*shell, *self.args) if self.shell else self.args


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have: first and last line (from 1), and the text joined to one line."""

    keyword: ClassVar[str] = ""
    line: int = 0
    end_line: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """A stage begins. `name` is lower case, empty if the stage has none."""

    keyword: ClassVar[str] = "FROM"
    base: str
    platform: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """Build arguments declared; a value is the default, None if there is none."""

    keyword: ClassVar[str] = "ARG"
    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """A command to run. With here-documents, `command.args[0]` holds the whole script for the shell."""

    keyword: ClassVar[str] = "RUN"
    command: Command
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """Files to copy. `origin` is the value of --from; `heredocs` are the files written in place."""

    keyword: ClassVar[str] = "COPY"
    sources: tuple[str, ...]
    target: str
    heredocs: tuple[Heredoc, ...] = ()
    origin: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Instruction):
    """Files, archives or addresses to add. `unpack` is None where --unpack was not given."""

    keyword: ClassVar[str] = "ADD"
    sources: tuple[str, ...]
    target: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    keyword: ClassVar[str] = "ENV"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    keyword: ClassVar[str] = "LABEL"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    keyword: ClassVar[str] = "WORKDIR"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    keyword: ClassVar[str] = "USER"
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """Ports as written, sorted: `80`, `53/udp`, `8000-8010/tcp`."""

    keyword: ClassVar[str] = "EXPOSE"
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    keyword: ClassVar[str] = "VOLUME"
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    keyword: ClassVar[str] = "CMD"
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    keyword: ClassVar[str] = "ENTRYPOINT"
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    keyword: ClassVar[str] = "SHELL"
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    keyword: ClassVar[str] = "STOPSIGNAL"
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """A health check; `command` None is HEALTHCHECK NONE. Durations are nanoseconds, 0 means inherited."""

    keyword: ClassVar[str] = "HEALTHCHECK"
    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """An instruction kept for the builds that start from this image. `trigger` is its text."""

    keyword: ClassVar[str] = "ONBUILD"
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    keyword: ClassVar[str] = "MAINTAINER"
    name: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it, in order."""

    index: int
    start: From
    steps: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.start.name


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file. `arguments` are the ARGs before the first FROM; `warnings` are sentences for the user."""

    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    syntax: str = ""
    warnings: tuple[str, ...] = ()
