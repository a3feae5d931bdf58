"""Variables, quotes and escapes in the words of a Dockerfile, as BuildKit's shell lexer reads them.

$x ${x}            the value, or nothing
${x:-w} ${x-w}     w where x is unset (with the colon: or empty)
${x:+w} ${x+w}     w where x is set (with the colon: and not empty)
${x:?w} ${x?w}     an error that says w where x is unset (with the colon: or empty)
${x#p} ${x##p}     without the shortest, longest prefix that matches p
${x%p} ${x%%p}     without the shortest, longest suffix that matches p
${x/p/w} ${x//p/w} with the first, every match of p replaced by w
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lamina.dockerfile.errors import DockerfileError

_SPECIAL = frozenset("@*#?-$!0")
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands words. `escape` is the escape character in force, a backslash or a backtick.

    `raw_quotes` and `raw_escapes` keep these characters, `quotes` False gives quotes no meaning, `keep_unset`
    leaves variables that are not set as they are written.
    """

    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    quotes: bool = True
    keep_unset: bool = False

    def word(self, text: str, env: Mapping[str, str]) -> str:
        """`text` as one word: variables replaced, quotes and escapes taken away.

        Raises:
            DockerfileError: a quote or brace is not closed, a modifier is unknown, or `${x:?message}` speaks.
        """
        return self._process(text, env).text

    def words(self, text: str, env: Mapping[str, str]) -> list[str]:
        """`text` split at unquoted blanks after expansion (EXPOSE).  See word."""
        return self._process(text, env).finished()

    def inline(self, text: str, env: Mapping[str, str]) -> str:
        """The content of a here-document: variables replaced, quotes left alone.  See word."""
        return replace(self, quotes=False).word(text, env)

    def _process(self, text: str, env: Mapping[str, str]) -> _Words:
        try:
            return _Scanner(self, text, env).until("", raw_escapes=self.raw_escapes)
        except DockerfileError as error:
            raise DockerfileError(f"{error.reason}: {text[:200]!r}", hint=error.hint) from None


@dataclass(slots=True)
class _Words:
    """What was read so far, as one text and as words."""

    parts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    in_word: bool = False

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def raw(self, text: str) -> None:
        """Add what was quoted or escaped: it never splits."""
        self.parts.append(text)
        self.current.append(text)
        self.in_word = True

    def plain(self, text: str) -> None:
        """Add what was neither: its blanks split."""
        self.parts.append(text)
        for character in text:
            if not character.isspace():
                self.current.append(character)
                self.in_word = True
            elif self.in_word:
                self._end()

    def finished(self) -> list[str]:
        self._end()
        return self.words

    def _end(self) -> None:
        if word := "".join(self.current):
            self.words.append(word)
            self.current.clear()
            self.in_word = False


class _Scanner:
    def __init__(self, options: Expander, text: str, env: Mapping[str, str]) -> None:
        self.options, self.text, self.env = options, text, env
        self.at = 0
        self.depth = 0
        self.raw_escapes = options.raw_escapes

    def peek(self) -> str:
        """The next character, "" at the end."""
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        character = self.peek()
        self.at += 1
        return character

    def until(self, stop: str, *, raw_escapes: bool) -> _Words:
        """Read up to `stop`, which is taken too; "" is the end of the text."""
        outer, self.raw_escapes = self.raw_escapes, raw_escapes
        self.depth += 1
        if self.depth > _DEEPEST:
            raise DockerfileError("variables are nested too deeply")
        words = _Words()
        while (character := self.peek()) and character != stop:
            self._one(character, words)
        if stop and not character:
            raise DockerfileError(f"syntax error: missing {stop!r}")
        self.at += len(stop)
        self.depth -= 1
        self.raw_escapes = outer
        return words

    def _one(self, character: str, words: _Words) -> None:
        if character == "$":
            words.plain(self._dollar())
        elif character == "'" and self.options.quotes:
            words.raw(self._single())
        elif character == '"' and self.options.quotes:
            words.raw(self._double())
        elif character == self.options.escape:
            self.at += 1
            if self.raw_escapes:
                words.raw(character)
            if escaped := self.next():
                words.raw(escaped)
        else:
            self.at += 1
            words.plain(character)

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise DockerfileError("syntax error: missing closing single quote")
        inner, self.at = self.text[self.at + 1 : end], end + 1
        return f"'{inner}'" if self.options.raw_quotes else inner

    def _double(self) -> str:
        self.at += 1
        parts: list[str] = []
        while (character := self.peek()) != '"':
            if not character:
                raise DockerfileError("syntax error: missing closing double quote")
            parts.append(self._dollar() if character == "$" else self._in_double(self.next()))
        self.at += 1
        inner = "".join(parts)
        return f'"{inner}"' if self.options.raw_quotes else inner

    def _in_double(self, character: str) -> str:
        """Inside double quotes the escape character escapes only `"`, `$` and itself."""
        if character != self.options.escape:
            return character
        kept = character if self.raw_escapes else ""
        following = self.peek()
        if not following:
            return kept
        return kept + (self.next() if following in ('"', "$", self.options.escape) else character)

    def _dollar(self) -> str:
        self.at += 1
        if self.peek() != "{":
            name = self._name()
            if not name:
                return "$"
            return self._plain_value(name, f"${name}")
        self.at += 1
        following = self.peek()
        if not following:
            raise DockerfileError("syntax error: missing '}'")
        if following in "{}:":
            raise DockerfileError("syntax error: bad substitution")
        return self._braced(self._name())

    def _plain_value(self, name: str, written: str) -> str:
        return written if self.options.keep_unset and name not in self.env else self.env.get(name, "")

    def _name(self) -> str:
        start = self.at
        if self.peek() in _SPECIAL and not self.peek().isdigit():
            return self.next()
        if self.peek().isdigit():
            while self.peek().isdigit():
                self.at += 1
            return self.text[start : self.at]
        while (character := self.peek()) and (character.isalpha() or character.isdigit() or character == "_"):
            self.at += 1
        return self.text[start : self.at]

    def _braced(self, name: str) -> str:
        modifier = self.next()
        if modifier == "}":
            return self._plain_value(name, f"${{{name}}}")
        if modifier == "/":
            return self._replaced(name)
        colon = modifier == ":"
        if colon:
            modifier = self.next()
        if not modifier:
            raise DockerfileError("syntax error: missing '}'")
        if modifier not in "+-?#%":
            raise DockerfileError(f"unsupported modifier ({':' * colon}{modifier}) in substitution")
        word = self.until("}", raw_escapes=modifier in "#%").text
        if self.options.keep_unset and name not in self.env:
            return f"${{{name}{':' * colon}{modifier}{word}}}"
        return self._modified(name, modifier, word, colon=colon)

    def _modified(self, name: str, modifier: str, word: str, *, colon: bool) -> str:
        """The value of `${name-word}` and its kind, as POSIX's "Parameter Expansion" has them; with `colon` an empty value counts as none.

        Raises:
            DockerfileError: `?`, and there is no value.
        """
        value = self.env.get(name)
        missing = value is None or (colon and not value)
        if modifier == "-":
            return word if missing else value or ""
        if modifier == "+":
            return "" if missing else word
        if modifier == "?":
            if missing:
                state = "unset" if value is None else "empty"
                raise DockerfileError(f"{name}: {word or f'is not allowed to be {state}'}")
            return value or ""
        greedy = word.startswith(modifier)
        pattern = _tokens(word[1:] if greedy else word)
        return _without_prefix(value or "", pattern, greedy) if modifier == "#" else _without_suffix(value or "", pattern, greedy)

    def _replaced(self, name: str) -> str:
        every = self.peek() == "/"
        self.at += every
        pattern = self.until("/", raw_escapes=True).text
        word = self.until("}", raw_escapes=True).text
        if self.options.keep_unset and name not in self.env:
            return f"${{{name}/{'/' * every}{pattern}/{word}}}"
        regex = re.compile(_regex(_tokens(pattern), greedy=True))
        return regex.sub(lambda match: word, self.env.get(name, ""), count=0 if every else 1)


def _tokens(pattern: str) -> list[tuple[str, bool]]:
    """A shell pattern as characters, each with whether it is a wildcard (`*`, `?`)."""
    tokens: list[tuple[str, bool]] = []
    characters = iter(pattern)
    for character in characters:
        if character != "\\":
            tokens.append((character, character in "*?"))
            continue
        escaped = next(characters, "")
        if not escaped or escaped not in "*?\\}/":
            raise DockerfileError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")
        tokens.append((escaped, False))
    return tokens


def _regex(tokens: list[tuple[str, bool]], *, greedy: bool) -> str:
    """A pattern as a regular expression whose time is bounded by the product of both lengths.

    Every star but the last takes the least it can and never gives back: an earlier place for a segment never
    spoils a later one. Only the last star decides whether the match is the shortest or the longest.
    """
    pieces = ["(?>"]
    last = max((index for index, token in enumerate(tokens) if token == ("*", True)), default=-1)
    for index, (character, wild) in enumerate(tokens):
        if not wild:
            pieces.append(re.escape(character))
        elif character == "?":
            pieces.append(".")
        else:
            pieces.append(")(?>" + (".*" if greedy and index == last else ".*?"))
    return "".join(pieces) + ")"


def _without_prefix(value: str, tokens: list[tuple[str, bool]], greedy: bool) -> str:
    match = re.match(_regex(tokens, greedy=greedy), value)
    return value[match.end() :] if match else value


def _without_suffix(value: str, tokens: list[tuple[str, bool]], greedy: bool) -> str:
    return _without_prefix(value[::-1], tokens[::-1], greedy)[::-1]
