"""Reading a layer's tar once, with hands for two processors: one thread inflates, one hashes and writes."""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from lamina.layer import compression
from lamina.layer.errors import ArchiveTooLarge, TruncatedArchive
from lamina.layer.staged import TarSource
from lamina.linux.pipe import widen
from lamina.linux.uncached import Chunk

CHUNK = 1 << 20
_AHEAD = 6

Report = Callable[[int], None]


def chunks(source: TarSource) -> Iterator[bytes]:
    """The bytes of a source as they come, at most `CHUNK` at once.

    Raises:
        TruncatedArchive: there are fewer than it says.
    """
    left = source.length
    offset = source.offset
    seekable = stat.S_ISREG(os.fstat(source.fd).st_mode)
    if not seekable:
        widen(source.fd)
    while left is None or left > 0:
        want = CHUNK if left is None else min(CHUNK, left)
        data = os.pread(source.fd, want, offset) if seekable else os.read(source.fd, want)
        if not data:
            break
        offset += len(data)
        if left is not None:
            left -= len(data)
        yield data
    if left:
        raise TruncatedArchive(f"archive is truncated: {left} bytes are missing")


def exactly(pieces: Iterable[bytes], length: int) -> Iterator[bytes]:
    """The same pieces, which have `length` bytes together.

    Raises:
        TruncatedArchive: they have fewer.
    """
    left = length
    for piece in pieces:
        left -= len(piece)
        yield piece
    if left:
        raise TruncatedArchive(f"archive is truncated: {left} bytes are missing")


def even(pieces: Iterable[Chunk]) -> Iterator[Chunk]:
    """The same bytes, cut after each megabyte; each is copied once."""
    held: list[Chunk | memoryview] = []
    size = 0
    for piece in pieces:
        if not size and len(piece) == CHUNK:
            yield piece
            continue
        rest: Chunk | memoryview = piece
        while size + len(rest) >= CHUNK:
            view = memoryview(rest)
            yield b"".join([*held, view[: CHUNK - size]])
            held, rest, size = [], view[CHUNK - size :], 0
        if rest:
            held.append(rest)
            size += len(rest)
    if held:
        yield b"".join(held)


@dataclass(slots=True)
class Inflated:
    """A source's plain bytes; the fields are right when `__iter__` is exhausted. `incoming` are its bytes as they come."""

    source: TarSource
    incoming: Iterator[bytes]
    report: Report
    tar_limit: int
    compression: str = ""
    digest: str = ""
    size: int = 0
    tar_size: int = 0

    def __iter__(self) -> Iterator[bytes]:
        """The plain bytes.

        Raises:
            InvalidArchive: the compressed stream is damaged or truncated.
            ArchiveTooLarge: there are more than `tar_limit`.
        """
        incoming = self.incoming
        first = _head(incoming)
        self.compression = compression.detect_layer(first) if self.source.compression is None else self.source.compression
        hashed = hashlib.sha256() if self.compression and not self.source.verified else None
        inflater = compression.inflater(self.compression)
        for data in _chain(first, incoming):
            self.size += len(data)
            if hashed is not None:
                hashed.update(data)
            for piece in inflater.feed(data):
                self.tar_size += len(piece)
                if self.tar_size > self.tar_limit:
                    raise ArchiveTooLarge(f"archive unpacks to more than {self.tar_limit} bytes")
                yield piece
            self.report(self.size)
        inflater.finish()
        self.digest = hashed.hexdigest() if hashed is not None else ""


def _head(incoming: Iterator[bytes]) -> bytes:
    """Enough of a stream's start to tell what it is; a pipe may give it in small pieces."""
    head = b""
    while len(head) < 6 and (data := next(incoming, b"")):
        head += data
    return head


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


class Behind:
    """Hands each chunk to `take` in a thread, in order, few at a time. In a `with`: leaving it waits for the last.

    What `take` raises comes out of `put` or at the end.
    """

    def __init__(self, take: Callable[[Chunk], object]) -> None:
        self._take = take
        self._queue: queue.Queue[Chunk | None] = queue.Queue(_AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def put(self, chunk: Chunk) -> None:
        """Hand over one chunk; waits while too many are under way."""
        if self._error is not None:
            raise self._error
        self._queue.put(chunk)

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._take(chunk)
                except BaseException as error:
                    self._error = error


def ahead(incoming: Iterable[bytes], interrupt: Callable[[], object] = lambda: None) -> Generator[bytes, None, None]:
    """The same chunks, made a few ahead in a thread. What it raises comes out here; leaving early ends it: `interrupt` makes it raise
    where it waits for the next chunk."""
    made: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def run() -> None:
        last: BaseException | None = None
        try:
            for chunk in incoming:
                if stop.is_set():
                    return
                made.put(chunk)
        except BaseException as error:
            last = error
        made.put(last)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while isinstance(item := made.get(), bytes):
            yield item
        if item is not None:
            raise item
    finally:
        stop.set()
        interrupt()
        while thread.is_alive():
            try:
                made.get(timeout=0.01)
            except queue.Empty:
                pass
