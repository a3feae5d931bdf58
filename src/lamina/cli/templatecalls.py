"""What templates of --format can call: Go's functions and those that Docker's CLI adds, over plain JSON values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus

from lamina.errors import InvalidArgument

_VERB = re.compile(r"%[-+# 0]*(\d+)?(?:\.(\d+))?([a-zA-Z%])")
_TYPES = {bool: "bool", int: "int", float: "float64", str: "string", type(None): "<nil>"}


class TemplateError(InvalidArgument):
    """A template that cannot be read, or asks for what is not there."""


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
    if getattr(value, "nil", False):
        return "null"
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()  # what is not UTF-8 in a file's name stays a surrogate, in JSON's escapes
    if not hasattr(value, "methods"):
        return text
    # A row of a list says of itself what its JSON is; Go escapes that, and no other value's.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        try:
            if isinstance(value, Mapping):
                value = value.get(str(key), "")
            elif isinstance(value, (list, tuple, str)) and isinstance(key, int):
                values = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
                value = values[key] if key >= 0 else _out_of_range(key)
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
        if verb == "T":
            return _TYPES.get(type(value), "[]interface {}" if isinstance(value, (list, tuple)) else "map[string]interface {}")
        if verb in "xX" and isinstance(value, str):
            digits = value.encode("utf-8", "surrogateescape").hex()
            return digits.upper() if verb == "X" else digits
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


def _print(*values: object) -> str:
    """Operands one after the other, a space between two of which neither is a text."""
    text = ""
    for number, value in enumerate(values):
        apart = number and not isinstance(value, str) and not isinstance(values[number - 1], str)
        text += (" " if apart else "") + go_text(value)
    return text


def _equal(a: object, b: object) -> bool:
    if _sort(a) and _sort(b) and _sort(a) != _sort(b):
        raise TemplateError(f"incompatible types for comparison: {go_text(a)} and {go_text(b)}")
    return a == b


def _sort(value: object) -> str:
    """What values can be compared with; "" for what is none of Go's basic types."""
    return "number" if type(value) in (int, float) else _TYPES[type(value)] if isinstance(value, bool | str) else ""


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
    "print": _print,
    "printf": _printf,
    "index": _index,
    "len": _length,
    "slice": _slice,
    "eq": lambda a, *others: any(_equal(a, other) for other in others),
    "ne": lambda a, b: not _equal(a, b),
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
