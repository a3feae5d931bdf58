"""Docker's json-file log, as Docker writes it: one JSON object a line of output, rendered a chunk at a time.

    {"log":"hello\\n","stream":"stdout","time":"2024-05-01T12:00:00.123456789Z"}

A line longer than 16 KiB becomes several entries, all but the last without the newline. Bytes that are no
UTF-8 become U+FFFD, one each, as in Go. The file is rotated (NAME, NAME.1, NAME.2 …) when it has reached its size.
"""

from __future__ import annotations

import _json
import os
import time

from lamina.linux.channel import BadMessage, decode, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE_LIMIT = 16 << 10
_SURROGATES = dict.fromkeys(range(56448, 56576), "\\ufffd")
# What Go's encoder writes as \u00XX and Python's as \t, \b, \f; \n and \r are the same in both.
_OWN_ESCAPES = (("\t", "\\u0009"), ("\b", "\\u0008"), ("\f", "\\u000c"))
# Safe after quoting, since no escape sequence holds these characters.
_AFTER = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))


def quote(data: bytes) -> str:
    """The inside of a JSON string as Docker writes it."""
    text = data.decode("utf-8", "surrogateescape")
    quoted = _quote_around(text, 0)
    for character, escape in _AFTER:
        if character in quoted:
            quoted = quoted.replace(character, escape)
    return quoted if text.isascii() else quoted.translate(_SURROGATES)


def _quote_around(text: str, which: int) -> str:
    """Quote the parts between characters whose escape differs, then join them with it."""
    if which == len(_OWN_ESCAPES):
        return _json.encode_basestring(text)[1:-1]
    character, escape = _OWN_ESCAPES[which]
    if character not in text:
        return _quote_around(text, which + 1)
    return escape.join(_quote_around(part, which + 1) for part in text.split(character))


def timestamp(now_ns: int) -> str:
    """RFC 3339 with nanoseconds, trailing zeros left out, UTC."""
    seconds, fraction = divmod(now_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def render(stream: str, data: bytes, now_ns: int) -> bytes:
    """Entries for `data`, which ends with a newline or is part of one long line; all get the same time."""
    if not data:
        return b""
    start, end = '{"log":"', f'","stream":"{stream}","time":"{timestamp(now_ns)}"}}\n'
    quoted = quote(data)
    # In quoted text a newline is backslash-n; after an escaped backslash the same two characters are something else.
    escaped = "\\\\" in quoted
    if escaped:
        quoted = quoted.replace("\\\\", "\1")
    body = start + quoted.replace("\\n", f"\\n{end}{start}")
    body = body[: -len(start)] if data.endswith(b"\n") else body + end
    return (body.replace("\1", "\\\\") if escaped else body).encode()


def _entries(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    for line in lines:
        try:
            entry = decode(line.rstrip())
            yield str(entry["stream"]), str(entry["log"]).encode(errors="replace")
        except (BadMessage, KeyError, TypeError):
            continue


class LogFile:
    """One container's log. `max_size` in bytes, 0 for no limit; `max_file` files are kept, the current one included."""

    __slots__ = ("_fd", "_max_file", "_max_size", "_path", "_rest", "_size")

    def __init__(self, path: str, max_size: int = 0, max_file: int = 1) -> None:
        self._path, self._max_size, self._max_file = path, max_size, max(max_file, 1)
        self._rest: dict[str, bytes] = {}
        self._open()

    def write(self, stream: str, data: bytes) -> None:
        """Log output of `stream` (stdout, stderr); what follows the last newline waits for the rest of its line."""
        rest = self._rest.get(stream, b"")
        end = data.rfind(b"\n") + 1
        if end:
            self._append(stream, rest + data[:end])
            rest = data[end:]
        else:
            rest += data
        while len(rest) >= LINE_LIMIT:
            self._entry(stream, rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        self._rest[stream] = rest

    def close(self) -> None:
        """Log what has no newline, and close."""
        for stream, rest in self._rest.items():
            if rest:
                self._entry(stream, rest)
        os.close(self._fd)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """Stream and bytes of everything logged so far, when it is read to its end: oldest first, the unfinished lines last."""
        number = 1
        while os.path.exists(f"{self._path}.{number}"):
            number += 1
        for name in [*(f"{self._path}.{older}" for older in range(number - 1, 0, -1)), self._path]:
            try:
                with open(name, "rb") as file:
                    yield from _entries(file)
            except OSError:
                continue
        yield from [(stream, rest) for stream, rest in self._rest.items() if rest]

    def _append(self, stream: str, data: bytes) -> None:
        """Whole lines; long ones are cut, which only data over the limit can hold."""
        if len(data) <= LINE_LIMIT or max(map(len, data.split(b"\n"))) < LINE_LIMIT:
            return self._entry(stream, data)
        for line in data.splitlines(keepends=True) if b"\r" not in data else [part + b"\n" for part in data[:-1].split(b"\n")]:
            for start in range(0, len(line), LINE_LIMIT):
                self._entry(stream, line[start : start + LINE_LIMIT])
        return None

    def _entry(self, stream: str, data: bytes) -> None:
        rendered = render(stream, data, time.time_ns())
        if self._max_size and self._size >= self._max_size:
            self._rotate()
        write_all(self._fd, rendered)
        self._size += len(rendered)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        """NAME becomes NAME.1 and so on; the oldest goes."""
        os.close(self._fd)
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._max_file))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            try:
                os.rename(newer, older)
            except FileNotFoundError:
                continue
        if len(names) == 1:
            os.unlink(self._path)
        self._open()
