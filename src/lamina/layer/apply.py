"""From a stream of tar bytes to a tree, in one pass: parse, hash, and write them, as they are or taken apart."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from isal import isal_zlib

from lamina.errors import Exhausted
from lamina.layer.compression import zstd_deflater
from lamina.layer.contents import Contents
from lamina.layer.errors import ArchiveTooLarge, InvalidArchive
from lamina.layer.stream import Behind
from lamina.layer.tar.parser import Parser
from lamina.layer.tree import Limits, Tree
from lamina.linux.uncached import Chunk, UncachedWriter

Write = Callable[[Chunk], object]


@dataclass(frozen=True, slots=True)
class Applied:
    """What one pass over a tar gave. `diff_id` is in hex; sizes are bytes; `crc32` is the tar's, as gzip has it (RFC 1952, 8)."""

    tree: Tree
    diff_id: str
    tar_size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A compressed copy of the tar. `digest` is in hex, of the compressed bytes."""

    digest: str
    size: int


def apply(
    incoming: Iterable[bytes], limits: Limits, *, keep: Write | None = None, contents: Contents | None = None, copy: ZstdCopy | None = None
) -> Applied:
    """Parse and hash the tar that comes in. Its bytes go to `keep` as they are, to `contents`, compressed to `copy`.

    Raises:
        InvalidArchive: it breaks its format or does what no layer may.
        ArchiveTooLarge: it has too many entries, or is too large.
        OSError: it cannot be written.
    """
    parser, tree, digest = Parser(), Tree(limits), hashlib.sha256()
    add, size, crc32 = tree.add, 0, 0

    def summed(chunk: Chunk) -> None:
        nonlocal crc32
        digest.update(chunk)
        crc32 = isal_zlib.crc32(chunk, crc32)

    with ExitStack() as threads:
        takers = [threads.enter_context(Behind(summed))]
        if keep is not None:
            takers.append(threads.enter_context(Behind(keep)))
        if copy is not None:
            takers.append(threads.enter_context(Behind(copy.write)))
        for chunk in incoming:
            for taker in takers:
                taker.put(chunk)
            for member in parser.feed(chunk):
                node = add(member)
                if contents is not None and node is not None:
                    contents.expect(member, node)
            if contents is not None:
                contents.take(chunk)
            size += len(chunk)
            if size > limits.tar_size:
                raise ArchiveTooLarge(f"archive unpacks to more than {limits.tar_size} bytes")
        parser.finish()
    tree.finish()
    if contents is not None:
        contents.finish(tree.root)
    return Applied(tree, digest.hexdigest(), size, crc32)


class ZstdCopy:
    """Writes a stream to a file as zstd, level 1, compressed by `threads` beside the caller."""

    def __init__(self, fd: int, threads: int = 2) -> None:
        # Only what mends a damaged tree will read it.
        self._file = UncachedWriter(fd)
        self._deflater = zstd_deflater(1, threads)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, chunk: Chunk) -> None:
        """Take the next bytes of the stream."""
        self._keep(self._deflater.compress(chunk))

    def finish(self) -> Copy:
        """End the stream."""
        self._keep(self._deflater.flush())
        self._file.finish()
        return Copy(self._digest.hexdigest(), self._size)

    def _keep(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._size += len(data)
            self._file.write(data)


class Scratch:
    """Temporary files and directories below one directory; what was not kept is deleted at the end."""

    def __init__(self, directory: str) -> None:
        self.path = directory
        self._made: list[str] = []
        self._fds: list[int] = []

    def file(self, kind: str) -> tuple[int, str]:
        """A new file, open for reading and writing until the end, and its path."""
        fd, path = tempfile.mkstemp(prefix=f"{kind}-", dir=self.path)
        os.fchmod(fd, 0o644)
        self._made.append(path)
        self._fds.append(fd)
        return fd, path

    def directory(self, kind: str) -> str:
        """A new directory."""
        path = tempfile.mkdtemp(prefix=f"{kind}-", dir=self.path)
        self._made.append(path)
        return path

    def close(self, remove: Callable[[str], None], *, keep: tuple[str, ...] = ()) -> None:
        """Close all files and delete what is not in `keep`."""
        for fd in self._fds:
            os.close(fd)
        for path in self._made:
            if path not in keep:
                remove(path)


@contextmanager
def disk_errors(directory: str) -> Iterator[None]:
    """Translate what a full disk, a quota or the file system's own limits raise.

    Raises:
        Exhausted, InvalidArchive: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Exhausted(f"no space left on the disk that holds {directory}") from error
        if error.errno in (errno.EFBIG, errno.ENAMETOOLONG, errno.E2BIG):
            raise InvalidArchive(f"archive holds what the file system below {directory} cannot: {error.strerror}") from error
        raise
