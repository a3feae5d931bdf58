"""Upper directories as overlayfs leaves them: every name in one, or in several that stand on each other.

They are read by descriptors and names only; a link in them is never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lamina.layer.errors import UnsupportedArchive, shown
from lamina.layer.tree import Xattrs, kept_xattrs

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE = b"trusted.overlay.opaque"


@dataclass(frozen=True, slots=True)
class Found:
    """One name in an upper directory. `directory` is a descriptor of what holds it, open while it is looked at.

    `sealed` says of a directory that a lower upper directory ends it: nothing of the layers below is seen in it.
    """

    path: bytes
    directory: int
    name: bytes
    status: os.stat_result
    sealed: bool = False

    @property
    def whiteout(self) -> bool:
        """Whether it hides the path in the layers below."""
        return stat.S_ISCHR(self.status.st_mode) and self.status.st_rdev == 0

    @property
    def opaque(self) -> bool:
        """Whether a directory hides what the layers below have in it."""
        return self.sealed or attributes(self).get(OPAQUE) == b"y"

    @property
    def xattrs(self) -> Xattrs:
        """What a layer keeps of its extended attributes.

        Raises:
            UnsupportedArchive: see `upper_tar`.
        """
        return kept_xattrs(attributes(self).items(), self.path)

    @property
    def where(self) -> bytes:
        """A path for calls that take no descriptor of a directory."""
        return b"/proc/self/fd/%d/%b" % (self.directory, self.name)


def walk_upper(directory: str) -> Iterator[Found]:
    """Every name below a directory, parents first, names in byte order."""
    top = os.open(directory, _DIRECTORY)
    stack: list[tuple[int, bytes, Iterator[bytes]]] = [(top, b"", iter(_sorted(top)))]
    try:
        while stack:
            here, path, names = stack[-1]
            name = next(names, None)
            if name is None:
                os.close(stack.pop()[0])
                continue
            inside = path + b"/" + name if path else name
            try:
                found = Found(inside, here, name, os.stat(name, dir_fd=here, follow_symlinks=False))
                child = os.open(name, _DIRECTORY, dir_fd=here) if stat.S_ISDIR(found.status.st_mode) else -1
            except (FileNotFoundError, NotADirectoryError):
                continue  # whoever writes there has just removed it
            if child >= 0:
                stack.append((child, inside, iter(_sorted(child))))
            yield found
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _sorted(directory: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(directory)))


def walk_uppers(directories: Sequence[str]) -> Iterator[Found]:
    """Every name in upper directories that stand on each other, top first, as one upper directory would have it. See `walk_upper`."""
    if len(directories) == 1:
        yield from walk_upper(directories[0])
        return
    stack: list[tuple[list[int], bytes, Iterator[bytes]]] = []
    try:
        tops = [os.open(directory, _DIRECTORY) for directory in directories]
        stack.append((tops, b"", _names(tops)))
        while stack:
            members, path, names = stack[-1]
            name = next(names, None)
            if name is None:
                _close(stack.pop()[0])
                continue
            inside = path + b"/" + name if path else name
            found, children = _merged(members, inside, name)
            if children:
                stack.append((children, inside, _names(children)))
            if found is not None:
                yield found
    finally:
        for members, _, _ in stack:
            _close(members)


def _merged(members: Sequence[int], path: bytes, name: bytes) -> tuple[Found | None, list[int]]:
    """What directories (descriptors, top first) that are seen as one have under a name; of a directory, those that are seen as it."""
    found: Found | None = None
    children: list[int] = []
    for member in members:
        with suppress(FileNotFoundError, NotADirectoryError):
            each = Found(path, member, name, os.stat(name, dir_fd=member, follow_symlinks=False))
            if not stat.S_ISDIR(each.status.st_mode):
                # Whatever is below it, this hides.
                return (each, []) if found is None else (_sealed(found), children)
            children.append(os.open(name, _DIRECTORY, dir_fd=member))
            found = found or each
            if each.opaque:
                return _sealed(found), children
    return found, children


def _sealed(found: Found) -> Found:
    return Found(found.path, found.directory, found.name, found.status, sealed=True)


def _names(members: Sequence[int]) -> Iterator[bytes]:
    return iter(sorted({name for member in members for name in map(os.fsencode, os.listdir(member))}))


def _close(members: Sequence[int]) -> None:
    for fd in members:
        os.close(fd)


def attributes(found: Found) -> dict[bytes, bytes]:
    """All extended attributes; none of what was removed since.

    Raises:
        UnsupportedArchive: overlayfs has moved the name or the content elsewhere (redirect, metacopy).
    """
    try:
        names = os.listxattr(found.where, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOENT):
            return {}
        raise
    if "trusted.overlay.redirect" in names or "trusted.overlay.metacopy" in names:
        raise UnsupportedArchive(
            f"{shown(found.path)} is a redirect of overlayfs", hint="the kernel's redirect_dir and metacopy have to be off"
        )
    return {os.fsencode(name): os.getxattr(found.where, name, follow_symlinks=False) for name in names}
