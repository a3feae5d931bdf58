"""Removing directories whoever filled them: however deep they lie in one another, never through a link."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 800
"""How many directories are held open at most."""


def remove_tree(path: str, *, dir_fd: int | None = None, opened: Callable[..., int] = os.open) -> None:
    """Remove the directory `path` and everything below it. Where something cannot be removed, the rest is gone all the same.

    `opened` opens directories, as os.open does; what it refuses to open is left. One that is not os.open is asked for the others, too.

    Raises:
        OSError: why the first thing that is left could not be removed.
    """
    top = opened(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        failures = _empty(top, opened)
    finally:
        os.close(top)
    if failures:
        raise failures[0]
    os.rmdir(path, dir_fd=dir_fd)


def remove_path(path: str) -> None:
    """Remove a file, a link, or a whole directory, if it is there; no link is followed. Raises OSError as `remove_tree`."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        with suppress(FileNotFoundError):
            remove_tree(path)


def discard_tree(path: str) -> None:
    """Remove what can be removed of `path`; absent is fine."""
    with suppress(OSError):
        remove_tree(path)


def _empty(top: int, opened: Callable[..., int]) -> list[OSError]:
    """Remove what is in an open directory; why what is left could not be removed."""
    failures: list[OSError] = []
    numbers = count()
    levels = [(top, _strip(top, opened, failures), "")]
    while True:
        here, below, name = levels[-1]
        if below:
            child = below.pop()
            if len(levels) > _DEEP and (moved := _moved(here, child, top, numbers)):
                levels[0][1].append(moved)
                continue
            try:
                fd = opened(child, _DIRECTORY, dir_fd=here)
            except FileNotFoundError:
                continue
            except OSError as error:
                failures.append(error)
                continue
            levels.append((fd, _strip(fd, opened, failures), child))
            continue
        levels.pop()
        if not levels:
            return failures
        os.close(here)
        _removed(os.rmdir, name, levels[-1][0], failures)


def _strip(directory: int, opened: Callable[..., int], failures: list[OSError]) -> list[str]:
    """Remove what are not directories; the names of those."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            if opened is not os.open and not _may_go(name, directory, opened, failures):
                continue
            _removed(os.unlink, name, directory, failures)
    return [name for name, is_directory in found if is_directory]


def _may_go(name: str, directory: int, opened: Callable[..., int], failures: list[OSError]) -> bool:
    try:
        os.close(opened(name, _PLACE, dir_fd=directory))
    except FileNotFoundError:
        return False
    except OSError as error:
        failures.append(error)
        return False
    return True


def _removed(how: object, name: str, directory: int, failures: list[OSError]) -> None:
    try:
        how(name, dir_fd=directory)  # type: ignore[operator]
    except FileNotFoundError:
        pass
    except OSError as error:
        failures.append(error)


def _moved(directory: int, name: str, top: int, numbers: Iterator[int]) -> str:
    """Bring what lies deep to the top, so that few directories are open at once; its name there, "" where that cannot be."""
    for number in numbers:
        target = f".removing-{number}"
        try:
            os.stat(target, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            break
    try:
        os.rename(name, target, src_dir_fd=directory, dst_dir_fd=top)
    except OSError:
        return ""
    return target
