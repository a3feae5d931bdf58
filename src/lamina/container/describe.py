"""A container as the API shows it: ContainerInspectResponse and ContainerSummary. Pure, but for what `Now` asks."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.container.connecting import exposed_of, mode_of, networks_of
from lamina.container.document import mapping, text, texts
from lamina.container.links import link_names, parse_link
from lamina.container.live import Roster
from lamina.container.model import Container, MountPoint, State
from lamina.container.parts import Images
from lamina.container.snapshots import names_snapshot
from lamina.container.times import age, rfc3339
from lamina.errors import LaminaError
from lamina.network.describe import network_settings, port_rows
from lamina.network.mode import DEFAULT_NETWORK
from lamina.network.model import Published, Sandbox


def network_of(container: Container, box: Sandbox | None, ids: Mapping[str, str]) -> dict[str, Any]:
    """The API's NetworkSettings; `ids` are networks' IDs by name."""
    mode = mode_of(container)
    return network_settings(
        mode,
        networks_of(container) if mode.kind == "bridge" else {},
        box=box,
        pid=container.state.pid if container.running else 0,
        ids=ids,
        exposed=exposed_of(container),
        ran=container.state.started_ns > 0,
        container=container.id,
    )


def inspected(
    container: Container, networks: dict[str, Any], *, execs: Sequence[str], sizes: tuple[int, int] | None, graph: dict[str, Any]
) -> dict[str, Any]:
    """The API's ContainerInspectResponse. `sizes` are bytes written and bytes in all; `graph` is where the layers lie."""
    directory = container.directory
    document = {
        "Id": container.id,
        "Created": rfc3339(container.created_ns),
        "Path": container.path,
        "Args": list(container.args),
        "State": _state(container),
        "Image": container.image,
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": log_path(container),
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": container.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(execs) or None,
        "HostConfig": _host_config(container),
        "GraphDriver": {"Name": container.driver, "Data": graph},
        "Mounts": _mounts(container),
        "Config": dict(container.config),
        "NetworkSettings": networks,
    }
    if sizes is not None:
        document["SizeRw"], document["SizeRootFs"] = sizes
    return document


def _host_config(container: Container) -> dict[str, Any]:
    """As it was given, but for links on the default network: those have the names that Docker gives them."""
    host = dict(container.host_config)
    if links := texts(host, "Links") if mode_of(container).name == DEFAULT_NETWORK else ():
        host["Links"] = [f"/{name}:/{container.name}/{alias}" for name, alias in map(parse_link, links)]
    return host


def log_path(container: Container) -> str:
    """The file of Docker's json lines, which other programs follow; other drivers show none."""
    kind = text(mapping(container.host_config, "LogConfig"), "Type")
    return container.log_path if kind in ("", "json-file") else ""


def _state(container: Container) -> dict[str, Any]:
    state = container.state
    return {
        "Status": str(state.status),
        "Running": container.shown_running,
        "Paused": state.status is State.PAUSED,
        "Restarting": state.status is State.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status is State.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_ns),
        "FinishedAt": rfc3339(state.finished_ns),
        **({} if state.health is None else {"Health": {**state.health, "Status": container.health}}),
    }


def _mounts(container: Container) -> list[dict[str, Any]]:
    """The API's MountPoints: what --tmpfs asks for is not one, unlike --mount type=tmpfs."""
    if not container.mounts:
        return []
    by_flag = {posixpath.normpath(target) for target in mapping(container.host_config, "Tmpfs")}
    return [_mount(mount) for mount in container.mounts if mount.kind != "tmpfs" or mount.target not in by_flag]


def _mount(mount: MountPoint) -> dict[str, Any]:
    shown = {
        "Type": mount.kind,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": mount.mode,
        "RW": not mount.read_only,
        "Propagation": mount.propagation,
    }
    if mount.kind == "image":
        return {**shown, "Name": mount.image}
    return {**shown, "Name": mount.name, "Driver": "local"} if mount.kind == "volume" else shown


class Now:
    """What a listing knows besides each container: the moment in nanoseconds since 1970, what names of images stand for at it, and by a
    container's name what others call it to which it is `linked`: `/OTHER/ALIAS`."""

    def __init__(self, moment_ns: int, images: Images, roster: Roster) -> None:
        self.moment_ns, self._images, self.linked = moment_ns, images, link_names(roster)
        self._same: dict[tuple[str, str], bool] = {}

    def image(self, container: Container) -> str:
        """What a container was made of as it was called then; the ID where that is another image's name now, or nobody's."""
        key = container.image_name, container.image
        if key not in self._same:
            self._same[key] = key[0] == key[1] or names_snapshot(key[0]) or self._stands_for(*key)
        return key[0] if self._same[key] else key[1]

    def _stands_for(self, name: str, image: str) -> bool:
        try:
            found = self._images.resolve(image)
            return self._images.resolve(name, found.config.platform).id == found.id
        except LaminaError:
            return False


def summary(
    container: Container, networks: dict[str, Any] | None, published: Sequence[Published], now: Now, *, sizes: tuple[int, int] | None
) -> dict[str, Any]:
    """The API's ContainerSummary, without NetworkSettings where no `networks` are given. See `inspected`."""
    mode, annotations = text(container.host_config, "NetworkMode"), mapping(container.host_config, "Annotations")
    ports = port_rows(published, exposed_of(container)) if container.running and mode_of(container).kind == "bridge" else []
    document = {
        "Id": container.id,
        "Names": [f"/{container.name}", *now.linked.get(container.name, ())],
        "Image": now.image(container),
        "ImageID": container.image,
        "Command": _command(container),
        "Created": container.created_ns // 10**9,
        "Ports": ports,
        "Labels": dict(container.labels),
        "State": str(container.state.status),
        "Status": status_words(container, now.moment_ns),
        "HostConfig": {"NetworkMode": mode, **({"Annotations": annotations} if annotations else {})},
        "Mounts": _mounts(container),
    }
    if networks is not None:
        document["NetworkSettings"] = {"Networks": networks["Networks"]}
    if sizes is not None:
        document["SizeRw"], document["SizeRootFs"] = sizes
    return document


def _command(container: Container) -> str:
    return " ".join([container.path, *(f"'{word}'" if " " in word else word for word in container.args)])


def status_words(container: Container, now_ns: int) -> str:
    """`Up 3 minutes`, `Exited (0) About an hour ago`: Docker's words for a state."""
    state = container.state
    match state.status:
        case State.RUNNING:
            words = "" if container.health == "none" else f" ({'health: ' * (container.health == 'starting')}{container.health})"
            return f"Up {_since(state.started_ns, now_ns)}{words}"
        case State.PAUSED:
            return f"Up {_since(state.started_ns, now_ns)} (Paused)"
        case State.RESTARTING:
            return f"Restarting ({state.exit_code}) {_since(state.finished_ns, now_ns)} ago"
        case State.EXITED:
            return f"Exited ({state.exit_code}) {_since(state.finished_ns, now_ns)} ago"
        case State.REMOVING:
            return "Removal In Progress"
        case State.DEAD:
            return "Dead"
        case _:
            return "Created"


def _since(moment_ns: int, now_ns: int) -> str:
    return age((now_ns - moment_ns) // 10**9)
