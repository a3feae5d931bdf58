"""What is in an archive, member by member: documents are kept, layers noted where they lie or staged as they arrive."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lamina.image.archive import outer
from lamina.image.archive.outer import OuterMember
from lamina.image.archive.source import Source
from lamina.image.model import InvalidArchive
from lamina.image.tarbytes import compression_of
from lamina.spec.config import LIMIT

_DOCUMENTS_LIMIT = 256 << 20
_MEMBERS_LIMIT = 100_000
_READ_LIMIT, _READS_LIMIT = 4 * _DOCUMENTS_LIMIT, 4 * _MEMBERS_LIMIT
"""How many bytes of documents are looked at, and how often: indexes may list the same document again and again."""
_LINKS_LIMIT = 40
_LAYER_NAMES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Part:
    """Where a member's bytes lie: `size` bytes from `offset` of `fd`, or all of the file `path` of a directory."""

    size: int
    fd: int = -1
    offset: int = 0
    path: str = ""


@dataclass(slots=True)
class Contents:
    """What was found, by member. `parts` are members of a file or directory that can be layers; a stream has `taken` them."""

    documents: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    bytes_read: int = 0

    def name(self, member: str) -> str:
        """The member that a name leads to, through links inside the archive."""
        for _ in range(_LINKS_LIMIT):
            if member not in self.links:
                return member
            member = self.links[member]
        raise InvalidArchive(f"the archive has a loop of links at {member[:200]!r}")

    def has(self, name: str) -> bool:
        """See `plan.Members`."""
        member = self.name(name)
        return member in self.documents or member in self.parts or member in self.taken

    def document(self, name: str) -> bytes:
        """See `plan.Members`."""
        data = self.documents.get(self.name(name))
        if data is None:
            raise InvalidArchive(f"the archive lacks {name[:200]!r}")
        self.reads, self.bytes_read = self.reads + 1, self.bytes_read + len(data)
        if self.reads > _READS_LIMIT or self.bytes_read > _READ_LIMIT:
            raise InvalidArchive("the documents of the archive refer to each other too often")
        return data

    def folders(self) -> list[str]:
        """The folders that describe a layer as before Docker 1.10."""
        names = (name for name in (*self.documents, *self.links) if name.endswith("/json") and name.count("/") == 1)
        return [name.removesuffix("/json") for name in names]


TakeLayer = Callable[[OuterMember], None]
"""Consumes the bytes of a member of a stream that can be a layer."""


def read(source: Source, contents: Contents, take: TakeLayer) -> None:
    """Take in all members of a tar.

    Raises:
        InvalidArchive: it is not a tar, a member comes twice, or there is more of something than any image has.
    """
    kept = 0
    for member in outer.members(source):
        kept = _more(kept, len(member.name) + len(member.target))
        if member.kind in ("symlink", "hardlink"):
            contents.links[member.name] = _target(member)
        elif member.kind != "file":
            source.skip(member.size)
        elif is_document(member.name, member.size, source.peek):
            kept = _more(kept, member.size)
            data = source.read(member.size)
            if contents.documents.setdefault(member.name, data) != data:
                raise _twice(member.name)
        else:
            if contents.has(member.name):
                raise _twice(member.name)
            contents.sizes[member.name] = member.size
            if source.part_fd is None:
                contents.taken.add(member.name)
                take(member)
            else:
                contents.parts[member.name] = Part(member.size, source.part_fd, source.position)
                source.skip(member.size)
    # What a writer pads with: a pipe must be read to its end, or who fills it fails.
    if source.part_fd is None:
        while source.peek(1):
            source.read(len(source.peek(1 << 16)))


def read_directory(directory: str, contents: Contents) -> None:
    """Take in the files below a directory; links in it count as links inside the archive. See `read`."""
    kept = 0
    for name, entry in _walk(directory):
        if entry.is_symlink():
            contents.links[name] = _target(OuterMember(name, "symlink", 0, os.readlink(entry.path)))
            continue
        size = entry.stat(follow_symlinks=False).st_size
        fd = open_file(entry.path)
        try:
            if is_document(name, size, lambda count, fd=fd: os.pread(fd, count, 0)):  # type: ignore[misc]
                kept = _more(kept, size)
                contents.documents[name] = os.pread(fd, LIMIT, 0)
            else:
                contents.sizes[name] = size
                contents.parts[name] = Part(size, path=entry.path)
        finally:
            os.close(fd)


def open_file(path: str) -> int:
    """A regular file of a directory, for reading; a link is not followed."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArchive(f"the archive holds something that is not a file: {path[-200:]!r}")
    return fd


def _walk(directory: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files and links below it with their names in the archive; two levels are all that any layout has."""
    pending, count = [("", directory)], 0
    while pending:
        prefix, path = pending.pop()
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                count += 1
                if count > _MEMBERS_LIMIT:
                    raise InvalidArchive(f"the archive has more than {_MEMBERS_LIMIT} members")
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if name.count("/") < 2:
                        pending.append((f"{name}/", entry.path))
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield name, entry


def is_document(name: str, size: int, peek: Callable[[int], bytes]) -> bool:
    """Whether a member is JSON or text rather than a layer: a layer's name ends in .tar, or its first bytes are a tar's, or it has none."""
    if name.endswith(_LAYER_NAMES) or size > LIMIT or (not size and name.startswith("blobs/")):
        return False
    head = peek(min(size, outer.BLOCK))
    if compression_of(head) or head[257:262] == b"ustar":
        return False
    return len(head) < outer.BLOCK or (any(head) and not outer.is_header(head))


def _more(kept: int, size: int) -> int:
    """How many bytes of documents and names are kept of an archive with these; raises InvalidArchive."""
    if kept + size > _DOCUMENTS_LIMIT:
        raise InvalidArchive(f"the archive has more than {_DOCUMENTS_LIMIT} bytes of documents")
    return kept + size


def _target(member: OuterMember) -> str:
    if member.kind == "hardlink":
        return outer.cleaned(member.target)
    directory = member.name.rpartition("/")[0]
    return outer.cleaned(member.target if member.target.startswith("/") else f"{directory}/{member.target}")


def _twice(name: str) -> InvalidArchive:
    return InvalidArchive(f"the archive has {name[:200]!r} twice")
