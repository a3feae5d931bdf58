"""Files of a context written out for what a RUN mounts, and the mount points it needs where its root has none."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from typing import Any

from lamina.builder.context import Heartbeat, opened
from lamina.builder.files import Files, Item, resolve
from lamina.errors import InvalidArgument
from lamina.worker.workers import Report


class CannotMount(InvalidArgument):
    """A RUN --mount cannot be made as it is written."""


def extract_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: write what is at `source` of `files` to `path`, which is new: a folder or a file. `own` keeps owners, else root's.

    Answers whether it is a folder. Devices and sockets are left out.
    """
    with ExitStack() as stack:
        files = stack.enter_context(opened(params["files"]))
        source = resolve(files, os.fsencode(params["source"]))
        item = files.lookup(source)
        if item is None:
            raise CannotMount(f"RUN --mount: {params['source']} is not there to be mounted")
        beat = Heartbeat(report)
        _write(files, source, item, os.fsencode(params["path"]), own=params["own"], beat=beat)
    return {"directory": item.is_directory}


def _write(files: Files, source: bytes, item: Item, target: bytes, *, own: bool, beat: Heartbeat) -> None:
    """One entry and all below it. Everything is made anew below `target`, so no link is ever followed."""
    pending = [(source, item, target)]
    directories: list[tuple[bytes, Item]] = []
    links: dict[object, bytes] = {}
    while pending:
        path, item, to = pending.pop()
        beat()
        if item.is_directory:
            os.mkdir(to, 0o700)
            directories.append((to, item))
            for name in files.names(path):
                child = files.lookup(path + b"/" + name if path else name)
                if child is not None:
                    pending.append((path + b"/" + name if path else name, child, to + b"/" + name))
        elif item.same is not None and item.same in links:
            os.link(links[item.same], to, follow_symlinks=False)
        elif _one(files, path, item, to):
            _attributes(to, item, own=own)
            if item.same is not None:
                links[item.same] = to
    for to, item in reversed(directories):
        _attributes(to, item, own=own)


def _one(files: Files, path: bytes, item: Item, to: bytes) -> bool:
    """A file, a link or a pipe."""
    if item.is_link:
        os.symlink(item.link, to)
    elif stat.S_ISFIFO(item.mode):
        os.mkfifo(to)
    elif item.is_file:
        with open(to, "xb") as file:
            for chunk in files.read(path, item):
                file.write(chunk)
    else:
        return False
    return True


def _attributes(to: bytes, item: Item, *, own: bool) -> None:
    os.chown(to, item.uid if own else 0, item.gid if own else 0, follow_symlinks=False)
    if not item.is_link:
        os.chmod(to, stat.S_IMODE(item.mode))
        for name, value in item.xattrs if own else ():
            with suppress(OSError):
                os.setxattr(to, os.fsdecode(name), value)
    os.utime(to, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)


def points_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: below the folder `path`, make the mount points `targets` ([path, whether a folder]) that `root` lacks.

    Folders on the way look as they do in the root, so that laid over it they change nothing. `made` says whether any was needed.
    """
    with ExitStack() as stack:
        root = stack.enter_context(opened(params["root"]))
        needed = [point for target, folder in params["targets"] if (point := _lacking(root, target, folder=folder)) is not None]
        for path, folder in needed:
            _point(root, os.fsencode(params["path"]), path, folder=folder)
    return {"made": bool(needed)}


def _lacking(root: Files, target: str, *, folder: bool) -> tuple[bytes, bool] | None:
    path = resolve(root, os.fsencode(target))
    item = root.lookup(path)
    if item is None:
        return path, folder
    if item.is_directory != folder:
        kinds = ("a file", "a folder")
        raise CannotMount(f"RUN --mount: {target} is {kinds[item.is_directory]}, what is mounted there is {kinds[folder]}")
    return None


def _point(root: Files, base: bytes, path: bytes, *, folder: bool) -> None:
    parts = path.split(b"/")
    for length in range(1, len(parts) + 1):
        to = base + b"/" + b"/".join(parts[:length])
        if length == len(parts) and not folder:
            with open(to, "ab"):
                pass
        else:
            with suppress(FileExistsError):
                os.mkdir(to, 0o755)
    for length in range(len(parts), 0, -1):
        item = root.lookup(b"/".join(parts[:length]))
        if item is not None and item.is_directory:
            _attributes(base + b"/" + b"/".join(parts[:length]), item, own=True)
