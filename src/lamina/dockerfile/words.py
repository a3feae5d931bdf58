"""How an instruction's arguments are cut: flags, words, pairs, JSON arrays, durations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.lexer import BLANKS

_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Half a character, as an escape of JSON can say it; U+DC80 to U+DCFF are bytes of the file that are no UTF-8."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def cut_flags(text: str) -> tuple[list[str], str]:
    """The `--name=value` words at the start of `text`, and what follows them. A bare `--` ends the flags."""
    flags: list[str] = []
    at = 0
    while True:
        at = _skip_blanks(text, at)
        if not text.startswith("--", at):
            return flags, text[at:]
        word, at = _flag(text, at)
        if word == "--":
            return flags, text[at:].lstrip()
        flags.append(word)


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _flag(text: str, at: int) -> tuple[str, int]:
    """One flag from `at`, its quotes and backslashes taken away, and where it ends."""
    parts: list[str] = []
    quote = ""
    while at < len(text):
        character = text[at]
        at += 1
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif not quote and character.isspace():
            break
        elif character == "\\":
            parts.append(text[at : at + 1])
            at += 1
        else:
            parts.append(character)
    return "".join(parts), at


def json_array(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None if `text` is not one.

    Raises:
        DockerfileError: it is an array, but not of strings only.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(_HALF.sub("\ufffd", item) for item in value)


def words_or_array(text: str) -> tuple[str, ...]:
    """A JSON array of strings, else words between blanks."""
    array = json_array(text)
    return array if array is not None else plain_words(text)


def plain_words(text: str) -> tuple[str, ...]:
    return tuple(BLANKS.split(text.strip())) if text.strip() else ()


def quoted_words(text: str, escape: str) -> list[str]:
    """Words between blanks, where quotes and escapes bind; both are kept for the expansion that follows."""
    words: list[str] = []
    current: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == escape and quote != "'":
            if at < len(text):
                current += (character, text[at])
            at += 1
            continue
        if not quote and character.isspace():
            words += ["".join(current)] if current else []
            current = []
            continue
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        current.append(character)
    return words + (["".join(current)] if current else [])


def pairs(text: str, keyword: str, escape: str) -> tuple[tuple[str, str], ...]:
    """`name=value …`, or the old `name value` where the first word has no `=`.

    Raises:
        DockerfileError: a value or a name is missing.
    """
    words = quoted_words(text, escape)
    if not words:
        raise DockerfileError(f"{keyword} requires at least one argument")
    if "=" not in words[0]:
        name, *rest = BLANKS.split(text.strip(), maxsplit=1)
        if not rest:
            raise DockerfileError(f"{keyword} must have two arguments")
        return ((name, rest[0]),)
    found: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(f"can't find = in {word[:100]!r}", hint="write it as name=value")
        if not name:
            raise DockerfileError(f"{keyword} names can not be blank")
        found.append((name, value))
    return tuple(found)


def duration(text: str, flag: str) -> int:
    """Nanoseconds of a Go duration (`1m30s`).

    Raises:
        DockerfileError: it is not one, or is under a millisecond and not 0.
    """
    at, total = 0, 0.0
    while match := _DURATION.match(text, at):
        total += float(match[1]) * _NANOSECONDS[match[2]]
        at = match.end()
    if (at != len(text) or not text) and text != "0":
        raise DockerfileError(f"invalid duration for --{flag}: {text[:50]!r}", hint="write it as 30s or 1m30s")
    if 0 < total < _NANOSECONDS["ms"] or total > 2**63:
        raise DockerfileError(f"interval {text[:50]!r} of --{flag} is out of range", hint="at least 1ms")
    return int(total)


def single(flags: Mapping[str, tuple[str, ...]], name: str) -> str:
    """The value of a flag that may be given once, "" where it was not."""
    values = flags.get(name, ("",))
    if len(values) > 1:
        raise DockerfileError(f"duplicate flag specified: --{name}")
    return values[0]


def boolean(flags: Mapping[str, tuple[str, ...]], name: str) -> bool | None:
    """A flag that is true, false or absent (None)."""
    if name not in flags:
        return None
    value = single(flags, name)
    if value not in ("", "true", "false"):
        raise DockerfileError(f"expecting boolean value for flag --{name}, not: {value[:50]}")
    return value != "false"
