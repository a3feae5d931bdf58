"""Go's text/template, as much of it as --format uses, with the functions that Docker's CLI adds.

`parse` gives a tree of tuples, `Template.render` walks it over plain JSON values. Fields are keys of mappings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote_plus

from lamina.errors import InvalidArgument

_TOKEN = re.compile(
    r"""\s*(?:("(?:[^"\\]|\\.)*")|(`[^`]*`)|(-?\d+(?:\.\d+)?)|(:=|[|()=,])|(\$?(?:\.?[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*|\$|\.)|(\S))"""
)
_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_VERB = re.compile(r"%[-+# 0]*(\d+)?(?:\.(\d+))?([a-zA-Z%])")
Node = tuple[object, ...]
_END = "\0"  # closes the outermost block; no action is called so


class TemplateError(InvalidArgument):
    """A template that cannot be read, or asks for what is not there."""


class Missing:
    """A value that is not there; rendered as Go does."""

    def __str__(self) -> str:
        return "<no value>"


def go_text(value: object) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else f"{value:e}"
    return str(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _index(value: object, *keys: object) -> object:
    for key in keys:
        try:
            if isinstance(value, Mapping):
                value = value.get(str(key), "")
            elif isinstance(value, (list, tuple, str)) and isinstance(key, int):
                value = value[key] if key >= 0 else _out_of_range(key)
            else:
                raise TemplateError(f"cannot index {type(value).__name__} with {go_text(key)!r}")
        except IndexError:
            _out_of_range(key)
    return value


def _out_of_range(key: object) -> object:
    raise TemplateError(f"index out of range: {go_text(key)}")


def _printf(form: object, *values: object) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        verb = match[3]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "vsdtq":
            text = json.dumps(str(value)) if verb == "q" else go_text(value)
            return ("%" + match[0][1:-1] + "s") % text if verb not in "d" else (match[0] % value if isinstance(value, int) else text)
        try:
            return str(match[0] % value)
        except (TypeError, ValueError):
            return f"%!{verb}({go_text(value)})"

    return _VERB.sub(one, str(form))


def _truncate(value: object, length: object) -> str:
    # docker's truncate takes (string, length), also fed by a pipe as the last argument
    if isinstance(value, int):
        value, length = length, value
    text = go_text(value)
    return text[: int(str(length))]


def _js(text: str) -> str:
    """Text for inside a string of JavaScript."""
    short = {"\\": "\\\\", "'": "\\'", '"': '\\"'}
    return "".join(short.get(sign, f"\\u{ord(sign):04X}" if sign < " " or sign in "<>&=" else sign) for sign in text)


def _split(text: object, separator: object) -> list[str]:
    return str(text).split(str(separator)) if str(separator) else list(str(text))


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise TemplateError(f"cannot slice {type(value).__name__}")
    numbers = [int(str(bound)) for bound in bounds]
    if any(number < 0 or number > len(value) for number in numbers):
        _out_of_range(numbers[-1])
    return value[slice(*numbers)] if len(numbers) > 1 else value[numbers[0] :] if numbers else value


def _compare(test: Callable[[object, object], bool]) -> Callable[[object, object], bool]:
    def run(a: object, b: object) -> bool:
        try:
            return test(a, b)
        except TypeError:
            raise TemplateError(f"incompatible types for comparison: {go_text(a)} and {go_text(b)}") from None

    return run


def _length(value: object) -> int:
    if isinstance(value, (str, list, tuple, Mapping)):
        return len(value)
    raise TemplateError(f"len of {type(value).__name__}")


FUNCTIONS: dict[str, Callable[..., object]] = {
    "json": _json,
    "join": lambda items, separator: str(separator).join(go_text(item) for item in items or []),
    "split": _split,
    "upper": lambda text: go_text(text).upper(),
    "lower": lambda text: go_text(text).lower(),
    "title": lambda text: re.sub(r"\b[a-z]", lambda match: match[0].upper(), go_text(text)),
    "pad": lambda text, before, after: " " * before + go_text(text) + " " * after if text else text,
    "truncate": _truncate,
    "println": lambda *values: " ".join(map(go_text, values)) + "\n",
    "print": lambda *values: "".join(map(go_text, values)),
    "printf": _printf,
    "index": _index,
    "len": _length,
    "slice": _slice,
    "eq": lambda a, *others: any(a == other for other in others),
    "ne": lambda a, b: a != b,
    "lt": _compare(lambda a, b: a < b),  # type: ignore[operator]
    "le": _compare(lambda a, b: a <= b),  # type: ignore[operator]
    "gt": _compare(lambda a, b: a > b),  # type: ignore[operator]
    "ge": _compare(lambda a, b: a >= b),  # type: ignore[operator]
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "js": lambda value: _js(go_text(value)),
    "urlquery": lambda *values: quote_plus("".join(map(go_text, values))),
    "html": lambda value: (
        go_text(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;")
    ),
}


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
        if token[0] == '"':
            return ("constant", json.loads(token.replace("\t", "\\t")))
        if token[0] == "`":
            return ("constant", token[1:-1])
        if token[0].isdigit() or token[0] == "-":
            return ("constant", float(token) if "." in token else int(token))
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


class _Parser:
    def __init__(self, text: str) -> None:
        self._parts = list(_pieces(text))[::-1]

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
        if word in ("end", "else", "define", "template", "block", "break", "continue"):
            raise TemplateError(f"template parsing error: unexpected {{{{{word}}}}}")
        names, tokens, declares = _assignment(_lex(text))
        value = _Expression(tokens, text).whole()
        return ("assign", names[0], value, declares) if names else ("print", value)

    def _branch(self, word: str, rest: str) -> Node:
        names, tokens, _ = _assignment(_lex(rest))
        value = _Expression(tokens, rest).whole()
        body, closer, after = self.block(("end", "else"))
        other: list[Node] = []
        if closer == "else":
            follow, _, condition = after.strip().partition(" ")
            if follow in ("if", "with"):
                other = [self._branch(follow, condition)]
            else:
                other, closer, _ = self.block(("end",))
        return (word, names, value, body, other)


def _assignment(tokens: list[str]) -> tuple[list[str], list[str], bool]:
    for sign in (":=", "="):
        if sign in tokens:
            at = tokens.index(sign)
            return [token for token in tokens[:at] if token != ","], tokens[at + 1 :], sign == ":="
    return [], tokens, False


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    at, strip = 0, False
    for match in _ACTION.finditer(text):
        literal = text[at : match.start()]
        literal = literal.lstrip() if strip else literal
        yield "text", literal.rstrip() if match[1] else literal
        yield "action", match[2]
        at, strip = match.end(), bool(match[3])
    rest = text[at:]
    if "{{" in rest:
        raise TemplateError("template parsing error: unclosed action")
    yield "text", rest.lstrip() if strip else rest


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


class Template:
    """A parsed template; `render` may be called many times."""

    def __init__(self, text: str) -> None:
        self._nodes = _Parser(text).block((_END,))[0]

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
            elif kind == "print":
                yield go_text(self._value(node[1], dot, scope))
            elif kind == "assign":
                (scope.set if node[3] else scope.change)(str(node[1]), self._value(node[2], dot, scope))
            else:
                yield from self._branch(node, dot, scope)

    def _branch(self, node: Node, dot: object, scope: _Scope) -> Iterator[str]:
        kind, names, expression, body, other = node
        value = self._value(expression, dot, scope)
        inner = _Scope(scope)
        variables = list(names) if isinstance(names, list) else []
        if kind == "range" and value:
            yield from self._range(value, variables, body, scope)
        elif value and not isinstance(value, Missing):
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
        else:
            raise TemplateError(f"range can't iterate over {go_text(value)}")
        for key, item in pairs:
            inner = _Scope(scope)
            for name, bound in zip(variables[::-1], (item, key), strict=False):
                inner.set(name, bound)
            yield from self._walk(body, item, inner)

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
        values = [self._value(argument, dot, scope) for argument in node[2]]
        if kind == "method":
            _, base, path = node[1]
            return _method(_fields(self._value(base, dot, scope), path[:-1]), path[-1], values)
        return self._call(str(node[1]), values)

    @staticmethod
    def _call(name: str, values: list[object]) -> object:
        try:
            return FUNCTIONS[name](*values)
        except (TypeError, ValueError, IndexError, StopIteration):
            raise TemplateError(f"template: {name} cannot take these arguments: {' '.join(map(go_text, values))}") from None


def _fields(value: object, path: tuple[str, ...]) -> object:
    for name in path:
        if not isinstance(value, Mapping):
            raise TemplateError(f"template: no field {name!r} in {go_text(value)!r}")
        value = value[name if name in value else _spelling(value, name)]
    return value


def _spelling(value: Mapping[object, object], name: str) -> object:
    """The key that Docker's CLI means by `name`: the fields of its types are spelled as Go spells them (`.ID`), keys of JSON not (`Id`)."""
    found = [key for key in value if str(key).lower() == name.lower()] if name[0].isupper() else []
    if len(found) != 1:
        known = ", ".join(sorted(map(str, value))[:40])
        raise TemplateError(f"template: no field {name!r}, there are: {known or 'none'}")
    return found[0]


def _method(value: object, name: str, arguments: list[object]) -> object:
    """Call what a row offers (`lamina.cli.output.Labelled`)."""
    found = getattr(value, "methods", {}).get(name)
    if found is None:
        raise TemplateError(f"template parsing error: can't give argument to non-function .{name}")
    if len(arguments) != 1:
        raise TemplateError(f"template: .{name} takes one argument")
    return found(go_text(arguments[0]))
