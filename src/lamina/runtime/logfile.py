"""Docker's json-file log, as Docker writes it: one JSON object per line of output, rendered a chunk at a time.

    {"log":"hello\\n","stream":"stdout","time":"2024-05-01T12:00:00.123456789Z"}

A line longer than 16 KiB becomes several entries, all but the last without the newline. Bytes that are not
UTF-8 become U+FFFD, one each, as in Go. The file is rotated (NAME, NAME.1, NAME.2 …) when it has reached its size.
What goes elsewhere (syslog, journald, fluentd) is the same lines, in a pipe: see container/shipper.
"""

from __future__ import annotations

import _json
import fcntl
import os
import select
import time
import zlib

from lamina.linux.channel import BadMessage, decode, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE_LIMIT = 16 << 10
GZIP_START = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff"
"""The header of a compressed part, up to its comment (RFC 1952, 2.3: FLG.FCOMMENT)."""
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


def render(stream: str, data: bytes, now_ns: int, attributes: str = "") -> bytes:
    """Entries for `data`, which ends with a newline or is part of one long line; all get the same time. `attributes` is JSON between
    stream and time."""
    if not data:
        return b""
    start, end = '{"log":"', f'","stream":"{stream}"{attributes},"time":"{timestamp(now_ns)}"}}\n'
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
    """One container's log: a file, or a pipe to whatever sends it elsewhere, or both.

    `path` may be "". `max_size` in bytes, 0 for no limit; `max_file` files are kept, the current one included; with `compress` the older
    ones are NAME.1.gz and so on. `attributes` is JSON that each entry has more. What the pipe does not take waits here: up to `buffer`
    bytes, then the log is `full`, or, if `lossy`, output is dropped for the pipe that would be more than `buffer` bytes with what waits.
    """

    __slots__ = (
        "_attributes",
        "_buffer",
        "_compress",
        "_fd",
        "_held",
        "_lossy",
        "_max_file",
        "_max_size",
        "_path",
        "_pending",
        "_rest",
        "_size",
        "pipe",
    )

    def __init__(
        self,
        path: str,
        max_size: int = 0,
        max_file: int = 1,
        *,
        compress: bool = False,
        attributes: str = "",
        lossy: bool = False,
        buffer: int = 1 << 20,
        pipe: int = -1,
    ) -> None:
        self._path, self._max_size, self._max_file = path, max_size, max(max_file, 1)
        self._compress, self._attributes, self._lossy, self._buffer = compress, attributes, lossy, buffer
        self._rest: dict[str, bytes] = {}
        self._pending, self._held = bytearray(), 0
        self.pipe = pipe
        if pipe >= 0:
            os.set_blocking(pipe, False)
        self._fd, self._size = -1, 0
        if path:
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
        """Log what has no newline, and close the file. What waits for the pipe still does: see `hand_over`."""
        for stream, rest in self._rest.items():
            if rest:
                self._entry(stream, rest)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- the pipe

    @property
    def waiting(self) -> bool:
        """Whether something waits for the pipe."""
        return self.pipe >= 0 and bool(self._pending)

    @property
    def full(self) -> bool:
        """Whether the process must wait."""
        return not self._lossy and len(self._pending) >= self._buffer

    def flush(self) -> None:
        """Give the pipe what it takes now; where nobody reads it, it is closed."""
        try:
            while self._pending and self.pipe >= 0:
                before = len(self._pending)
                del self._pending[: os.write(self.pipe, self._pending)]
                self._held = self._held * len(self._pending) // before
        except BlockingIOError:
            return
        except OSError:
            self._pending.clear()
            self._close_pipe()

    def hand_over(self, timeout: float) -> None:
        """At the end: wait at most `timeout` seconds for what waits to be taken, and close the pipe."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        while self.waiting and time.monotonic() < deadline:
            poll.register(self.pipe, select.POLLOUT)
            poll.poll(1000)
            self.flush()
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def _send(self, rendered: bytes, size: int) -> None:
        """`size` is the output's without what entries have around it: of that Docker takes `buffer` bytes, and what is alone in any case."""
        if self.pipe < 0 or (self._lossy and self._pending and self._held + size > self._buffer):
            return
        self._pending += rendered
        self._held += size
        self.flush()

    # --- the file

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """Stream and bytes of everything logged so far, when it is read to its end: oldest first, the unfinished lines last.

        What was compressed is left out: whoever attaches wants the end.
        """
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
        rendered = render(stream, data, time.time_ns(), self._attributes)
        if self._fd >= 0 and self._max_size and self._size + len(rendered) > self._max_size + (self._max_size >> 3):
            # A file is to be about its size, however much came at once.
            middle = data.find(b"\n", len(data) >> 1) + 1
            if 0 < middle < len(data):
                self._entry(stream, data[:middle])
                self._entry(stream, data[middle:])
                return
        self._send(rendered, len(data))
        if not self._path:
            return
        if self._fd < 0:  # there was no room for the next part
            self._open()
        if self._max_size and self._size >= self._max_size:
            self._rotate()
        write_all(self._fd, rendered)
        self._size += len(rendered)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        """NAME becomes NAME.1 and so on; the oldest goes. Waits for an earlier part that is being compressed, as Docker does."""
        # Whatever fails here: the number may be another descriptor's by then, a client's say, and the lock is not to stay.
        fd, self._fd = self._fd, -1
        os.close(fd)
        lock = self._lock() if self._compress else -1
        try:
            names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._max_file))]
            for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
                _shift(newer, older)
            if len(names) == 1:
                os.unlink(self._path)
            self._open()
            if lock >= 0:
                compress(names[1], lock)
        finally:
            if lock >= 0:
                os.close(lock)

    def _lock(self) -> int:
        """A descriptor that nobody who renames or compresses parts has meanwhile; a killed monitor's compressor may still run."""
        lock = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock


def _shift(newer: str, older: str) -> None:
    """Rename a part, compressed or not; the older one that was there goes, in whichever form."""
    for end, other in (("", ".gz"), (".gz", "")):
        try:
            os.rename(f"{newer}{end}", f"{older}{end}")
        except FileNotFoundError:
            continue
        try:
            os.unlink(f"{older}{other}")
        except FileNotFoundError:
            continue


def compress(path: str, lock: int) -> None:
    """Let a process of its own replace a part by PATH.gz: the container is not to wait for it. It holds `lock` until it is done.

    The gzip header's comment is the inode of what was compressed, so that a reader who has that open still knows where it stands.
    """
    try:
        pid = os.fork()
    except OSError:
        return  # there is no room for a process: it stays as it is
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        if os.fork() == 0:
            # What clients and the container have open must not stay open for this.
            os.closerange(0, lock)
            os.closerange(lock + 1, 1 << 16)
            os.nice(10)
            _compress(path)
    finally:
        os._exit(0)


def _compress(path: str) -> None:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(f"{path}.gz.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum = size = 0
    write_all(target, GZIP_START + str(os.fstat(source).st_ino).encode() + b"\0")
    while data := os.read(source, 1 << 18):
        checksum, size = zlib.crc32(data, checksum), size + len(data)
        write_all(target, packer.compress(data))
    write_all(target, packer.flush() + checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
    os.rename(f"{path}.gz.new", f"{path}.gz")
    os.unlink(path)
