"""What runs in workers for full copies of stacks: making them, and finding what was changed in one.

Their common parameters describe the copy: `below` and `trees` are the layers' indexes and trees, base first; `finished` is
when the copying ended, `extra` what the copy was given besides.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Any

from lamina.layer import compare
from lamina.layer.apply import disk_errors
from lamina.layer.compare import Original
from lamina.layer.flatten import flatten
from lamina.layer.jobs import Reporter, counted, staged, tell
from lamina.layer.union import Union
from lamina.linux.removing import remove_path


def make_copy(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Fill the empty directory `target` with what the layers show, and with what the directory `init` has besides.

    `link`: files are hard links to the layers' own. Answers `finished` and `extra`; where it fails, `target` is gone.
    """
    target = params["target"]
    try:
        with disk_errors(target), Union.open(params["below"]) as union:
            flatten(union, params["trees"], target, link=params.get("link", False))
            extra = _add(params["init"], target) if params.get("init") else []
            return {"finished": _moment(target), "extra": extra}
    except BaseException:
        remove_path(target)
        raise


def stage_copy(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Stage what was changed in the directory `upper`. See `jobs.stage_upper`."""
    with Union.open(params["below"]) as union:
        return staged(params, counted(compare.copy_tar(params["upper"], _original(params, union)), report), lambda: None).encode()


def copy_changes(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Report what was changed in the directory `upper`. See `jobs.upper_changes`."""
    with Union.open(params["below"]) as union:
        return tell(compare.changes(params["upper"], _original(params, union)), report)


def copy_written(params: dict[str, Any], fds: list[int], report: Reporter) -> dict[str, Any]:  # noqa: ARG001
    """Bytes on disk of what was changed in the directory `upper`."""
    with Union.open(params["below"]) as union:
        return {"bytes": compare.written(params["upper"], _original(params, union))}


def _original(params: dict[str, Any], union: Union) -> Original:
    return Original(union, params["trees"], params["finished"], frozenset(map(os.fsencode, params["extra"])))


def _add(init: str, target: str) -> list[str]:
    """Add what `target` lacks of the directory `init`, so that the directories around it look as they did; the paths."""
    made: list[str] = []
    top = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for here, folders, _ in os.walk(init):
            inside = os.path.relpath(here, init)
            if not _is_directory(inside, top):
                folders.clear()
                continue
            for name in sorted(os.listdir(here)):
                path = os.path.normpath(f"{inside}/{name}")
                if not _exists(path, top):
                    _add_one(f"{here}/{name}", path, top)
                    made.append(path)
    finally:
        os.close(top)
    return made


def _add_one(source: str, path: str, top: int) -> None:
    parent = os.path.dirname(path) or "."
    before, like = os.stat(parent, dir_fd=top), os.lstat(source)
    if stat.S_ISDIR(like.st_mode):
        os.mkdir(path, dir_fd=top)
        os.chmod(path, like.st_mode & 0o7777, dir_fd=top)
    elif stat.S_ISLNK(like.st_mode):
        os.symlink(os.readlink(source), path, dir_fd=top)
    else:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        os.fchmod(fd, like.st_mode & 0o7777)
        os.close(fd)
    os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=top)


def _is_directory(path: str, top: int) -> bool:
    """Whether that is a directory of the copy, reached through directories only."""
    parts, walked = path.split("/"), ""
    for part in parts:
        walked = f"{walked}/{part}" if walked else part
        if not _exists(walked, top) or not stat.S_ISDIR(os.stat(walked, dir_fd=top, follow_symlinks=False).st_mode):
            return False
    return True


def _exists(path: str, top: int) -> bool:
    try:
        os.stat(path, dir_fd=top, follow_symlinks=False)
    except OSError:
        return False
    return True


def _moment(directory: str) -> int:
    """Now by the clock of the file system, in nanoseconds; on return that clock has gone on."""
    os.utime(directory)
    now = os.stat(directory).st_ctime_ns
    while os.stat(directory).st_ctime_ns == now:
        time.sleep(0.001)
        os.utime(directory)
    return now
