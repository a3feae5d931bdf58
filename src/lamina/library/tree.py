"""Files of an image as a tree of Python objects; nothing is mounted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from lamina.errors import InvalidArgument
from lamina.image.queries import FileRow


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or other entry that an image shows. `layer` is the index of the layer it comes from, `mtime_ns` nanoseconds
    since 1970. A directory iterates over what is in it, by name."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: str
    layer: int
    _listing: Callable[[str], Sequence[FileRow]] = field(repr=False, compare=False)
    _opening: Callable[[str], BinaryIO] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def directory(self) -> bool:
        """Whether there may be something in it."""
        return self.type == "directory"

    def __iter__(self) -> Iterator[Entry]:
        for row in self._listing(self.path) if self.directory else ():
            yield entry(f"{self.path.rstrip('/')}/{row.name}", row, self._listing, self._opening)

    def walk(self) -> Iterator[Entry]:
        """Itself and everything below, parents first."""
        yield self
        for each in self:
            yield from each.walk()

    def open(self) -> BinaryIO:
        """The content of a regular file, seekable; the caller closes it."""
        return self._opening(self.path)

    def __truediv__(self, name: str) -> Entry:
        """What is in it under that name. Raises KeyError."""
        if "/" in name or name in ("", ".", ".."):
            raise InvalidArgument(f"not one name: {name!r}")
        for each in self:
            if each.name == name:
                return each
        raise KeyError(name)


def entry(path: str, row: FileRow, listing: Callable[[str], Sequence[FileRow]], opening: Callable[[str], BinaryIO]) -> Entry:
    """The entry of a row of `ls`."""
    return Entry(path, row.type, row.mode, row.uid, row.gid, row.size, row.mtime_ns, row.target, row.layer, listing, opening)


def root(listing: Callable[[str], Sequence[FileRow]], opening: Callable[[str], BinaryIO]) -> Entry:
    """The root of an image."""
    return entry("/", FileRow("", "directory", 0o40755, 0, 0, 0, 0, "", 0), listing, opening)
