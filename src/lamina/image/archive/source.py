"""Where an archive comes from: a file, of which parts can be named, or a stream, which is read once and in order."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import BinaryIO, cast

from lamina.image.layers import Layers
from lamina.image.model import InvalidArchive
from lamina.image.tarbytes import compression_of, decompressed
from lamina.linux.pipe import wide_pipe
from lamina.linux.scheduling import take_short_turns
from lamina.snapshot.protocol import Progress, Staged, TarSource
from lamina.worker.incoming import Lender, Loan

_CHUNK = 1 << 20
_HEAD = 6
Given = int | BinaryIO | Lender
"""A descriptor (file, pipe, socket), a binary file, or a request's body."""


class Source:
    """Bytes in order, with a look ahead. What is `given` is the caller's to close, after this, which is a context.

    One thread at a time. What is compressed as a whole comes out inflated.
    """

    def __init__(self, given: Given) -> None:
        self._closing = ExitStack()
        self._lender = given if isinstance(given, Lender) else None
        self._fd, self._file = _open(given)
        self._pending = b""
        self.offset = 0
        self._start = _seekable(self._fd)
        head = self.peek(_HEAD)
        if kind := compression_of(head):
            # A file's position has not moved; of anything else the head was read.
            read = b"" if self._start is not None else head
            if self._lender is not None:  # what is to be inflated here comes through a pipe
                self._file = open(self._closing.enter_context(self._lender.piped()), "rb", buffering=0, closefd=False)
                self._lender = None
            whole = cast(BinaryIO, io.BufferedReader(_Joined(read, self._file), _CHUNK))
            self._file, self._fd, self._start, self._pending = decompressed(whole, kind), -1, None, b""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.__exit__(kind, error, trace)

    @property
    def lends(self) -> bool:
        """Whether `lent` is possible."""
        return self._lender is not None

    @contextmanager
    def lent(self, size: int | None) -> Iterator[Loan]:
        """The connection that the bytes come from, for one job that takes the next `size` of them (None: the rest); left when it has them.

        Raises, on leaving:
            InvalidArchive: the job did not take all of them.
        """
        assert self._lender is not None
        with self._lender.lent(size, self._pending) as loan:
            self._pending = b""
            yield loan
        found = loan.returned()
        if found is None or found.left:
            raise InvalidArchive("the archive ends in the middle")
        self.offset += size or 0

    @property
    def part_fd(self) -> int | None:
        """The descriptor of a file of which `TarSource` can take parts at `position`; None for a stream."""
        return self._fd if self._start is not None else None

    @property
    def position(self) -> int:
        """Where in the file the next byte lies; only where `part_fd` is not None."""
        return (self._start or 0) + self.offset

    def peek(self, size: int) -> bytes:
        """The next bytes without consuming them; fewer at the end."""
        while len(self._pending) < size:
            more = self._read_some(size - len(self._pending))
            if not more:
                break
            self._pending += more
        return self._pending[:size]

    def read(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            InvalidArchive: it ends before.
        """
        parts = []
        left = size
        while left:
            part = self._take(left)
            if not part:
                raise InvalidArchive("the archive ends in the middle")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes. See `read`."""
        if self._start is not None:
            taken = min(size, len(self._pending))
            self._pending = self._pending[taken:]
            self.offset += size
            return
        while size:
            size -= len(self.read(min(size, _CHUNK)))

    def copy(self, target: int, size: int | None) -> None:
        """Write the next `size` bytes (None: all that are left) to the pipe `target`, through the kernel alone where it can.

        Raises:
            InvalidArchive: the source ends before.
            BrokenPipeError: nobody reads the pipe any more.
        """
        left = size
        while left is None or left > 0:
            moved = self._move(target, _CHUNK if left is None else min(left, _CHUNK))
            if not moved:
                if left is None:
                    return
                raise InvalidArchive("the archive ends in the middle")
            left = None if left is None else left - moved

    def _move(self, target: int, size: int) -> int:
        if self._lender is not None and not self._pending:
            moved = self._lender.copy(target, size)
            self.offset += moved
            return moved
        if self._fd >= 0 and not self._pending and self._start is None:
            with suppress(OSError):
                moved = os.splice(self._fd, target, size)
                self.offset += moved
                return moved
        part = self._take(size)
        view = memoryview(part)
        while view:
            view = view[os.write(target, view) :]
        return len(part)

    def _take(self, size: int) -> bytes:
        if self._pending:
            part, self._pending = self._pending[:size], self._pending[size:]
        else:
            part = self._read_some(min(size, _CHUNK))
        self.offset += len(part)
        return part

    def _read_some(self, size: int) -> bytes:
        if self._start is not None:
            return os.pread(self._fd, size, self.position + len(self._pending))
        if self._fd >= 0:
            return os.read(self._fd, size)
        return self._file.read(size) or b""


def stage(
    layers: Layers,
    source: Source,
    size: int | None,
    scratch: str,
    progress: Progress | None = None,
    *,
    gate: threading.Semaphore | None = None,
) -> Callable[[], Staged]:
    """Begin to stage the next `size` bytes of `source` (None: the rest); they are consumed on return.

    The answer waits for the layer; each must be called, also where something else has failed. `gate` as `StageJob`'s.
    """
    job = StageJob(layers, scratch, progress, gate)
    if source.part_fd is not None and size is not None:
        job.start(TarSource(source.part_fd, source.position, size))
        source.skip(size)
        return job.result
    if source.lends:
        return _lend(job, source, size)
    reader, writer = wide_pipe()
    job.start(TarSource(reader), reader)
    end = None if size is None else source.offset + size
    try:
        try:
            source.copy(writer, size)
        except BrokenPipeError:
            job.result()  # nobody reads where the job has failed, a full disk say: its own error says more than what comes next here
            source.skip(0 if end is None else end - source.offset)
    except BaseException:
        os.close(writer)
        writer = -1
        with suppress(Exception):
            job.result()
        raise
    finally:
        if writer >= 0:
            os.close(writer)
    return job.result


def _lend(job: StageJob, source: Source, size: int | None) -> Callable[[], Staged]:
    """Let the job itself read the next `size` bytes of `source`. See `stage`."""
    try:
        with source.lent(size) as loan:
            job.start(TarSource(loan.fileno(), length=size, lent=loan))
            loan.wait()
    except InvalidArchive:
        job.result()  # why it stopped, a full disk say, says more
        raise
    except BaseException:
        with suppress(Exception):
            job.result()
        raise
    return job.result


class StageJob:
    """One stage job in a thread of its own, which only waits for the worker.

    Jobs of one `gate` begin no more at once than it lets in: an archive may have thousands of layers.
    """

    __slots__ = ("_error", "_gate", "_layers", "_progress", "_scratch", "_staged", "_thread")

    def __init__(self, layers: Layers, scratch: str, progress: Progress | None, gate: threading.Semaphore | None = None) -> None:
        self._layers, self._scratch, self._progress = layers, scratch, progress
        self._gate = gate or threading.Semaphore(1)
        self._staged: Staged | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self, source: TarSource, owned: int = -1) -> None:
        """Begin, once the gate lets it in; `owned` is closed when the job ends."""
        self._gate.acquire()
        self._thread = threading.Thread(target=self._run, args=(source, owned), name="stage", daemon=True)
        self._thread.start()

    def result(self) -> Staged:
        """Wait for it; raises what it raised."""
        assert self._thread is not None
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._staged is not None
        return self._staged

    def _run(self, source: TarSource, owned: int) -> None:
        take_short_turns()
        try:
            self._staged = self._layers.stage(source, self._scratch, self._progress)
        except BaseException as error:
            self._error = error
        finally:
            self._gate.release()
            if source.lent is not None:
                source.lent.over()  # whatever failed, and wherever: who lent it waits
            if owned >= 0:
                os.close(owned)


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of the file."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._head[: len(view)] or self._file.read(len(view)) or b""
        self._head = self._head[len(view) :]
        view[: len(data)] = data
        return len(data)


def _open(given: Given) -> tuple[int, BinaryIO]:
    """The descriptor to read from (-1: only the file can be read) and a file over it that does not close it."""
    if isinstance(given, int):
        return given, open(given, "rb", buffering=0, closefd=False)
    if isinstance(given, io.FileIO | io.BufferedReader) and stat.S_ISREG(os.fstat(given.fileno()).st_mode):
        os.lseek(given.fileno(), given.tell(), os.SEEK_SET)
        return given.fileno(), given
    return -1, cast(BinaryIO, given)


def _seekable(fd: int) -> int | None:
    """Where the next byte of a regular file lies; None for anything else."""
    if fd < 0 or not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    return os.lseek(fd, 0, os.SEEK_CUR)
