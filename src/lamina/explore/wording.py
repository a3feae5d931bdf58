"""What jobs write for people and programs: names made printable, sizes and modes in words, strings in JSON; all as bytes, fast."""

from __future__ import annotations

import os
import re
import stat
from _json import encode_basestring_ascii

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")
_PLAIN = re.compile(rb"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
_CHUNK = 1 << 20


def printable(name: bytes) -> bytes:
    """A name with its control characters escaped: it must not speak to the terminal."""
    return _CONTROL.sub(lambda found: b"".join(b"\\x%02x" % byte for byte in found[0]), name) if _CONTROL.search(name) else name


def all_printable(text: bytes) -> bool:
    """Whether there are no control characters in it."""
    return not _CONTROL.search(text)


def quoted(text: bytes) -> bytes:
    """A JSON string; bytes that are not UTF-8 become lone surrogates, as Python reads file names."""
    if _PLAIN.fullmatch(text):
        return b'"' + text + b'"'
    return encode_basestring_ascii(os.fsdecode(text)).encode()


def human(size: int) -> str:
    """Bytes in decimal units with three digits: `77.8MB`."""
    value, unit = float(size), 0
    while value >= 1000 and unit < 8:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{('B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB', 'ZB', 'YB')[unit]}"


def mode(value: int) -> str:
    """`-rwxr-xr-x`."""
    return stat.filemode(value)


class Sink:
    """Bytes on their way into a descriptor, which stays the caller's, in large pieces. Call `flush` at the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        self._held.append(data)
        self._size += len(data)
        if self._size >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        view = memoryview(b"".join(self._held))
        while view:
            view = view[os.write(self._fd, view) :]
        self._held, self._size = [], 0
