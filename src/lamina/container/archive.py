"""cp: a path of a container as a tar, and a tar into a path of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from lamina.container.document import flag, text
from lamina.container.launching import Launcher
from lamina.container.live import Live
from lamina.container.parts import Parts
from lamina.container.requests import PathStat
from lamina.container.roots import Root, reachable
from lamina.container.times import rfc3339
from lamina.linux.pipe import wide_pipe
from lamina.worker.incoming import Loan
from lamina.worker.outgoing import Heard, Target, taken

_CHUNK = 1 << 20
Source = BinaryIO | int | Loan
"""Where an archive comes from: a file, a descriptor, or a request's body in its connection."""


class Archives:
    """See Containers.archive_stat, archive_get, archive_put; `ref` is what the container is called in errors. Thread-safe; the reading and
    writing happens in workers."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def stat(self, live: Live, ref: str, path: str) -> PathStat:
        """See Containers.archive_stat."""
        with reachable(live, self._launcher, self._parts.root) as root:
            found = self._run("stat_job", ref, root, path)
        return PathStat(found["name"], found["size"], found["mode"], rfc3339(found["mtime"], zero_is_never=False), found["link"])

    def get(self, live: Live, ref: str, path: str, out: Target) -> PathStat:
        """See Containers.archive_get."""
        found = self.stat(live, ref, path)
        below = [mount.target for mount in live.container.mounts]
        with reachable(live, self._launcher, self._parts.root) as root:
            fd, more, heard = taken(out)
            self._run("get_job", ref, root, path, heard, fd=fd, below=below, **more)
        self._parts.emit(live.event("archive-path", path=path))
        return found

    def put(self, live: Live, ref: str, path: str, source: Source, *, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool) -> None:
        """See Containers.archive_put."""
        owner = text(live.container.config, "User") if copy_uid_gid else ""
        writable = not flag(live.container.host_config, "ReadonlyRootfs")
        with reachable(live, self._launcher, self._parts.root, writable=writable) as root, _descriptor(source) as fd:
            more, heard = (source.lend(), source.take_back) if isinstance(source, Loan) else ({}, None)
            more |= {"owner": owner, "strict": no_overwrite_dir_non_dir, "writes": live.container.writes}
            self._run("put_job", ref, root, path, heard, fd=fd, **more)
        self._parts.emit(live.event("extract-to-dir", path=path))

    def _run(
        self, job: str, ref: str, root: Root, path: str, heard: Heard | None = None, *, fd: int | None = None, **params: Any
    ) -> dict[str, Any]:
        params = {**root.params, "path": path, "container": ref, **params}
        return self._parts.workers.run(f"lamina.container.files:{job}", params, [*root.fds, *([] if fd is None else [fd])], heard)


@contextmanager
def _descriptor(source: Source) -> Iterator[int]:
    """A descriptor to read the source from; a file object is pumped through a pipe, so that the worker never sees it.

    What the source raises ends the pipe early, and comes out here after the worker has refused the cut archive.
    """
    if isinstance(source, int | Loan):
        yield source if isinstance(source, int) else source.fileno()
        return
    reading, writing = wide_pipe()
    failures: list[Exception] = []
    pump = threading.Thread(target=_pump, args=(source, writing, failures), name="archive", daemon=True)
    pump.start()
    try:
        yield reading
    finally:
        os.close(reading)
        pump.join()
        if failures:
            raise failures[0]


def _pump(source: BinaryIO, out: int, failures: list[Exception]) -> None:
    try:
        while data := source.read(_CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
    except BrokenPipeError:  # the worker has refused the archive, and says why itself
        with suppress(Exception):
            while source.read(_CHUNK):
                pass
    except Exception as error:
        failures.append(error)
    finally:
        os.close(out)
