"""The `lamina` command: global flags, the command's table, its module, its exit code."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal, whose enums cost 5 ms
import posix
import sys
from _io import TextIOWrapper

from lamina.cli.catalog import ALIASES, COMMANDS, GLOBAL_FLAGS, GROUPS, SPELLINGS
from lamina.cli.flags import Arguments, HelpWanted, Reader, UsageError, table
from lamina.cli.session import Session
from lamina.errors import LaminaError


def main(words: list[str] | None = None) -> int:
    """Run one command line; its exit code."""
    words = sys.argv[1:] if words is None else words
    debug = False
    try:
        options = _global(words)
        if options is None:
            return _help([])
        debug = options.on("debug")
        return _dispatch(options)
    except UsageError as error:
        group = f"{error.group} " if isinstance(error, UnknownCommand) and error.group else ""
        sys.stderr.write(f"lamina: {error.message}\n\nRun 'lamina {group}--help' for more information\n")
        return error.exit_code
    except LaminaError as error:
        if debug:
            raise
        return complain(error)
    except KeyboardInterrupt:
        if posix.isatty(2):
            posix.write(2, b"\n")  # the shell's prompt begins a line, not behind ^C or a bar
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        if debug:
            raise
        name = f"{_text(error.filename)}: " if error.filename else ""
        sys.stderr.write(f"lamina: {name}{(error.strerror or str(error)).lower()}\n")
        return 1


def _global(words: list[str]) -> Arguments | None:
    """The flags before the command, and the rest; nothing where help is wanted."""
    try:
        return Reader(table(GLOBAL_FLAGS), interspersed=False).read(words)
    except HelpWanted:
        return None


def complain(error: LaminaError) -> int:
    """Tell an error on standard error, its advice after it; its exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        pass  # nobody reads it, or there is no room: `run` finds that again
    sys.stderr.write(f"lamina: {error.message}\n" + (f"{error.hint}\n" if error.hint else ""))
    return error.exit_code


def _dispatch(options: Arguments) -> int:
    words = options.words
    if options.on("version"):
        from lamina import __version__

        sys.stdout.write(f"lamina version {__version__}\n")
        return 0
    if not words or words[0] == "help":
        return _help(words[1:])
    name, rest = resolve(words)
    if name in GROUPS:
        return _group(name, rest)
    return _perform(name, rest, options)


def resolve(words: list[str]) -> tuple[str, list[str]]:
    """The canonical name of the command that `words` begin with (or of the group they stop in), and the words after it.

    Raises:
        UnknownCommand: there is none.
    """
    name, rest = words[0], words[1:]
    while name in GROUPS and rest and not rest[0].startswith("-"):
        name, rest = f"{name} {rest[0]}", rest[1:]
    name = ALIASES.get(name, name)
    if name not in COMMANDS and name not in GROUPS:
        raise _unknown(name)
    return name, rest


class UnknownCommand(UsageError):
    """No command has that name. `group` is the one it was looked for in, empty for all."""

    exit_code = 1

    def __init__(self, message: str, group: str = "") -> None:
        super().__init__(message)
        self.group = group


def _unknown(name: str) -> UnknownCommand:
    from lamina.cli.help import absent, closest

    group, _, word = name.rpartition(" ")
    if reason := absent(name):
        return UnknownCommand(f"unknown command: lamina {name}\n\n{reason}")
    meant = " or ".join(f"'lamina {other}'" for other in closest(word, group))
    return UnknownCommand(f"unknown command: lamina {name}" + (f"\n\nDid you mean {meant}?" if meant else ""), group)


def _perform(name: str, words: list[str], options: Arguments) -> int:
    module, fewest, most, interspersed, usage, _, flags = COMMANDS[name]
    try:
        found = Reader(table(flags), interspersed=interspersed, spellings=SPELLINGS.get(name)).read(words)
        if len(found.words) < fewest or 0 <= most < len(found.words):
            raise WrongArgumentCount(f"'lamina {name}' {count_wanted(fewest, most)}")
    except HelpWanted:
        found = None
    except UsageError as error:
        from lamina.cli.help import usage_of

        shown = usage_of(name, flags, usage)
        sys.stderr.write(f"lamina: {error.message}\n\nUsage:  {shown}\n\nRun 'lamina {name} --help' for more information\n")
        return error.exit_code
    if found is None:
        return _help(name.split(" "))
    perform = getattr(_module(module), name.replace(" ", "_").replace("import", "import_"))
    try:
        code: int = perform(_session(options), found)
    except UsageError as error:
        sys.stderr.write(f"lamina: {error.message}\n\nRun 'lamina {name} --help' for more information\n")
        return error.exit_code
    return code


class WrongArgumentCount(UsageError):
    """Too few or too many arguments."""

    exit_code = 1


def count_wanted(fewest: int, most: int) -> str:
    """`requires at least 1 argument`, as Docker says it."""
    if most == 0:
        return "accepts no arguments"
    if fewest == most:
        return f"requires {fewest} argument{'s' * (fewest > 1)}"
    if most < 0:
        return f"requires at least {fewest} argument{'s' * (fewest > 1)}"
    return f"requires at least {fewest} and at most {most} arguments" if fewest else f"requires at most {most} argument{'s' * (most > 1)}"


def _module(name: str) -> object:
    path = f"lamina.cli.commands.{name}"
    __import__(path)
    return sys.modules[path]


def _session(options: Arguments) -> Session:
    environment = {_text(key): _text(value) for key, value in posix.environ.items()}
    config = options.text("config") or environment.get("DOCKER_CONFIG") or (environment.get("HOME") or _home()) + "/.docker"
    hosts = options.many("host")

    def connect() -> object:
        from lamina.cli.engine import find

        return find(hosts[-1] if hosts else "", environment, options, config)

    return Session(connect, environment, config)


def _home() -> str:
    """Where HOME would lead (services and cron jobs have none)."""
    import pwd

    try:
        return pwd.getpwuid(posix.geteuid()).pw_dir
    except KeyError:
        return ""


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _group(name: str, words: list[str]) -> int:
    if words and words[0] not in ("--help", "-h"):
        raise UsageError(f"unknown flag: {words[0]}")
    return _help(name.split(" "))


def _help(words: list[str]) -> int:
    from lamina.cli.help import render

    name = resolve(words)[0] if words else ""
    sys.stdout.write(render(name))
    return 0


def run() -> None:
    """The program: run the command line and leave at once, without the interpreter's own tidying up (1 to 2 ms)."""
    _stand_in()
    if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:  # as the script leaves it
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files are shown byte by byte
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 141
    except OSError as error:
        posix.write(2, f"lamina: standard output: {(error.strerror or str(error)).lower()}\n".encode())
        code = code or 1
    posix._exit(code)


def _stand_in() -> None:
    """Streams that the caller has closed lead nowhere, and no file or connection gets their numbers; all block."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        while (fd := posix.open("/dev/null", posix.O_RDWR)) < 2:
            pass
        if fd > 2:
            posix.close(fd)
        sys.stdin, sys.stdout, sys.stderr = (open(fd, "rw"[fd > 0], closefd=False) for fd in range(3))
    for fd in range(3):
        if not posix.get_blocking(fd) and posix.fstat(fd).st_mode & 0o170000 != 0o100000:  # a regular file's place would be lost
            _block(fd)


def _block(fd: int) -> None:
    """Let a stream block that another has made non-blocking, for us alone where it can be opened anew: who shares it counts on its mode."""
    from fcntl import F_GETFL, fcntl

    try:
        own = posix.open(f"/proc/self/fd/{fd}", fcntl(fd, F_GETFL) & (posix.O_ACCMODE | posix.O_APPEND) | posix.O_NONBLOCK | posix.O_NOCTTY)
    except OSError:  # a socket, or a terminal of another user
        posix.set_blocking(fd, True)
        return
    posix.set_blocking(own, True)
    posix.dup2(own, fd)
    posix.close(own)


if __name__ == "__main__":
    run()
