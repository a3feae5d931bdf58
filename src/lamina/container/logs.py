"""Reading a container's log: the last lines without reading the rest, following without polling, over rotation."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from lamina.container.inotify import IN_ATTRIB, IN_CREATE, IN_DELETE_SELF, IN_MODIFY, IN_MOVE_SELF, IN_MOVED_TO, Watch
from lamina.container.live import Live
from lamina.container.logdrivers import log_plan
from lamina.container.loglines import render
from lamina.container.model import ALIVE, State
from lamina.container.requests import LogQuery
from lamina.errors import InvalidArgument, Unsupported
from lamina.runtime.logfile import GZIP_START

_BLOCK = 1 << 17
_IDLE = 1.0
"""Seconds without a line after which a follower yields b"", so that its caller looks whether the client is still there."""


class LogNotReadable(Unsupported):
    """The container's log driver keeps nothing that could be read."""


class Logs:
    """Reads logs. Thread-safe: a reader shares nothing with others."""

    def read(self, live: Live, query: LogQuery) -> Iterator[bytes]:
        """See Containers.logs. Raises at once, not at the first chunk."""
        if not query.stdout and not query.stderr:
            raise InvalidArgument("Bad parameters: you must choose at least one stream")
        path = log_plan(live.container).path
        if not path:
            raise LogNotReadable("configured logging driver does not support reading")
        return self._chunks(live, path, query)

    def _chunks(self, live: Live, path: str, query: LogQuery) -> Iterator[bytes]:
        reader = Reader(path)
        try:
            reader.seek_tail(query.tail)
            yield b""
            with closing(Watch()) as watch:
                # Who goes on over restarts looks at the state, once a second: for them an exit is not the end.
                forget = _nothing if query.restarts else live.waiters.call_on_exit(watch.stop)
                try:
                    yield from self._follow(live, reader, query, watch)
                finally:
                    forget()
        finally:
            reader.close()

    def _follow(self, live: Live, reader: Reader, query: LogQuery, watch: Watch) -> Iterator[bytes]:
        framed = not live.container.tty
        watched: int | None = None
        while True:
            ended = watch.stopped or not _may_write(live, restarts=query.restarts)
            if query.follow and not ended and (watched is None or watched != reader.inode):
                watched = _watch(watch, reader)
                # Between reading and watching lines may have come: they are read now, what comes later wakes the wait.
            for lines in reader.lines():
                rendered = render(lines, query, framed=framed)
                if rendered.data:
                    yield rendered.data
                if rendered.over:
                    return
            if not query.follow or ended:
                return
            if not watch.wait(_IDLE):
                yield b""


def _may_write(live: Live, *, restarts: bool) -> bool:
    """Whether lines may still come. As with Docker, nobody waits for a run that has not begun, but who asks to for the next by policy."""
    if not restarts:
        return live.state.status in ALIVE and not live.removing
    with live.lock:  # not between an exit and what follows from it
        return live.state.status in (*ALIVE, State.RESTARTING) and not live.removing


def _nothing() -> None:
    """There is nothing to take back."""


def _watch(watch: Watch, reader: Reader) -> int | None:
    """Watch the file, or the folder until it is there; the inode that is watched. Nothing where the container has just been removed."""
    try:
        watch.add(reader.path, IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB)
        return reader.inode
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            watch.add(os.path.dirname(reader.path), IN_CREATE | IN_MOVED_TO)
        return None


class Reader:
    """Goes through a log and its rotated parts (`path.2`, `path.1`, `path`), oldest first, once. Compressed ones (`path.2.gz`) are read
    from a file without a name. A part is known by its inode, which nobody else gets while it is open here: the compressed file's own
    where that was opened, otherwise the plain file's, which the compressed one tells."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._rest = b""
        self._file: int = -1
        self._waiting: list[int] = []
        self._opened = False
        self._compressed: dict[int, int] = {}

    @property
    def inode(self) -> int | None:
        """Of the file that is read now."""
        return self._inode(self._file) if self._file >= 0 else None

    def _inode(self, fd: int) -> int:
        """Below zero for a compressed part."""
        return -os.fstat(self._compressed[fd]).st_ino if fd in self._compressed else os.fstat(fd).st_ino

    def seek_tail(self, count: int | None) -> None:
        """Open the parts, and stand where the last `count` lines begin (None: at the very beginning)."""
        parts = self._open_parts()
        self._opened = bool(parts)
        if count is not None:
            parts = self._standing_at_tail(parts, count)
        self._waiting = parts
        self._next_part()

    def lines(self) -> Iterator[list[bytes]]:
        """Whole lines, in lists, until what is written now is read."""
        if not self._opened:
            self.seek_tail(None)
        while self._file >= 0:
            data = os.read(self._file, _BLOCK)
            if data:
                *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
                yield lines
            elif not self._advance():
                return

    def close(self) -> None:
        """Close what is open."""
        for fd in (self._file, *self._waiting):
            if fd >= 0:
                self._close(fd)
        self._file, self._waiting = -1, []

    def _close(self, fd: int) -> None:
        if fd in self._compressed:
            os.close(self._compressed.pop(fd))
        os.close(fd)

    def _advance(self) -> bool:
        """At the end of a part: go to the next one; False: this is the current one, and there is nothing more now."""
        if not self._waiting:
            newer = self._successor(self._file)
            if newer is None:
                return self._cut()
            if os.fstat(self._file).st_size > os.lseek(self._file, 0, os.SEEK_CUR):
                self._close(newer)  # lines came before it was rotated: they are read first
                return True
            self._waiting = [newer]
        self._next_part()
        return True

    def _cut(self) -> bool:
        """Whether somebody cut the part that is read (`truncate -s 0`): as with Docker, what it holds now is read from its beginning."""
        if os.fstat(self._file).st_size >= os.lseek(self._file, 0, os.SEEK_CUR):
            return False
        os.lseek(self._file, 0, os.SEEK_SET)
        self._rest = b""
        return True

    def _next_part(self) -> None:
        if self._file >= 0:
            self._close(self._file)
        self._rest = b""
        self._file = self._waiting.pop(0) if self._waiting else -1

    def _open_parts(self) -> list[int]:
        """Descriptors of all parts, oldest first."""
        parts: list[int] = []
        part = self._oldest()
        while part is not None:
            parts.append(part)
            part = self._successor(part)
        return parts

    def _standing_at_tail(self, parts: list[int], count: int) -> list[int]:
        """The parts that hold the last `count` lines, the first of them positioned; the others are closed."""
        kept: list[int] = []
        for fd in reversed(parts):
            if kept and count <= 0:
                self._close(fd)
                continue
            found = tail_offset(lambda size, offset, fd=fd: os.pread(fd, size, offset), os.fstat(fd).st_size, count)  # type: ignore[misc]
            os.lseek(fd, found[0], os.SEEK_SET)
            count -= found[1]
            kept.insert(0, fd)
        return kept

    def _oldest(self) -> int | None:
        """The part with the highest number; None where there is no log yet."""
        number = 0
        # While the parts are renamed, the oldest first, there is one gap.
        while self._exists(number + 1) or self._exists(number + 2):
            number += 1
        for tried in range(number + 1, -1, -1):
            try:
                return self._open(tried)
            except FileNotFoundError:
                continue
        return None

    def _successor(self, part: int) -> int | None:
        """The part that was begun after this one; None where this is the current one.

        Rotation renames while we look, the oldest part first: where this part still has its number after its neighbour was opened, the
        neighbour was the right one.
        """
        inode = self._inode(part)
        while True:
            number = self._number(inode)
            if number == 0:
                return None
            if number is None:  # rotated away: what is left of the log begins with the oldest part
                return self._oldest()
            try:
                fd = self._open(number - 1)
            except FileNotFoundError:
                if number == 1:
                    return None  # the new file is about to be made
                continue
            if self._has(number, inode):
                return fd
            self._close(fd)

    def _number(self, inode: int) -> int | None:
        """Which number a part has now."""
        number = 0
        while not self._has(number, inode):
            if not self._exists(number) and not self._exists(number + 1) and number:
                return None
            number += 1
        return number

    def _has(self, number: int, inode: int) -> bool:
        packed = f"{self._part(number)}.gz"
        try:
            if inode < 0:
                return os.stat(packed).st_ino == -inode
            return os.stat(self._part(number)).st_ino == inode
        except FileNotFoundError:
            return number > 0 and inode > 0 and compressed_inode(packed) == inode

    def _exists(self, number: int) -> bool:
        return os.path.exists(self._part(number)) or (number > 0 and os.path.exists(f"{self._part(number)}.gz"))

    def _open(self, number: int) -> int:
        """A descriptor of a part. Raises FileNotFoundError."""
        try:
            return os.open(self._part(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if number == 0:
                raise
        with open(f"{self._part(number)}.gz", "rb") as packed, tempfile.TemporaryFile(dir=os.path.dirname(self.path)) as plain:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            while data := packed.read(_BLOCK):
                plain.write(unpacker.decompress(data))
            plain.flush()
            fd = os.dup(plain.fileno())
            self._compressed[fd] = os.dup(packed.fileno())
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def _part(self, number: int) -> str:
        return f"{self.path}.{number}" if number else self.path


def compressed_inode(path: str) -> int:
    """The inode of what was compressed to this; 0 where it is not there."""
    try:
        with open(path, "rb") as file:
            words = file.read(len(GZIP_START) + 24)[len(GZIP_START) :].partition(b"\0")[0]
    except FileNotFoundError:
        return 0
    return int(words) if words.isdigit() else 0


def tail_offset(pread: Callable[[int, int], bytes], size: int, count: int) -> tuple[int, int]:
    """Where the last `count` lines begin in a file of `size` bytes, and how many lines there are from there. Reads from the end.

    A last line without its newline counts as a line.
    """
    if count <= 0 or size == 0:
        return size, 0
    found = 0 if pread(1, size - 1) == b"\n" else 1
    wanted = count + (1 if found == 0 else 0)
    position, seen = size, 0
    while position > 0:
        step = min(_BLOCK, position)
        block = pread(step, position - step)
        newlines = block.count(b"\n")
        if seen + newlines >= wanted:
            end = len(block)
            for _ in range(wanted - seen):
                end = block.rfind(b"\n", 0, end)
            return position - step + end + 1, count
        seen += newlines
        position -= step
    return 0, seen + found
