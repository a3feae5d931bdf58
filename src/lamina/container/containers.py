"""The facade: everything that can be asked of containers (`engine.containers`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol

from lamina.container.model import Container
from lamina.container.requests import AttachRequest, Change, CommitRequest, Created, LogQuery, PathStat, Pruned, WaitResult

if TYPE_CHECKING:
    from lamina.image.store import Image
    from lamina.spec.digest import Digest

Document = Mapping[str, object]
"""A JSON object as the API spells it (Go's field names)."""

Filters = Mapping[str, Sequence[str]]
"""The API's filters: a key and the values of which one must match (labels: all of them)."""


class Waiter(Protocol):
    """A registered wait: whatever happens after its making is not missed. Close it when done with it (a context manager)."""

    def result(self, timeout: float | None = None) -> WaitResult | None:
        """Wait; None means that `timeout` seconds passed, or that it was closed from another thread."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Waiter: ...

    def __exit__(self, *exc: object) -> None: ...


class Containers:
    """Every operation on containers. `ref` is a name, an ID or the beginning of one. Thread-safe; calls on one container take turns,
    except those that only read or wait.

    Every call with a `ref` raises ContainerNotFound, or AmbiguousContainer for a prefix of several IDs.
    """

    # ── making, finding ──────────────────────────────────────────────────────────────────────────────────────────
    def create(
        self,
        config: Document,
        host_config: Document | None = None,
        networking: Document | None = None,
        *,
        name: str = "",
        platform: str = "",
    ) -> Created:
        """Make a container of `config["Image"]`, not yet running. Documents are the API's ContainerConfig, HostConfig, NetworkingConfig.

        Raises:
            ImageNotFound: the image is not here (404: the docker CLI then pulls and asks again).
            NameTaken: another container has the name.
            InvalidArgument: the documents contradict themselves, or no command is given.
        """
        raise NotImplementedError

    def get(self, ref: str) -> Container:
        """The container as it is now."""
        raise NotImplementedError

    def list(self, *, all: bool = False, limit: int = 0, size: bool = False, filters: Filters | None = None) -> list[dict[str, object]]:
        """The API's ContainerSummary of each, the newest first; only running ones unless `all`, `limit` or a status filter."""
        raise NotImplementedError

    def inspect(self, ref: str, *, size: bool = False) -> dict[str, object]:
        """The API's ContainerInspectResponse."""
        raise NotImplementedError

    def counts(self) -> Mapping[str, int]:
        """How many containers are in each state: keys are the state's words."""
        raise NotImplementedError

    def users_of(self, image: Digest) -> list[str]:
        """IDs of the containers made from the image, running ones first: what refuses its removal."""
        raise NotImplementedError

    def usage(self) -> list[dict[str, object]]:
        """Summaries with sizes, for `system df`."""
        raise NotImplementedError

    # ── life cycle ───────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, ref: str, *, detach_keys: str = "") -> None:
        """Run its command; attachments made since the last exit are handed over with the launch.

        Raises:
            AlreadyThere: it runs (304).
            CommandNotFound, CommandNotExecutable, RuntimeFailed: it is still `created`, with exit code 127, 126, 125.
        """
        raise NotImplementedError

    def stop(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Send its stop signal, after `timeout` seconds (its own, else 10; negative: for ever) SIGKILL; returns when it has exited.

        Raises:
            AlreadyThere: it does not run (304).
        """
        raise NotImplementedError

    def restart(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop it if it runs, then start it."""
        raise NotImplementedError

    def kill(self, ref: str, *, signal: str = "") -> None:
        """Send `signal` ("SIGKILL" if empty; "TERM", "15" work too) to its first process; a fatal one is waited for.

        Raises:
            WrongState: it does not run (409).
        """
        raise NotImplementedError

    def wait(self, ref: str, condition: str = "not-running") -> Waiter:
        """Register a waiter for `not-running`, `next-exit` or `removed`. Flush the response's head after this returned."""
        raise NotImplementedError

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        """Remove it and what it wrote; `force` kills it first, `volumes` removes its anonymous volumes.

        Raises:
            WrongState: it runs and `force` is not given (409).
        """
        raise NotImplementedError

    def rename(self, ref: str, name: str) -> None:
        """Raises NameTaken, InvalidArgument."""
        raise NotImplementedError

    def pause(self, ref: str) -> None:
        """Freeze all its processes (WrongState: it does not run, or is paused already)."""
        raise NotImplementedError

    def unpause(self, ref: str) -> None:
        """Thaw them (WrongState: it is not paused)."""
        raise NotImplementedError

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove every container that does not run and that the filters (`until`, `label`, `label!`) let through."""
        raise NotImplementedError

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────
    def attach(self, ref: str, request: AttachRequest) -> None:
        """Connect a client; returns when the connection has been handed over (or, for `logs` without `stream`, written and done).

        To a container that does not run yet it is kept until start. A connection handed over survives this process.
        """
        raise NotImplementedError

    def check_attachable(self, ref: str) -> Container:
        """What to ask before the 101 head is sent: raises WrongState for a paused or restarting container."""
        raise NotImplementedError

    def resize(self, ref: str, height: int, width: int) -> None:
        """Set the terminal's size in characters; before start it is remembered."""
        raise NotImplementedError

    def logs(self, ref: str, query: LogQuery) -> Iterator[bytes]:
        """The log in chunks ready to be sent: 8-byte frames unless the container has a terminal. With `follow` it ends with the container.

        Close the iterator to stop following (from the same thread, between chunks). Idle followers yield b"" about once a second so
        that a caller can notice a client that went away.
        """
        raise NotImplementedError

    def top(self, ref: str, ps_args: str = "") -> dict[str, object]:
        """`{"Titles": […], "Processes": [[…], …]}` (WrongState: it does not run)."""
        raise NotImplementedError

    # ── exec ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def exec_create(self, ref: str, config: Document) -> str:
        """Prepare a command in a running container (the API's ExecConfig); its ID. WrongState: it does not run, or is paused."""
        raise NotImplementedError

    def exec_check(self, exec_id: str) -> bool:
        """What to ask before the 101 head is sent: whether the exec has a terminal. Raises as exec_start."""
        raise NotImplementedError

    def exec_start(
        self, exec_id: str, request: AttachRequest | None = None, *, tty: bool | None = None, size: tuple[int, int] | None = None
    ) -> None:
        """Run it. With a `request` returns when its streams were handed over, without (detached) when it was started.

        `size` is (height, width). Raises WrongState if it ran already or its container stopped; ExecNotFound.
        """
        raise NotImplementedError

    def exec_inspect(self, exec_id: str) -> dict[str, object]:
        """The API's ExecInspectResponse; `Running` is false as soon as the client has seen the end of its streams."""
        raise NotImplementedError

    def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set its terminal's size in characters."""
        raise NotImplementedError

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────
    def changes(self, ref: str) -> list[Change]:
        """What differs from the image, sorted by path."""
        raise NotImplementedError

    def export(self, ref: str, out: int, *, progress: Callable[[int], None] | None = None) -> None:
        """Write its whole file system as a tar into descriptor `out`, without its mounts."""
        raise NotImplementedError

    def archive_stat(self, ref: str, path: str) -> PathStat:
        """What `path` is inside the container; a last symlink is not followed (PathNotFound)."""
        raise NotImplementedError

    def archive_get(self, ref: str, path: str, out: int) -> PathStat:
        """Write `path` as a tar into descriptor `out`; the stat is that of archive_stat (ask that first to send a head)."""
        raise NotImplementedError

    def archive_put(
        self, ref: str, path: str, source: BinaryIO | int, *, no_overwrite_dir_non_dir: bool = False, copy_uid_gid: bool = False
    ) -> None:
        """Extract a tar (plain, gzip, zstd) into directory `path` inside the container.

        Raises:
            PathNotFound, NotADirectory, ReadOnlyPath: what stands in the way, nothing was written.
            BadArchive: the stream is no tar or tries to leave its root; entries before it were written, as Docker does.
        """
        raise NotImplementedError

    def commit(self, ref: str, request: CommitRequest) -> Image:
        """An image of what the container is now; it is paused meanwhile if `request.pause`."""
        raise NotImplementedError

    # ── the process itself ───────────────────────────────────────────────────────────────────────────────────────
    def recover(self) -> None:
        """Once, at start: finish or undo what a killed daemon left half done, adopt what runs, start what `restart` policies say."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything; containers go on."""
        raise NotImplementedError
