"""JSON and percent encoding on C functions alone: the json package costs 7 ms of a command's time."""

from __future__ import annotations

from _json import encode_basestring as _quoted_string
from _json import make_encoder, make_scanner

from lamina.errors import Corrupt, InvalidArgument

_BLANK = " \t\r\n"
_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


class _Reading:
    """What the C scanner asks of its context."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = make_scanner(_Reading())  # type: ignore[arg-type]


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = make_encoder(None, _refuse, _quoted_string, None, ":", ",", False, False, False)


def decode(text: bytes | bytearray | str) -> object:
    """The value of a JSON document.

    Raises:
        Corrupt: it is not one.
    """
    if not isinstance(text, str):
        text = text.decode("utf-8", "replace")
    try:
        value, end = _scan(text, len(text) - len(text.lstrip(_BLANK)))
    except (StopIteration, ValueError, RecursionError):
        raise Corrupt(f"not a JSON document: {text[:100]!r}") from None
    if text[end:].strip(_BLANK):
        raise Corrupt(f"more than one JSON document: {text[end : end + 100]!r}")
    return value


def document(text: bytes | bytearray | str) -> dict[str, object]:
    """The JSON object `text` holds; an empty one where it holds anything else."""
    value = decode(text) if text.strip() else None
    return value if isinstance(value, dict) else {}


def encode(value: object) -> bytes:
    """`value` as compact JSON; bytes of words that are not UTF-8 (lone surrogates, as Python reads them) become U+FFFD, as docker's."""
    text = "".join(_encode(value, 0))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text).encode()


def quoted(text: str, keep: str = "") -> str:
    """`text` percent-encoded as a part of a path, the characters of `keep` left as they are.

    Raises:
        InvalidArgument: it is empty, which would make another path.
    """
    if not text:
        raise InvalidArgument("invalid reference format: a name or an ID is empty")
    return _percent(text, keep)


def _percent(text: str, keep: str = "") -> str:
    kept = _UNRESERVED | frozenset(keep.encode())
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def query(pairs: list[tuple[str, str]]) -> str:
    """`?a=1&b=2`, or nothing."""
    return "?" + "&".join(f"{name}={_percent(value)}" for name, value in pairs) if pairs else ""


__all__ = ["decode", "document", "encode", "query", "quoted"]
