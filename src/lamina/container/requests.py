"""What the containers are asked for, and what they answer, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to a create: the new ID and what could not be done as asked."""

    id: str
    warnings: tuple[str, ...] = ()


def _accepted() -> None:
    """An `accept` where the head has been sent already."""


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A client's connection that wants a container's (or an exec's) streams.

    `fd` is the connected socket; it is duplicated before the call returns, so that the caller closes its own (close, not shutdown: others
    go on using the connection). `pending` are bytes already read from the client. `detach_keys` is Docker's spelling ("ctrl-p,ctrl-q"; ""
    is that default). `framed` puts Docker's header before each piece of output (None: unless the command has a terminal). `accept` sends
    the 101 head: it is called once the attachment is known, so that a container which the client starts upon that head does not run ahead
    of it, and before anything else is written.
    """

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    stream: bool = True
    logs: bool = False
    detach_keys: str = ""
    pending: bytes = b""
    accept: Callable[[], None] = _accepted
    framed: bool | None = None


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines of a log, and how. `tail` counts lines (None: all); `since_ns` and `until_ns` are nanoseconds since 1970, 0 for no
    bound. `follow` goes on to the end of a run, with `restarts` until the restart policy starts no other."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    restarts: bool = False
    timestamps: bool = False
    details: bool = False
    tail: int | None = None
    since_ns: int = 0
    until_ns: int = 0


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """`repository` and `tag` may be empty (an image without a name); `changes` are Dockerfile instructions."""

    repository: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()
    config: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How a container ended. `error` is set where the engine knows more than a code."""

    status_code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class PathStat:
    """The API's container path stat. `mode` is Go's os.FileMode, `mtime` RFC 3339 with nanoseconds, `size` in bytes."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path. `kind` is the API's: 0 modified, 1 added, 2 deleted."""

    path: str
    kind: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, and the bytes it gave back."""

    removed: tuple[str, ...]
    space: int
