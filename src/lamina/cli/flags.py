"""Command lines read by the tables of `catalog`, with pflag's rules: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-abc`.

Flags may follow arguments unless the command runs another program (run, exec): there the first argument ends them. `--` always does.
"""

from __future__ import annotations

import posix

from lamina.errors import InvalidArgument

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    Value = TypeVar("Value")

LISTS = frozenset(("list", "strings", "stringArray", "filter", "map", "ulimit", "mount", "network", "gpu-request"))
INTEGERS = frozenset(("int", "uint16", "uint"))
_DIGITS = len("-9223372036854775808")


class UsageError(InvalidArgument):
    """A command line that breaks its command's table."""

    exit_code = 125


class HelpWanted(Exception):
    """`--help` was among the flags."""


class Flag:
    """One flag: `kind` is bool, int, list, string or a word for the value that help shows."""

    __slots__ = ("help", "kind", "letter", "name")

    def __init__(self, letter: str, name: str, kind: str, help: str) -> None:
        self.letter, self.name, self.kind, self.help = letter, name, kind, help


class Arguments:
    """A command line as read: values of the flags that were given, and the arguments."""

    __slots__ = ("_given", "words")

    def __init__(self) -> None:
        self._given: dict[str, list[str]] = {}
        self.words: list[str] = []

    def add(self, flag: Flag, value: str) -> None:
        """Note one use of a flag; lists grow, one of `strings` by all that stands between commas; other flags keep their last value."""
        if flag.kind == "strings":
            self._given.setdefault(flag.name, []).extend(value.split(",") if value else ())
        elif flag.kind in LISTS:
            self._given.setdefault(flag.name, []).append(value)
        else:
            self._given[flag.name] = [value]

    def given(self, name: str) -> bool:
        """Whether the flag was used."""
        return name in self._given

    def on(self, name: str, *, default: bool = False) -> bool:
        """The value of a boolean flag."""
        values = self._given.get(name)
        return values[0] == "true" if values else default

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag that takes one."""
        values = self._given.get(name)
        return values[-1] if values else default

    def many(self, name: str) -> list[str]:
        """The values of a flag that may be repeated."""
        return self._given.get(name, [])

    def number(self, name: str, default: int = 0) -> int:
        """The value of a flag that takes a whole number."""
        values = self._given.get(name)
        return int(values[0]) if values else default


def table(text: str) -> list[Flag]:
    """The flags of a catalog entry."""
    flags = []
    for line in text.splitlines():
        head, _, help = line.partition("|")
        letter, name, kind = head.split(" ")
        flags.append(Flag("" if letter == "-" else letter, name, kind, help))
    return flags


class Reader:
    """Reads one command line against a table."""

    def __init__(self, flags: list[Flag], *, interspersed: bool, spellings: Mapping[str, str] | None = None) -> None:
        """`spellings` are other words for flags, dashes and all."""
        self._names = {flag.name: flag for flag in flags}
        self._letters = {flag.letter: flag for flag in flags if flag.letter}
        self._interspersed = interspersed
        self._spellings = spellings or {}

    def read(self, words: list[str]) -> Arguments:
        """Read `words`.

        Raises:
            UsageError: an unknown flag, one without its value, or a value of the wrong kind.
            HelpWanted: help was asked for.
        """
        found = Arguments()
        rest = list(reversed(words))
        while rest:
            word = rest.pop()
            if word == "--":
                found.words += reversed(rest)
                break
            if len(word) < 2 or word[0] != "-":
                found.words.append(word)
                if not self._interspersed:
                    found.words += reversed(rest)
                    break
                continue
            spelled, equals, value = word.partition("=")
            word = f"{self._spellings.get(spelled, spelled)}{equals}{value}"
            if word.startswith("--"):
                self._long(word, rest, found)
            else:
                self._short(word, rest, found)
        return found

    def _long(self, word: str, rest: list[str], found: Arguments) -> None:
        name, equals, value = word[2:].partition("=")
        flag = self._names.get(name)
        if flag is None:
            if name == "help":
                raise HelpWanted
            raise UsageError(f"unknown flag: --{name}{self._meant(name)}")
        if not equals:
            if flag.kind == "bool":
                value = "true"
            elif rest:
                value = rest.pop()
            else:
                raise UsageError(f"flag needs an argument: --{name}")
        found.add(flag, _checked(flag, value))

    def _meant(self, name: str) -> str:
        from difflib import get_close_matches

        begun = sorted(known for known in self._names if len(name) > 1 and known.startswith(name))
        found = begun[:3] or get_close_matches(name, sorted(self._names), n=2, cutoff=0.7)
        return f"\n\nDid you mean {' or '.join(f'--{known}' for known in found)}?" if found else ""

    def _short(self, word: str, rest: list[str], found: Arguments) -> None:
        letters = word[1:]
        for at, letter in enumerate(letters):
            flag = self._letters.get(letter)
            if flag is None:
                if word == "-h":
                    raise HelpWanted
                raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
            after = letters[at + 1 :]
            if flag.kind == "bool" and not after.startswith("="):
                found.add(flag, "true")
                continue
            if not after and not rest:
                raise UsageError(f"flag needs an argument: {letter!r} in {word}")
            found.add(flag, _checked(flag, after.removeprefix("=") if after else rest.pop()))
            return


def _checked(flag: Flag, value: str) -> str:
    if flag.kind == "bool":
        lower = value.lower()
        if lower in ("true", "1", "t"):
            return "true"
        if lower in ("false", "0", "f"):
            return "false"
        raise UsageError(f"invalid argument {value!r} for --{flag.name}: it is true or false")
    if flag.kind in INTEGERS and not (value.removeprefix("-").isdecimal() and len(value) <= _DIGITS):
        raise UsageError(f"invalid argument {value!r} for --{flag.name}: it takes a whole number")
    if flag.kind == "filter" and value and "=" not in value:
        raise UsageError(f"invalid filter {value!r}: write it as name=value")
    return value


def read_value(name: str, text: str, read: Callable[[str], Value]) -> Value:
    """The value of a flag as `read` has it; what it refuses is told with the flag's name.

    Raises:
        UsageError: `read` raised InvalidArgument, or an error of `int` or `float`.
    """
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise UsageError(f"invalid argument {text!r} for --{name}: it takes a number") from None
    except InvalidArgument as error:
        raise UsageError(f"invalid argument {text!r} for --{name}: {error.hint or error.message}") from None


def absolute(path: str) -> str:
    """The source of a mount: a path that starts with a dot is relative to us, any other is one of the engine's, or a volume's name."""
    if not path.startswith("."):
        return path
    parts: list[str] = []
    for part in f"{posix.getcwd()}/{path}".split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
