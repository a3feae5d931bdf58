"""Go's text/template, with the functions that Docker's CLI adds (`templatecalls`).

`Template` parses into a tree of tuples, `Template.render` walks it over plain JSON values. Fields are keys of mappings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lamina.cli.gotypes import GoMap, as_go
from lamina.cli.templatecalls import FUNCTIONS, TemplateError, go_text

__all__ = ["Template", "TemplateError", "UnknownField", "go_text"]

_TOKEN = re.compile(
    r"""\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)+')|(`[^`]*`)|([-+]?\d(?:[eE][-+]|[\w.])*)|(:=|[|()=,])"""
    r"""|(\$?(?:\.?[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*|\$|\.)|(\S))"""
)
_INSIDE = re.compile(r"""((?:\s-)?\}\})|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`|.""", re.DOTALL)
_ESCAPE = re.compile(r"""\\(?:([abfnrtv\\'"])|([0-7]{3}|x[0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)""")
_CONTROLS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
Node = tuple[object, ...]
_END = "\0"  # closes the outermost block; no action has that name
_DEEPEST = 100
_SHOWN = 100  # characters of a value in an error
"""So deep templates call each other."""


def _lex(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text) and text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match[6]:
            raise TemplateError(f"template parsing error: unexpected {text[at:].strip()[:10]!r} in {text.strip()!r}")
        tokens.append(match[0].strip())
        at = match.end()
    return tokens


class _Expression:
    """Reads one pipeline out of tokens."""

    def __init__(self, tokens: list[str], text: str) -> None:
        self._tokens, self._text = tokens[::-1], text

    def whole(self) -> Node:
        node = self.pipeline()
        if self._tokens:
            raise self._fault()
        return node

    def _fault(self) -> TemplateError:
        return TemplateError(
            f"template parsing error: unexpected {self._tokens[-1] if self._tokens else 'end'!r} in {self._text.strip()!r}"
        )

    def pipeline(self) -> Node:
        node = self._command(None)
        while self._tokens and self._tokens[-1] == "|":
            self._tokens.pop()
            node = self._command(node)
        return node

    def _command(self, piped: Node | None) -> Node:
        words = []
        while self._tokens and self._tokens[-1] not in ("|", ")"):
            words.append(self._operand())
        if not words:
            raise self._fault()
        head = words[0]
        if head == ("constant", None):
            raise TemplateError(f"template parsing error: nil is not a command in {self._text.strip()!r}")
        if head[0] == "function":
            return ("call", head[1], tuple(words[1:]) + ((piped,) if piped else ()))
        arguments = tuple(words[1:]) + ((piped,) if piped else ())
        if arguments and head[0] == "field":
            return ("method", head, arguments)
        if arguments:
            raise TemplateError(f"template parsing error: can't give argument to non-function in {self._text.strip()!r}")
        return head

    def _operand(self) -> Node:
        token = self._tokens.pop()
        if token == "(":
            node = self.pipeline()
            if not self._tokens or self._tokens.pop() != ")":
                raise TemplateError(f"template parsing error: unclosed left paren in {self._text.strip()!r}")
            if self._tokens and re.match(r"\.[A-Za-z_]", self._tokens[-1]):
                node = ("field", node, tuple(self._tokens.pop()[1:].split(".")))
            return node
        return self._word(token)

    def _word(self, token: str) -> Node:
        if token[0] in "\"'`":
            return ("constant", _literal(token))
        if token[0].isdigit() or token[0] in "-+":
            return ("constant", _number(token))
        if token in ("true", "false", "nil"):
            return ("constant", {"true": True, "false": False, "nil": None}[token])
        if token == ".":
            return ("dot",)
        if token[0] == ".":
            return ("field", ("dot",), tuple(token[1:].split(".")))
        if token[0] == "$":
            name, *path = token.split(".")
            return ("field", ("variable", name), tuple(path)) if path else ("variable", name)
        if token in FUNCTIONS:
            return ("function", token)
        raise TemplateError(f"template parsing error: function {token!r} not defined")


def _literal(token: str) -> str | int:
    """A quoted text; of a character in single quotes, its number."""
    if token[0] == "`":
        return token[1:-1]
    text = _ESCAPE.sub(_unescaped, token[1:-1])
    if token[0] == '"':
        return text
    if len(text) != 1:
        raise TemplateError(f"template parsing error: malformed character constant: {token}")
    return ord(text)


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return _CONTROLS.get(match[1], match[1])
    if match[2]:
        byte = int(match[2][1:], 16) if match[2][0] == "x" else int(match[2], 8)
        return chr(byte if byte < 0x80 else 0xDC00 + (byte & 0xFF))
    code = int(match[3] or match[4] or "-1", 16)
    if not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
        raise TemplateError("template parsing error: invalid syntax in a quoted text")
    return chr(code)


def _number(token: str) -> int | float:
    for read in (lambda: int(token, 0), lambda: int(token, 8), lambda: float(token)):
        try:
            return read()
        except ValueError:
            continue
    raise TemplateError(f"template parsing error: bad number syntax: {token!r}")


class _Parser:
    def __init__(self, text: str) -> None:
        self._parts = list(_pieces(text))[::-1]
        self._open: list[str] = []
        self.defined: dict[str, list[Node]] = {}

    def block(self, closers: tuple[str, ...]) -> tuple[list[Node], str, str]:
        """Nodes up to a closing action; which one closed, and its text after the word."""
        nodes: list[Node] = []
        while self._parts:
            kind, text = self._parts.pop()
            if kind == "text":
                nodes.append(("text", text))
                continue
            word, _, rest = text.strip().partition(" ")
            if word.startswith("/*"):
                continue
            if word in closers:
                return nodes, word, rest
            nodes.append(self._action(word, rest, text))
        if _END not in closers:
            raise TemplateError("template parsing error: unexpected EOF, an {{end}} is missing")
        return nodes, _END, ""

    def _action(self, word: str, rest: str, text: str) -> Node:
        if word in ("if", "with", "range"):
            return self._branch(word, rest)
        if word in ("template", "block", "define"):
            return self._named(word, rest)
        if word in ("break", "continue") and not rest.strip():
            if "range" not in self._open:
                raise TemplateError(f"template parsing error: {{{{{word}}}}} outside {{{{range}}}}")
            return (word,)
        if word in ("end", "else"):
            raise TemplateError(f"template parsing error: unexpected {{{{{word}}}}}")
        names, tokens, declares = _assignment(_lex(text))
        value = _Expression(tokens, text).whole()
        return ("assign", names[0], value, declares) if names else ("print", value)

    def _named(self, word: str, rest: str) -> Node:
        """A template that is defined, called, or both at once."""
        tokens = _lex(rest)
        if not tokens or tokens[0][0] not in '"`' or (word == "define" and (len(tokens) > 1 or self._open)):
            raise TemplateError(f"template parsing error: unexpected {{{{{word} {rest.strip()}}}}}")
        name = str(_literal(tokens[0]))
        value = _Expression(tokens[1:], rest).whole() if tokens[1:] else ("constant", None)
        if word != "template":
            if word == "block" and not tokens[1:]:
                raise TemplateError("template parsing error: missing value for block clause")
            before, self._open = self._open, [word]
            self.defined[name] = self.block(("end",))[0]
            self._open = before
        return ("template", name, value) if word != "define" else ("text", "")

    def _branch(self, word: str, rest: str) -> Node:
        names, tokens, _ = _assignment(_lex(rest))
        if not tokens:
            raise TemplateError(f"template parsing error: missing value for {word}")
        value = _Expression(tokens, rest).whole()
        self._open.append(word)
        body, closer, after = self.block(("end", "else"))
        self._open[-1] = "else"  # where a range has nothing to break off
        other: list[Node] = []
        if closer == "else":
            follow, _, condition = after.strip().partition(" ")
            if follow in ("if", "with"):
                other = [self._branch(follow, condition)]
            else:
                other, closer, _ = self.block(("end",))
        self._open.pop()
        return (word, names, value, body, other)


def _assignment(tokens: list[str]) -> tuple[list[str], list[str], bool]:
    for sign in (":=", "="):
        if sign in tokens:
            at = tokens.index(sign)
            return [token for token in tokens[:at] if token != ","], tokens[at + 1 :], sign == ":="
    return [], tokens, False


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    at, strip = 0, False
    while (begin := text.find("{{", at)) >= 0:
        literal = text[at:begin].lstrip() if strip else text[at:begin]
        trims = text[begin + 2 : begin + 3] == "-" and text[begin + 3 : begin + 4].isspace()
        inside = begin + (4 if trims else 2)
        yield "text", literal.rstrip() if trims else literal
        close, at = _closing(text, inside)
        yield "action", text[inside:close]
        strip = at - close > 2
    rest = text[at:]
    yield "text", rest.lstrip() if strip else rest


def _closing(text: str, at: int) -> tuple[int, int]:
    """Where an action that begins at `at` ends, and where the text after it begins; braces in quotes and comments end none."""
    if text[at:].lstrip().startswith("/*"):
        at = max(text.find("*/", at), at)
    for match in _INSIDE.finditer(text, at):
        if match[1]:
            return match.span()
    raise TemplateError("template parsing error: unclosed action")


class _Scope:
    """Variables, one chain link a block."""

    def __init__(self, parent: _Scope | None = None) -> None:
        self._parent, self._names = parent, dict[str, object]()

    def set(self, name: str, value: object) -> None:
        self._names[name] = value

    def change(self, name: str, value: object) -> None:
        scope: _Scope | None = self
        while scope is not None and name not in scope._names:
            scope = scope._parent
        if scope is None:
            raise TemplateError(f"template parsing error: undefined variable {name!r}")
        scope._names[name] = value

    def get(self, name: str) -> object:
        if name in self._names:
            return self._names[name]
        if self._parent is None:
            raise TemplateError(f"template parsing error: undefined variable {name!r}")
        return self._parent.get(name)


class UnknownField(TemplateError):
    """A template asks for a field that rows do not have."""


class _Left(Exception):
    """A turn of a range ends before its end."""


_BREAK, _CONTINUE = _Left(), _Left()


class Template:
    """A parsed template; `render` may be called many times."""

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self._nodes = parser.block((_END,))[0]
        self._defined = parser.defined
        self._depth = 0

    def render(self, data: object) -> str:
        """The text for `data`.

        Raises:
            TemplateError: a field that is not there, or a function that cannot take its arguments.
        """
        scope = _Scope()
        scope.set("$", data)
        return "".join(self._walk(self._nodes, data, scope))

    def _walk(self, nodes: object, dot: object, scope: _Scope) -> Iterator[str]:
        for node in nodes if isinstance(nodes, list) else ():
            kind = node[0]
            if kind == "text":
                yield str(node[1])
            elif kind in ("break", "continue"):
                raise _BREAK if kind == "break" else _CONTINUE
            elif kind == "template":
                yield from self._template(str(node[1]), self._value(node[2], dot, scope))
            elif kind == "print":
                yield go_text(self._value(node[1], dot, scope))
            elif kind == "assign":
                (scope.set if node[3] else scope.change)(str(node[1]), self._value(node[2], dot, scope))
            else:
                yield from self._branch(node, dot, scope)

    def _template(self, name: str, dot: object) -> Iterator[str]:
        """What a template of that name gives for `dot`; it sees no variables of its caller."""
        if name not in self._defined:
            raise TemplateError(f"template: {name!r} not defined")
        if self._depth == _DEEPEST:
            raise TemplateError(f"template: {name!r}: templates call each other more than {_DEEPEST} deep")
        scope = _Scope()
        scope.set("$", dot)
        self._depth += 1
        yield from self._walk(self._defined[name], dot, scope)
        self._depth -= 1

    def _branch(self, node: Node, dot: object, scope: _Scope) -> Iterator[str]:
        kind, names, expression, body, other = node
        value = self._value(expression, dot, scope)
        inner = _Scope(scope)
        variables = list(names) if isinstance(names, list) else []
        if kind == "range" and value:
            yield from self._range(value, variables, body, scope)
        elif value:
            for name in variables:
                inner.set(name, value)
            yield from self._walk(body, value if kind == "with" else dot, inner)
        else:
            yield from self._walk(other, dot, inner)

    def _range(self, value: object, variables: list[str], body: object, scope: _Scope) -> Iterator[str]:
        if isinstance(value, Mapping):
            pairs: list[tuple[object, object]] = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif type(value) is int:
            pairs = [(number, number) for number in range(value)]
        else:
            raise TemplateError(f"range can't iterate over {go_text(value)}")
        for key, item in pairs:
            inner = _Scope(scope)
            for name, bound in zip(variables[::-1], (item, key), strict=False):
                inner.set(name, bound)
            try:
                yield from self._walk(body, item, inner)
            except _Left as left:
                if left is _BREAK:
                    return

    def _value(self, node: object, dot: object, scope: _Scope) -> object:
        if not isinstance(node, tuple):
            raise TemplateError("template parsing error: empty expression")
        kind = node[0]
        if kind == "constant":
            return node[1]
        if kind == "dot":
            return dot
        if kind == "variable":
            return scope.get(str(node[1]))
        if kind == "field":
            return _fields(self._value(node[1], dot, scope), node[2])
        if kind == "function":
            return self._call(str(node[1]), [])
        if node[1] in ("and", "or") and kind == "call":
            return self._choice(str(node[1]), node[2], dot, scope)
        values = [self._value(argument, dot, scope) for argument in node[2]]
        if kind == "method":
            _, base, path = node[1]
            return _method(_fields(self._value(base, dot, scope), path[:-1]), path[-1], values)
        return self._call(str(node[1]), values)

    def _choice(self, name: str, arguments: object, dot: object, scope: _Scope) -> object:
        """`and` and `or`, which look no further than they must."""
        value: object = None
        for argument in arguments if isinstance(arguments, tuple) else ():
            value = self._value(argument, dot, scope)
            if bool(value) == (name == "or"):
                break
        return value

    @staticmethod
    def _call(name: str, values: list[object]) -> object:
        try:
            return FUNCTIONS[name](*values)
        except (TypeError, ValueError, IndexError, StopIteration, OverflowError):
            raise TemplateError(f"template: {name} cannot take these arguments: {' '.join(map(go_text, values))}") from None


def _fields(value: object, path: tuple[str, ...]) -> object:
    for name in path:
        if not isinstance(value, Mapping):
            shown = go_text(value)
            raise TemplateError(f"template: no field {name!r} in {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'!r}")
        left_out = getattr(value, "left_out", {})
        if name in left_out and name not in value:
            value = left_out[name]
        else:
            value = value[name if name in value or isinstance(value, GoMap) else _spelling(value, name)]
        value = as_go(name, value)
    return value


def _spelling(value: Mapping[object, object], name: str) -> object:
    """The key that Docker's CLI means by `name`: the fields of its types are spelled as Go spells them (`.ID`), keys of JSON not (`Id`)."""
    found = [key for key in value if str(key).lower() == name.lower()] if name[0].isupper() else []
    if len(found) != 1:
        known = ", ".join(sorted(map(str, value))[:40])
        raise UnknownField(f"template: no field {name!r}, there are: {known or 'none'}")
    return found[0]


def _method(value: object, name: str, arguments: list[object]) -> object:
    """Call what a row offers (`lamina.cli.output.Labelled`)."""
    found = getattr(value, "methods", {}).get(name)
    if found is None:
        raise TemplateError(f"template parsing error: can't give argument to non-function .{name}")
    if len(arguments) != 1:
        raise TemplateError(f"template: .{name} takes one argument")
    return found(go_text(arguments[0]))
