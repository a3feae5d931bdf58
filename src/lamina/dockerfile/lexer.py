"""From text to logical lines: directives, comments, continuations and here-documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lamina.dockerfile.ast import Heredoc
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.expand import Expander

BLANKS = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*\Z")
_CONTINUATION = {
    "\\": re.compile(r"([^\\])\\[ \t]*\Z|^\\[ \t]*\Z"),
    "`": re.compile(r"([^`])`[ \t]*\Z|^`[ \t]*\Z"),
}
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)\Z")
_WITH_HEREDOC = frozenset({"RUN", "COPY", "ADD"})
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text, continuations joined; lines count from 1."""

    line: int
    end_line: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Lexed:
    """A file cut into logical lines, and what its directives say."""

    lines: tuple[LogicalLine, ...]
    escape: str = "\\"
    syntax: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reader:
    """Physical lines with their endings, read one by one."""

    lines: list[str]
    name: str
    at: int = 0
    warnings: list[tuple[int, str]] = field(default_factory=list)

    def next(self) -> str | None:
        if self.at == len(self.lines):
            return None
        self.at += 1
        return self.lines[self.at - 1]


def lex(text: str, *, name: str = "Dockerfile") -> Lexed:
    """Cut `text` into logical lines.

    Raises:
        DockerfileError: a directive is wrong or repeated, or a here-document does not end.
    """
    reader = _Reader(_physical(text), name)
    directives = _directives(reader)
    escape = directives.get("escape", "\\")
    lines = tuple(_logical_lines(reader, escape))
    return Lexed(lines, escape, directives.get("syntax", ""), _checked(reader, directives.get("check", "")))


def _checked(reader: _Reader, check: str) -> tuple[str, ...]:
    """The warnings that `# check=skip=RULE,…;error=true` leaves: all are of the one rule there is.

    Raises:
        DockerfileError: there is one, and they count as errors.
    """
    options = dict(option.strip().partition("=")[::2] for option in check.split(";"))
    skipped = {rule.strip().lower() for rule in options.get("skip", "").split(",")}
    if skipped & {"all", "noemptycontinuation"}:
        return ()
    if reader.warnings and options.get("error", "").strip().lower() in ("true", "1"):
        line, text = reader.warnings[0]
        raise DockerfileError(text, line=line, name=reader.name, hint="# check=error=true makes warnings errors")
    return tuple(text for _, text in reader.warnings)


def heredoc_of(word: str) -> Heredoc | None:
    """The here-document that a word like `<<EOF`, `<<-"EOF"` opens, still without content; None if it opens none."""
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    plain, raw = Expander(keep_unset=True), Expander(raw_quotes=True, raw_escapes=True, keep_unset=True)
    try:
        words, raw_words = plain.words(match[3], {}), raw.words(match[3], {})
    except DockerfileError:
        return None
    if len(words) != 1:
        return None
    return Heredoc(words[0], "", expand=words == raw_words, chomp=bool(match[2]))


def _physical(text: str) -> list[str]:
    # str.splitlines would also cut at form feeds and the like, which are blanks here.
    lines = text.removeprefix("\ufeff").split("\n")
    ended = [line + "\n" for line in lines[:-1]]
    return [*ended, lines[-1]] if lines[-1] else ended


def _directives(reader: _Reader) -> dict[str, str]:
    """Read `# key=value` lines at the very top; the first line of another kind ends them."""
    found: dict[str, str] = {}
    while reader.at < len(reader.lines):
        match = _DIRECTIVE.match(reader.lines[reader.at].strip())
        if match is None or match[1].lower() not in ("escape", "syntax", "check"):
            break
        key, value = match[1].lower(), match[2]
        reader.at += 1
        if key in found:
            raise DockerfileError(f"only one {key} parser directive can be used", line=reader.at, name=reader.name)
        if key == "escape" and value not in _CONTINUATION:
            raise DockerfileError(f"invalid escape directive: {value[:20]!r}", line=reader.at, name=reader.name, hint="use \\ or `")
        found[key] = value
    return found


def _logical_lines(reader: _Reader, escape: str) -> Iterator[LogicalLine]:
    while (first := reader.next()) is not None:
        start = reader.at
        stripped = first.rstrip("\r\n").lstrip()
        text, ended = _cut_continuation("" if stripped.startswith("#") else stripped, escape)
        if ended and not text:
            continue
        text = _join(reader, text, ended, escape)
        if not text.strip():
            continue
        heredocs = tuple(_heredocs(reader, text, start))
        yield LogicalLine(start, reader.at, text.strip(), heredocs)


def _join(reader: _Reader, text: str, ended: bool, escape: str) -> str:
    """Append continuation lines to `text`; comments between them vanish, empty lines do with a warning."""
    parts, empty = [text], False
    while not ended and (line := reader.next()) is not None:
        line = line.rstrip("\r\n")
        bare = line.lstrip()
        if bare.startswith("#"):
            continue
        if not bare:
            empty = True
            continue
        part, ended = _cut_continuation(line, escape)
        parts.append(part)
    joined = "".join(parts)
    if empty:
        reader.warnings.append((reader.at, f"empty continuation line found in: {joined.strip()}"))
    return joined


def _cut_continuation(line: str, escape: str) -> tuple[str, bool]:
    """`line` without its continuation character, and whether the instruction ends here."""
    match = _CONTINUATION[escape].search(line)
    if match is None:
        return line, True
    return line[: match.start()] + (match[1] or ""), False


def _heredocs(reader: _Reader, text: str, start: int) -> Iterator[Heredoc]:
    for opened in _opened(text):
        content: list[str] = []
        while True:
            line = reader.next()
            if line is None:
                raise DockerfileError(f"unterminated here-document: {opened.name}", line=start, name=reader.name)
            bare = line.rstrip("\r\n")
            if (bare.lstrip("\t") if opened.chomp else bare) == opened.name:
                break
            content.append(line)
        whole = "".join(content)
        yield Heredoc(opened.name, _LEADING_TABS.sub("", whole) if opened.chomp else whole, opened.expand, opened.chomp)


def _opened(text: str) -> list[Heredoc]:
    """The here-documents that a logical line opens, in order."""
    words = BLANKS.split(text, maxsplit=2)
    if words[0].upper() == "ONBUILD":
        words = words[1:]
    if "<<" not in text or words[0].upper() not in _WITH_HEREDOC:
        return []
    try:
        parts = Expander(raw_quotes=True, raw_escapes=True, keep_unset=True).words(text, {})
    except DockerfileError:
        return []  # what is wrong is the shell's to say, as `RUN echo ${x!} <<EOF` shows
    return [heredoc for part in parts if (heredoc := heredoc_of(part)) is not None]
