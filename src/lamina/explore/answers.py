"""Answers as bytes: made by a worker once, kept in files, given as descriptors.

A question is a job and its parameters; where these name layers and nothing that changes, so does the answer, and it is kept
until newer ones need its room. The directory may be emptied at any time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lamina.linux.channel import encode
from lamina.linux.removing import discard_tree
from lamina.worker import Workers

_VERSION = 2
"""Part of every key: raise it when the answer to a question changes, so that none of an older Lamina is given."""

LIMIT = 256 << 20
_SPARED = 0.75
_COPY = 1 << 24


def forget_other_boots(directory: str, boot: str) -> None:
    """Empty a directory of what can be made anew, unless this boot of the machine has written there.

    No answer waits for the disk, so a crash of the machine may have cut what was written last, and nothing else would tell.
    """
    note = os.path.join(directory, "boot")
    with suppress(FileNotFoundError), open(note, encoding="utf-8", errors="replace") as file:
        if file.read() == boot:
            return
    discard_tree(directory)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with suppress(OSError), open(note, "w", encoding="utf-8") as file:
        file.write(boot)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: `size` bytes of the descriptor `fd`, which the caller closes."""

    fd: int
    size: int

    def read(self) -> bytes:
        """All of it; closes the descriptor."""
        with open(self.fd, "rb", buffering=0) as file:
            file.seek(0)  # the worker that wrote it shares its position
            return file.read()


class Answers:
    """Asks workers, and keeps what they answer below `directory`, `limit` bytes at most. Thread-safe."""

    def __init__(self, directory: str, workers: Workers, limit: int = LIMIT) -> None:
        self._directory, self._workers, self._limit = directory, workers, limit
        self._lock = threading.Lock()
        self._asking: dict[str, tuple[threading.Lock, int]] = {}
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._total = sum(size for _, size, _ in self._kept(clean=True))

    def ask(self, job: str, params: Mapping[str, Any], *, keep: bool = True) -> Answer:
        """The answer of a job that writes it into its first descriptor. Two that ask the same at once get one answer.

        Raises:
            LaminaError: what the job raised.
        """
        if not keep:
            return self._made(job, params)
        key = hashlib.sha256(encode((_VERSION, job, params))).hexdigest()
        with self._alone(key):
            found = self._open(key)
            if found is None:
                found = self._made(job, params)
                self._keep(key, found)
            return found

    def _open(self, key: str) -> Answer | None:
        path = os.path.join(self._directory, key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        os.utime(fd)  # the least recently used go first
        return Answer(fd, os.fstat(fd).st_size)

    def _made(self, job: str, params: Mapping[str, Any]) -> Answer:
        fd = os.memfd_create("answer", os.MFD_CLOEXEC)
        try:
            self._workers.run(job, params, [fd])
            return Answer(fd, os.fstat(fd).st_size)
        except BaseException:
            os.close(fd)
            raise

    def _keep(self, key: str, answer: Answer) -> None:
        """Store a copy. A full disk keeps nobody from the answer itself."""
        if answer.size > self._limit // 2:
            return
        path = os.path.join(self._directory, key)
        beside = f"{path}.{os.urandom(4).hex()}.tmp"
        with suppress(OSError):
            try:
                with open(beside, "xb", buffering=0) as file:
                    done = 0
                    while done < answer.size:
                        done += os.sendfile(file.fileno(), answer.fd, done, min(answer.size - done, _COPY))
                os.rename(beside, path)
            except BaseException:
                os.unlink(beside)
                raise
            with self._lock:
                self._total += answer.size
                if self._total > self._limit:
                    self._trim()

    def _trim(self) -> None:
        kept = sorted(self._kept())
        self._total = sum(size for _, size, _ in kept)
        for _, size, path in kept:
            if self._total <= self._limit * _SPARED:
                return
            with suppress(FileNotFoundError):
                os.unlink(path)
            self._total -= size

    def _kept(self, *, clean: bool = False) -> Iterator[tuple[float, int, str]]:
        """Time of last use, size and path of each file; `clean` removes what a killed daemon was writing."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if clean and entry.name.endswith(".tmp"):
                    os.unlink(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_mtime, status.st_size, entry.path

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """One at a time for each key."""
        with self._lock:
            lock, waiting = self._asking.get(key, (threading.Lock(), 0))
            self._asking[key] = (lock, waiting + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._asking[key]
                if waiting == 1:
                    del self._asking[key]
                else:
                    self._asking[key] = (lock, waiting - 1)
