"""The json-file format: Docker's lines to what a client is sent. Pure."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from lamina.container.requests import LogQuery

_STREAMS = {"stdout": 1, "stderr": 2}


class LogLine(msgspec.Struct, frozen=True):
    """One line of the file. `time` is RFC 3339 with up to nine digits of the second."""

    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] | None = None


class Rendered(NamedTuple):
    """What to send, and whether `until` was passed: then nothing after it is wanted."""

    data: bytes
    over: bool


_DECODER = msgspec.json.Decoder(LogLine)


def nanoseconds(stamp: str) -> int:
    """RFC 3339 as nanoseconds since 1970.

    Raises:
        ValueError: it is no such time.
    """
    zone = 0
    if stamp[-6:-5] in ("+", "-") and stamp[-3:-2] == ":":
        zone = (int(stamp[-5:-3]) * 60 + int(stamp[-2:])) * (60 if stamp[-6] == "+" else -60)
        stamp = stamp[:-6]
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return (seconds - zone) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)


def padded(stamp: str) -> str:
    """The time with nine digits, as `logs --timestamps` shows it."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')[:9]}Z"


def decode(line: bytes) -> LogLine | None:
    """One line; None for what is not a log line (a file cut in the middle by a crash)."""
    try:
        return _DECODER.decode(line)
    except msgspec.MsgspecError:
        return None


def render(lines: Iterable[bytes], query: LogQuery, *, framed: bool) -> Rendered:
    """The lines that `query` chooses as bytes to send; in frames if `framed`: one per line for a follower, otherwise one for each run of
    lines of one stream, which says the same in a fraction of the time."""
    if not (query.follow or query.timestamps or query.details or query.since_ns or query.until_ns):
        return Rendered(_runs(lines, query, framed=framed), False)
    out: list[bytes] = []
    timed = bool(query.since_ns or query.until_ns)
    for raw in lines:
        line = decode(raw)
        if line is None:
            continue
        if timed:
            moment = _moment(line)
            if query.until_ns and moment > query.until_ns:
                return Rendered(b"".join(out), True)
            if moment < query.since_ns:
                continue
        if not (query.stdout if line.stream == "stdout" else query.stderr):
            continue
        _put(out, line.stream, _decorated(line, query), framed=framed)
    return Rendered(b"".join(out), False)


def _put(out: list[bytes], stream: str, text: str, *, framed: bool) -> None:
    data = text.encode("utf-8", "surrogateescape")
    if framed:
        out.append(bytes((_STREAMS.get(stream, 1), 0, 0, 0)) + len(data).to_bytes(4, "big"))
    out.append(data)


def _runs(lines: Iterable[bytes], query: LogQuery, *, framed: bool) -> bytes:
    """The plain lines, those of one stream that follow each other together."""
    out: list[bytes] = []
    run: list[str] = []
    stream = ""
    for raw in lines:
        line = decode(raw)
        if line is None:
            continue
        if line.stream != stream:
            if run:
                _put(out, stream, "".join(run), framed=framed)
                run = []
            stream = line.stream
        if query.stdout if stream == "stdout" else query.stderr:
            run.append(line.log)
    if run:
        _put(out, stream, "".join(run), framed=framed)
    return b"".join(out)


def _moment(line: LogLine) -> int:
    try:
        return nanoseconds(line.time)
    except ValueError:
        return 0


def _decorated(line: LogLine, query: LogQuery) -> str:
    details = ""
    if query.details:
        details = ",".join(f"{key}={value}" for key, value in sorted((line.attrs or {}).items())) + " "
    stamp = f"{padded(line.time)} " if query.timestamps else ""
    return f"{stamp}{details}{line.log}" if stamp or details else line.log
