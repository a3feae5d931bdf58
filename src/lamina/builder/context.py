"""The build context: received once, then read by the workers that copy from it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from lamina.builder.files import DirectoryFiles, EmptyFiles, FetchedFile, Files, InlineFiles, Item, TarFiles, resolve
from lamina.builder.layerfiles import opened_layers
from lamina.builder.request import Context
from lamina.builder.tarindex import IndexedTar, write_index
from lamina.dockerfile.ignore import Ignore
from lamina.errors import InvalidArgument
from lamina.layer.errors import ArchiveTooLarge, InvalidArchive
from lamina.linux.holes import HollowWriter
from lamina.worker.workers import Report, Workers

DOCUMENT_LIMIT = 16 << 20
"""The largest Dockerfile and .dockerignore read, in bytes."""
_RATIO, _SMALL = 400, 1 << 30


class InvalidContext(InvalidArgument):
    """The build context cannot be used."""


@dataclass(frozen=True, slots=True)
class Received:
    """A context that can be read again and again: `directory` or `tar`, or neither for an empty context.

    `time`, if given, is that of all files of a checkout, in nanoseconds. `dockerfile` names the Dockerfile where the context does.
    """

    directory: str = ""
    tar: str = ""
    time: int | None = None
    dockerfile: str = ""

    def describe(self, ignore: str = "") -> dict[str, Any]:
        """For a job's parameters; `opened` makes Files of it."""
        described = {
            "kind": "directory" if self.directory else "tar" if self.tar else "empty",
            "path": self.directory or self.tar,
            "ignore": ignore,
        }
        return described if self.time is None else {**described, "time": self.time, "hide_git": True}


def receive(
    context: Context, scratch: str, workers: Workers, wanted: Sequence[str] = (), alive: Callable[[dict[str, Any]], None] | None = None
) -> tuple[Received, dict[str, bytes]]:
    """Have the context at hand, a tar as one plain file in `scratch`; and the small files `wanted` of it, those that are there.

    Links to these files are followed inside of the context. `alive` is called now and then; what it raises ends it.

    Raises:
        InvalidContext: there is no such directory, or a wanted file is too large.
        InvalidArchive: what came is not a tar, or one that reaches out.
        ArchiveTooLarge: it unpacks to more than any honest context.
    """
    received = Received(tar=os.path.join(scratch, "context.tar")) if context.fd is not None else Received()
    if context.tar:
        received = Received(tar=context.tar)
    if context.directory is not None:
        if not os.path.isdir(context.directory):
            raise InvalidContext(f"build context is not a directory: {context.directory}")
        received = Received(directory=os.path.abspath(context.directory))
    return received, documents(received, workers, wanted, alive, [] if context.fd is None else [context.fd])


def documents(
    received: Received,
    workers: Workers,
    wanted: Sequence[str],
    alive: Callable[[dict[str, Any]], None] | None = None,
    fds: Sequence[int] = (),
) -> dict[str, bytes]:
    """The small files `wanted` of a context, those that are there; its tar is taken from `fds` first, if one is given."""
    if not wanted and not fds:
        return {}
    answer = workers.run("lamina.builder.context:receive_job", {"files": received.describe(), "wanted": list(wanted)}, fds, alive)
    return {name: text.encode("latin-1") for name, text in answer.items()}


class Heartbeat:
    """Lets the caller of a long job know twice a second that it goes on; a caller that has had enough ends it then."""

    def __init__(self, report: Report) -> None:
        self._report, self._last = report, time.monotonic()

    def __call__(self) -> None:
        """Call it often."""
        if time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            self._report({})


def receive_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Worker: write the tar that comes from the descriptor, if one does, and read what is wanted, as latin-1: a character a byte."""
    beat = Heartbeat(report)
    if fds:
        with os.fdopen(os.dup(fds[0]), "rb") as source, open(params["files"]["path"], "wb") as target:
            file = HollowWriter(target.fileno())
            for chunk in unpacked(source):
                file.write(chunk)
                beat()
            file.finish()
    with opened(params["files"]) as files:
        found = {name: _document(files, name) for name in params["wanted"]}
    return {name: data.decode("latin-1") for name, data in found.items() if data is not None}


def _document(files: Files, name: str) -> bytes | None:
    path = resolve(files, os.fsencode(name))
    item = files.lookup(path)
    if item is None or not item.is_file:
        return None
    if item.size > DOCUMENT_LIMIT:
        raise InvalidContext(f"{name} is larger than {DOCUMENT_LIMIT} bytes")
    return b"".join(files.read(path, item))


@contextmanager
def opened(description: Mapping[str, Any]) -> Iterator[Files]:
    """The files that a job's parameters describe (`Received.describe`, `LayerFiles.describe`), until the context is left."""
    kind, path, ignore = description["kind"], description.get("path", ""), description.get("ignore", "")
    with ExitStack() as stack:
        files: Files = EmptyFiles()
        if kind == "layers":
            files = stack.enter_context(opened_layers(description))
        elif kind == "file":
            files = FetchedFile(os.fsencode(description["name"]), path, description["time"])
        elif kind == "inline":
            files = InlineFiles({os.fsencode(name): text.encode() for name, text in description["documents"].items()}, description["time"])
        elif kind == "directory" or (kind == "tar" and os.path.getsize(path)):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            files = DirectoryFiles(fd) if kind == "directory" else _tar(fd, path)
        if "time" in description and kind == "directory":
            files = SteadyFiles(files, description["time"], hidden=(b".git",) if description.get("hide_git") else ())
        yield IgnoringFiles(files, Ignore.parse(ignore)) if ignore else files


def _tar(fd: int, path: str) -> Files:
    """The files of the context's tar; the first to look at them writes an index for all who come later."""
    index = f"{path}.index"
    known = IndexedTar.open(fd, index)
    if known is not None:
        return known
    scanned = TarFiles.scan(fd)
    write_index(scanned.root, index)
    return scanned


class SteadyFiles:
    """Files of a checkout: all of root's and of one time, since neither owner nor time of a file there means anything.

    `hidden` are names at the top that are not shown.
    """

    def __init__(self, files: Files, time_ns: int, hidden: Sequence[bytes] = ()) -> None:
        self._files, self._time, self._hidden = files, time_ns, frozenset(hidden)

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        item = None if path.partition(b"/")[0] in self._hidden else self._files.lookup(path)
        return item._replace(uid=0, gid=0, mtime_ns=self._time) if item is not None else None

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        return [name for name in self._files.names(path) if path or name not in self._hidden]

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        return self._files.read(path, item)


class IgnoringFiles:
    """Files without what a .dockerignore leaves out. A directory that is left out shows what exceptions let back in.

    Patterns are of paths below `base`; `base` itself and what lies elsewhere is shown.
    """

    def __init__(self, files: Files, ignore: Ignore, base: bytes = b"") -> None:
        self._files, self._ignore = files, ignore
        self._base = base + b"/" if base else b""

    def lookup(self, path: bytes) -> Item | None:
        """See Files.lookup."""
        item = self._files.lookup(path)
        if item is None or not path or not path.startswith(self._base):
            return item
        return item if self._shows(path, item) else None

    def names(self, path: bytes) -> list[bytes]:
        """See Files.names."""
        prefix = path + b"/" if path else b""
        return [name for name in self._files.names(path) if self.lookup(prefix + name) is not None]

    def read(self, path: bytes, item: Item) -> Iterator[bytes]:
        """See Files.read."""
        return self._files.read(path, item)

    def _shows(self, path: bytes, item: Item) -> bool:
        text = os.fsdecode(path[len(self._base) :])
        if not self._ignore.excludes(text):
            return True
        return item.is_directory and self._ignore.may_descend(text) and bool(self.names(path))


def unpacked(source: BinaryIO) -> Iterator[bytes]:
    """The bytes of a stream, decompressed if it begins like gzip, bzip2, xz or zstd.

    Raises:
        InvalidArchive: the compressed data is damaged.
        ArchiveTooLarge: it unpacks to much more than it is.
    """
    counted = _Counted(source)
    stream = _opened(counted)
    written = 0
    # What there is before damage comes first: by it an archive is recognised as one, and as a damaged one.
    read = getattr(stream, "read1", stream.read)
    try:
        while chunk := read(1 << 20):
            written += len(chunk)
            if written > _SMALL and written > _RATIO * counted.count:
                raise ArchiveTooLarge(f"archive unpacks to more than {_RATIO} times its size")
            yield chunk
    except (EOFError, ValueError, OSError, lzma.LZMAError) as error:
        if stream is counted:
            raise
        raise InvalidArchive(f"damaged compressed archive: {str(error)[:100]}") from None


class _Counted:
    """A stream whose first bytes can be looked at and whose bytes are counted."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.head = _read_fully(source, 512)
        self._pending = self.head
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        if self._pending:
            size = len(self._pending) if size < 0 else size
            data, self._pending = self._pending[:size], self._pending[size:]
        else:
            data = self._source.read(size)
        self.count += len(data)
        return data


def _read_fully(source: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


def _opened(source: _Counted) -> BinaryIO | _Counted:
    stream = cast(BinaryIO, source)
    if source.head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if source.head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if source.head.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if source.head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(BinaryIO, _open_zstd(stream))
    return source


def _open_zstd(stream: BinaryIO) -> object:
    from backports import zstd  # its errors are ValueErrors or ours to translate; rarely needed, so loaded here

    return zstd.ZstdFile(stream)
