"""From a container's record to the runtime's launch: files of /etc, the specification, the mount of the root."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lamina.container import links, sharing
from lamina.container.capping import Caps
from lamina.container.connecting import HOST_GATEWAY, Connections, mode_of
from lamina.container.devices import device_at
from lamina.container.document import flag, number, text, texts
from lamina.container.etcfiles import etc_files
from lamina.container.live import Roster
from lamina.container.logdrivers import log_plan
from lamina.container.model import Container, WrongState
from lamina.container.mounts import InvalidMount, runtime_mounts
from lamina.container.parts import Parts, Process
from lamina.container.ranges import Ranges
from lamina.container.shipping import shipped
from lamina.container.snapshots import SnapshotStore
from lamina.container.sources import Sources, check_propagation
from lamina.container.spec import USER, adjusted, runtime_arguments
from lamina.errors import InvalidArgument
from lamina.linux import overlay
from lamina.network.model import Sandbox
from lamina.network.wiring import Wiring
from lamina.runtime.bundle import default_spec
from lamina.runtime.cgroup import cgroup_path
from lamina.runtime.initlayer import EtcFiles
from lamina.runtime.launch import Attach, Launch
from lamina.runtime.process import ProcessGone
from lamina.runtime.runtimes import EMBEDDED
from lamina.snapshot.protocol import Own, RootMount
from lamina.spec.digest import Digest

_OWN_DEVICES = frozenset(("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx"))
"""What every container has of its own."""
_NAMESPACES = {"PidMode": "pid", "IpcMode": "ipc", "UTSMode": "uts"}
_KILL_PATIENCE = 30.0  # seconds
_INITS = ("/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini-static", "/usr/local/bin/docker-init")


class Launcher:
    """Starts the command of a container whose state allows it. `init` is the host directory of the init layer, one for all: it holds
    mount points only, so that mounting changes no layer."""

    def __init__(self, parts: Parts, init: str, sources: Sources, snapshots: SnapshotStore, caps: Caps, ranges: Ranges) -> None:
        self.ranges = ranges
        self._runtime, self._layers, self._init, self._networks = parts.runtime, parts.layers, init, parts.networks
        self._runtimes = parts.runtimes
        self.snapshots, self.caps = snapshots, caps
        self.connections = Connections(parts.networks)
        self.sources = sources
        self.fill: Callable[[Container], None] = lambda container: None
        """Called when volumes that are mounts were mounted: what is empty takes the image's content."""

    def start(self, container: Container, attaches: Sequence[Attach], roster: Roster, *, verify: bool = False) -> Process:
        """Run it; `verify`: its layers' bytes are looked at before. Raises as runtime.client.Runtime.start."""
        if verify:
            self._layers.verify_stack(_layer(container))
        forget_exit(container.directory)
        if container.cap:
            self.caps.attach(container)
        make_sources(container)
        check_propagation(container)
        self.ranges.take(container, _sharer(container, roster))
        box, wiring = self.connections.join(container)
        try:
            sharing.prepare(container)
            if self.sources.take(container):
                self.fill(container)
            with self.sources.parts(container) as parts, shipped(container) as pipe:
                process = self._runtime.start(self.launch(container, roster, box, wiring, parts, pipe), attaches)
            if box.endpoints:
                self._note_start(container, process)
            return process
        except BaseException:
            self.connections.leave(container)
            _sharer(container, roster, look=True)  # one that has ended meanwhile is why
            raise

    def _note_start(self, container: Container, process: Process) -> None:
        """It runs: where that cannot be told to who serves its names and ports, it must not go on unknown to everyone."""
        try:
            self._networks.started(container.id, process.pid)
        except BaseException:
            with suppress(ProcessGone):
                process.signal(signal.SIGKILL)
            process.wait(_KILL_PATIENCE)
            raise

    def release(self, container: Container) -> None:
        """It has ended, or did not start: what was mounted on the host for it goes."""
        try:
            sharing.release(container)
        finally:
            self.ranges.release(container)
            self.sources.give_back(container)

    def launch(self, container: Container, roster: Roster, box: Sandbox, wiring: Wiring, parts: Mapping[str, str], pipe: int) -> Launch:
        """Everything the runtime wants to know. `parts`: see Sources.parts; `pipe`: see shipping.shipped."""
        gateway = self._networks.host_gateway if HOST_GATEWAY in str(container.host_config.get("ExtraHosts")) else str
        others = links.linked(container, roster, self._networks) if container.host_config.get("Links") else []
        spec = self.spec(container, roster, etc_files(container, roster, box, gateway(), links.host_lines(others)), parts)
        spec["process"]["env"] = [*spec["process"]["env"], *links.environment(container, others)]
        return Launch(
            id=container.id,
            directory=container.directory,
            spec=spec,
            root=self.root(container),
            log=log_plan(container).document(),
            log_pipe=pipe,
            open_stdin=container.open_stdin,
            stdin_once=bool(container.config.get("StdinOnce")),
            volatile=container.volatile,
            network=wiring.document() if wiring.interfaces else None,
            # Nothing said is root, with the groups that the image's files give it.
            user=text(container.config, "User") or "0",
            groups=tuple(texts(container.host_config, "GroupAdd")),
            watch_memory=number(container.host_config, "Memory") > 0 or bool(text(container.host_config, "CgroupParent")),
            program=self._runtimes.program(text(container.host_config, "Runtime") or EMBEDDED),
            brief=container.temporary or container.auto_remove,
        )

    def spec(self, container: Container, roster: Roster, etc: EtcFiles | None, parts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The OCI specification; the same container gives the same one."""
        network = mode_of(container)
        netns = _namespace(roster, network.name, "net") if network.kind == "container" else ""
        arguments = runtime_arguments(container, network, runtime_mounts(container.mounts, parts or {}), netns=netns)
        if arguments["privileged"]:
            arguments["devices"] = [*host_devices(), *arguments["devices"]]
        path = cgroup_path(text(container.host_config, "CgroupParent"), container.id)
        # Where the process namespace is shared there is an init already.
        init = init_program() if flag(container.host_config, "Init") and not text(container.host_config, "PidMode") else ""
        host = os.uname()
        spec = default_spec(
            **arguments, etc=etc, cgroup_path=path, init=init, machine=host.machine, release=host.release, ids=self.ranges.of(container)
        )
        joined = _joined(container, roster)
        if self.ranges.of(container) and (other := _sharer(container, roster)):
            # As dockerd: who joins a namespace joins the user namespace that it belongs to.
            joined[USER] = _namespace(roster, other.id, USER)
        return adjusted(spec, container, joined, shm=sharing.source(container, roster))

    def root(self, container: Container, *, writable: bool = True) -> RootMount:
        """The root file system: layers, init layer, and on them what the container writes; `writable`: it is about to be mounted."""
        if writable and container.volatile:
            overlay.renew(f"{container.home}/work")
        return self._layers.root(_layer(container), self._own(container), writable=writable)

    def prepare(self, container: Container, upper: str = "") -> None:
        """Make a new container's writable layer ready, or a directory beside it that is to be it."""
        own = self._own(container)
        self._layers.prepare(_layer(container), replace(own, upper=upper) if upper else own)

    def _own(self, container: Container) -> Own:
        over = self.over(container)
        return Own(container.writes, f"{container.home}/work", self._init, container.volatile, over)

    def over(self, container: Container) -> tuple[str, ...]:
        """The directories of the snapshots that what it writes stands on, top first."""
        return self.snapshots.over(container.base) if container.base else ()


def _layer(container: Container) -> Digest | None:
    return Digest.parse(container.layer) if container.layer else None


def host_devices(root: str = "/dev") -> list[dict[str, Any]]:
    """The host's device nodes as OCI `linux.devices`: what a privileged container gets."""
    found: list[dict[str, Any]] = []
    for directory, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if f"{directory}/{folder}" not in _OWN_DEVICES]
        for name in names:
            path = f"{directory}/{name}"
            device = device_at(path)
            if device and path not in _OWN_DEVICES:
                found.append(device)
    return found


def init_program() -> str:
    """The host's static init for `--init`.

    Raises:
        InvalidArgument: there is none.
    """
    for path in _INITS:
        if os.access(path, os.X_OK):
            return path
    raise InvalidArgument("no static init is installed for --init", hint="apt-get install tini")


def make_sources(container: Container) -> None:
    """Make what -v names and is not there, as a directory.

    Raises:
        InvalidMount: a source that must be there is not, or cannot be made.
    """
    for mount in container.mounts:
        if mount.kind != "bind" or os.path.lexists(mount.source):
            continue
        if mount.must_exist:
            raise InvalidMount(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
        try:
            os.makedirs(mount.source, mode=0o755)
        except OSError as error:
            raise InvalidMount(f"error while creating mount source path '{mount.source}': {error.strerror}") from None


def forget_exit(directory: str) -> None:
    """Take away how an earlier run ended, so that nobody takes it for this one's."""
    try:
        os.unlink(f"{directory}/exit.json")
    except FileNotFoundError:
        pass


def _joined(container: Container, roster: Roster) -> dict[str, str]:
    """Paths of the namespaces of other containers that this one joins, by the mode's key."""
    joined = {}
    for key, kind in _NAMESPACES.items():
        mode, _, ref = text(container.host_config, key).partition(":")
        if mode == "container":
            joined[key] = _namespace(roster, ref, kind)
    return joined


def _sharer(container: Container, roster: Roster, *, look: bool = False) -> Container | None:
    """The container whose namespaces this one joins; of several the last, whose user namespace the kernel then wants for all. With `look`
    the kernel is asked whether it runs, which may know more.

    Raises:
        WrongState: it does not run.
    """
    found = None
    for key, kind in {"NetworkMode": "net", **_NAMESPACES}.items():
        mode, _, ref = text(container.host_config, key).partition(":")
        if mode == "container":
            _namespace(roster, ref, kind, look=look)
            found = roster.find(ref).container
    return found


def _namespace(roster: Roster, ref: str, kind: str, *, look: bool = False) -> str:
    live = roster.find(ref)
    path = f"/proc/{live.state.pid}/ns/{kind}"
    if not live.container.running or (look and not os.path.exists(path)):
        raise WrongState(f"cannot join {kind} of a non running container: {live.container.id}")
    return path
