"""Requests and responses as values, and the tolerant reading of what clients put into a query."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec

from lamina.api.body import Body
from lamina.apitypes.keys import spelled
from lamina.apitypes.nulls import settled
from lamina.errors import InvalidArgument
from lamina.spec.strict import NumberOutOfRange, check_numbers, readable
from lamina.worker.outgoing import Outlet

T = TypeVar("T")
_MOST_FIELDS = 10_000
_FALSE = frozenset({"", "0", "no", "false", "none"})
_TRUTHS = frozenset({"0", "1", "false", "true"})


class InvalidParameter(InvalidArgument):
    """A parameter or document of a request is malformed."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query string's values. Clients differ widely: what can be understood is, absent or empty means default."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read `a=b&a=c`, in the order given.

        Raises:
            InvalidParameter: it has too many parts.
        """
        found: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise InvalidParameter(f"malformed request: its query has more than {_MOST_FIELDS} parts") from None
        for name, value in pairs:
            found.setdefault(name, []).append(value)
        return cls({name: tuple(values) for name, values in found.items()})

    def text(self, name: str, default: str = "") -> str:
        """The first value, or `default`. What is not UTF-8 in it is U+FFFD, as for Go's readers; see `path`."""
        text: str = readable(self.path(name, default))
        return text

    def path(self, name: str, default: str = "") -> str:
        """The first value, or `default`, as the name of a file: bytes that are not UTF-8 are lone surrogates, as Python reads names."""
        values = self.values.get(name)
        return values[0] if values and values[0] else default

    def all(self, name: str) -> tuple[str, ...]:
        """Every value that is not empty. See `text`."""
        return tuple(readable(value) for value in self.values.get(name, ()) if value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean as dockerd reads it: anything but "", 0, no, false and none is true."""
        values = self.values.get(name)
        return default if not values else values[0].strip().lower() not in _FALSE

    def number(self, name: str, default: int | None = None) -> int | None:
        """A whole number.

        Raises:
            InvalidParameter: it is not one, or one that no client in Go can read.
        """
        text = self.text(name)
        if not text:
            return default
        try:
            found = int(text)
        except ValueError:
            raise InvalidParameter(f"invalid value for {name}: {text[:100]!r} is not a number")
        if not -(1 << 63) <= found < 1 << 63:
            raise InvalidParameter(f"invalid value for {name}: number out of range: {text[:100]}")
        return found

    def document(self, name: str) -> Any:
        """A JSON value; None where it is absent, empty or null.

        Raises:
            InvalidParameter: it is not JSON.
        """
        text = self.text(name)
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidParameter(f"invalid value for {name}: not JSON: {text[:100]!r}")

    def filters(self, name: str = "filters") -> dict[str, list[str]]:
        """Filters in either spelling: `{"k": {"v": true}}` (Go) or `{"k": ["v"]}` (docker-py).

        Raises:
            InvalidParameter: they are something else.
        """
        document = self.document(name)
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise InvalidParameter("invalid filters: not an object")
        return {str(key): _filter_values(str(key), value) for key, value in document.items()}


def _filter_values(name: str, value: object) -> list[str]:
    if isinstance(value, dict):
        for word in _TRUTHS & {key for key, wanted in value.items() if not wanted}:
            raise InvalidParameter(f"invalid filter '{name[:100]}=[{word}]'")
        # As to Docker, what is named is asked for, whatever is said of it: passed over it would let a prune remove more.
        return [str(key) for key in value]
    if isinstance(value, list):
        return [str(item) for item in value]
    if value is None:
        return []
    if isinstance(value, str | int | bool):
        return [str(value).lower() if isinstance(value, bool) else str(value)]
    raise InvalidParameter("invalid filters: a value is neither list nor object")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` is decoded and without version prefix; `parameters` are the path template's."""

    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    body: Body
    parameters: Mapping[str, str] = field(default_factory=dict)
    api_version: tuple[int, int] = (1, 51)

    def document(self, kind: type[T]) -> T:
        """The body read as the JSON document `kind`; an empty body is an empty document.

        Raises:
            InvalidParameter: it is no such document.
        """
        return decode(self.body.document(), kind)

    def fields(self, kind: type) -> dict[str, Any]:
        """The same as plain values, by the specification's keys.

        Raises:
            InvalidParameter: it is no such document.
        """
        return fields(self.body.document(), kind)


class Writer(Protocol):
    """What a streamed response writes to. Raises OSError or Cancelled once the client has gone."""

    def write(self, data: bytes) -> None:
        """Send `data` at once; the first call sends the head before it."""

    def start(self) -> None:
        """Send the head now; idempotent."""

    def outlet(self) -> Outlet:
        """The connection, for one job that writes the body to it. Nothing else is written meanwhile."""

    def gone(self, timeout: float = 0) -> bool:
        """Whether the client has closed its side, or does so within `timeout` seconds."""

    def fileno(self) -> int:
        """The connection, to wait for its end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response whose body is at hand."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Streamed:
    """A response written while the work goes on. Until its first byte, a failure is still a plain error reply.

    `failed` renders a failure that comes after the first byte into the stream; without it the stream is cut.
    `length` is how many bytes it will have, where that is known.
    """

    produce: Callable[[Writer], object]
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    failed: Callable[[Exception], bytes] | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class FileReply:
    """A response whose body is `size` bytes of `fd` from `offset`; the server closes `fd`."""

    fd: int
    size: int
    offset: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Direct:
    """A response of exactly `size` bytes that `write` writes to the connection's descriptor itself."""

    size: int
    write: Callable[[int], object]
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Hijacked:
    """The connection stops being HTTP once `take` calls what it gets last, which sends the head; until then a failure is a plain reply.

    `take` borrows the descriptor (what is to outlive the call duplicates it) and gets the bytes already read from it.
    """

    take: Callable[[int, bytes, Callable[[], None]], None]
    content_type: str = "application/vnd.docker.raw-stream"
    headers: tuple[tuple[str, str], ...] = ()


Response = Reply | Streamed | FileReply | Direct | Hijacked
Handler = Callable[[Request], Response]


def decode(data: bytes, kind: type[T]) -> T:
    """`data` as the JSON document `kind`; no bytes are an empty document, null and the case of keys are what they are to Go (`apitypes`).

    Raises:
        InvalidParameter: it is no such document.
    """
    return _checked(data, kind)[0]


def fields(data: bytes, kind: type) -> dict[str, Any]:
    """`data` as plain values by the specification's keys, once it is known to be a document `kind`.

    Raises:
        InvalidParameter: it is no such document.
    """
    plain: dict[str, Any] = _checked(data, kind)[1]
    return plain


def _checked(data: bytes, kind: type[T]) -> tuple[T, Any]:
    try:
        plain = spelled(msgspec.json.decode(data.strip() or b"{}"), kind)
        check_numbers(data, lambda: plain)
        try:
            return msgspec.convert(plain, type=kind), plain
        except msgspec.ValidationError:
            if b"null" not in data:
                raise
            return msgspec.convert(settled(plain, kind), type=kind), plain
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError, NumberOutOfRange) as error:
        raise InvalidParameter(f"invalid request body: {error}")


_encoder = msgspec.json.Encoder()


def encode(document: object) -> bytes:
    """A document as JSON, as clients of Go and Python read it."""
    try:
        return _encoder.encode(document) + b"\n"
    except UnicodeEncodeError:
        return _encoder.encode(readable(document)) + b"\n"  # a Dockerfile's own bytes, say


def named_reply(document: object, status: int = 200) -> Reply:
    """A reply that is one JSON document with names of files: bytes that are not UTF-8 are lone surrogates, "\\udc80" to "\\udcff", so that
    the file can be asked for again."""
    return Reply(status, json.dumps(document, separators=(",", ":")).encode() + b"\n", (("Content-Type", "application/json"),))


def json_reply(document: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """A reply that is one JSON document."""
    return Reply(status, encode(document), (("Content-Type", "application/json"), *headers))
