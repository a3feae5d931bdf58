"""A container as a value, and what may follow what: the states and transitions as a table.

created ──start──> running ──exit──> exited ──start──> running
   │                 │  ↑               │
   │            pause│  │unpause        └──remove──> removing ──> (gone)
   │                 ↓  │                               │
   └──remove──>     paused                              └──failed──> dead ──remove──> removing
running ──exit, policy says again──> restarting ──start──> running
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lamina.errors import Conflict, InvalidArgument, NotFound, NotModified

CAPS = ".caps"
"""The folder beside the containers' own in which file systems of fixed size are mounted."""
INIT = ".init"
"""The folder beside the containers' own that is the init layer of all."""
IMAGE_CAP, QUOTA_CAP = "image", "quota"
"""How a container's writing is capped."""


class State(StrEnum):
    """The words of the API's `State.Status`."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CREATED: frozenset({State.RUNNING, State.REMOVING}),
    State.RUNNING: frozenset({State.PAUSED, State.EXITED, State.RESTARTING}),
    State.PAUSED: frozenset({State.RUNNING, State.EXITED, State.RESTARTING}),
    State.RESTARTING: frozenset({State.RUNNING, State.EXITED, State.REMOVING}),
    State.EXITED: frozenset({State.RUNNING, State.RESTARTING, State.REMOVING}),
    State.REMOVING: frozenset({State.DEAD}),
    State.DEAD: frozenset({State.REMOVING}),
}
"""What may follow each state. A container that is gone has no state."""

ALIVE = frozenset({State.RUNNING, State.PAUSED})
"""States in which processes of the container exist."""


class ContainerNotFound(NotFound):
    """No container has that name or ID."""


class AmbiguousContainer(InvalidArgument):
    """More than one container's ID starts so."""


class NameTaken(Conflict):
    """Another container has that name."""


class WrongState(Conflict):
    """The container's state does not allow it."""


class NotRunning(WrongState):
    """It has no processes."""


class AlreadyThere(NotModified):
    """The container is already in the state that was asked for."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What changes while a container lives. Times are nanoseconds since 1970, 0 for never; `exit_code` is of the last run; `health` is the
    API's Health, of a container that has a check."""

    status: State = State.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    health: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """One container as it was when it was asked for.

    `config` and `host_config` are the API's documents, completed with the image's configuration and the defaults;
    `image` is the image's ID, `image_name` what the user wrote, `layer` the chain ID of its topmost layer
    ("" for an image without layers). `directory` is the host path of everything it keeps. `base` is the ID of the snapshot that its
    writable layer stands on, if any. A `temporary` one goes with the engine that made it. `size` caps what it writes, in bytes (0: nothing
    does), by `cap`: an image of a file system, or a quota of the file system it is on.
    """

    id: str
    name: str
    created_ns: int
    image: str
    image_name: str
    layer: str
    path: str
    args: tuple[str, ...]
    directory: str
    config: Mapping[str, object]
    host_config: Mapping[str, object]
    networking: Mapping[str, object] = field(default_factory=dict)
    mounts: tuple[MountPoint, ...] = ()
    driver: str = ""
    base: str = ""
    temporary: bool = False
    size: int = 0
    cap: str = ""
    state: ContainerState = field(default_factory=ContainerState)

    @property
    def tty(self) -> bool:
        """Whether its streams are one raw terminal stream, without frames."""
        return bool(self.config.get("Tty"))

    @property
    def open_stdin(self) -> bool:
        """Whether standard input stays open for whoever attaches."""
        return bool(self.config.get("OpenStdin"))

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels: the image's, overlaid with its own."""
        labels = self.config.get("Labels")
        return labels if isinstance(labels, dict) else {}

    @property
    def auto_remove(self) -> bool:
        """Whether it is removed as soon as it has exited (`--rm`)."""
        return bool(self.host_config.get("AutoRemove"))

    @property
    def running(self) -> bool:
        """Whether processes of it exist: running or paused."""
        return self.state.status in ALIVE

    @property
    def shown_running(self) -> bool:
        """Whether the API calls it running: Docker counts one that waits for its next restart."""
        return self.running or self.state.status is State.RESTARTING

    @property
    def health(self) -> str:
        """`starting`, `healthy`, `unhealthy` (also what nobody checks any more, as with Docker), or `none`."""
        if not self.state.health:
            return "none"
        return str(self.state.health["Status"]) if self.state.status is State.RUNNING else "unhealthy"

    @property
    def upper(self) -> str:
        """The host directory in which everything it wrote is found."""
        return f"{self.directory}/diff"

    @property
    def home(self) -> str:
        """The host directory in which lies what it writes and what overlayfs needs beside it."""
        return f"{os.path.dirname(self.directory)}/{CAPS}/{self.id}" if self.cap == IMAGE_CAP else self.directory

    @property
    def writes(self) -> str:
        """The directory that it writes to; `upper` shows the same."""
        return f"{self.home}/diff"

    @property
    def volatile(self) -> bool:
        """Whether nothing it writes needs to be on the disk when it ends."""
        return self.auto_remove or self.temporary

    @property
    def init_layer(self) -> str:
        """The host directory with the mount points that the engine itself puts in, one for all containers."""
        return f"{os.path.dirname(self.directory)}/{INIT}"

    @property
    def log_path(self) -> str:
        """The log, one JSON object per line."""
        return f"{self.directory}/{self.id}-json.log"

    @property
    def local_log_path(self) -> str:
        """The log of the driver `local`, and what drivers that send logs elsewhere keep of them."""
        return f"{self.directory}/local-logs/container.log"


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount of a container: `kind` is volume, bind, tmpfs or image; `name` is the volume's, or what the image was called; `source` a
    host path.

    `copy` says an empty volume takes the image's content; `owned` that the volume is anonymous and goes with the container; `data` a tmpfs'
    options; `must_exist` that a bind's source is not made where it is missing (--mount, other than -v). `recursive` says that what is
    mounted below a bind's source comes along, `deep` that read-only holds there too; `driver`, `labels` and `options` are for a volume that
    is made. `subpath` is what of the volume or image is mounted; `image` the ID of an image, `layer` the chain ID of its topmost layer.
    """

    kind: str
    target: str
    source: str = ""
    name: str = ""
    read_only: bool = False
    mode: str = ""
    propagation: str = ""
    copy: bool = False
    owned: bool = False
    data: str = ""
    must_exist: bool = False
    recursive: bool = True
    deep: bool = True
    driver: str = ""
    subpath: str = ""
    image: str = ""
    layer: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def check_transition(container_id: str, before: State, after: State) -> None:
    """Refuse what TRANSITIONS does not allow.

    Raises:
        WrongState: it names the container and both states.
    """
    if after not in TRANSITIONS[before]:
        raise WrongState(f"container {container_id} is {before} and cannot become {after}")
