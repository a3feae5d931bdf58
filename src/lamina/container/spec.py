"""From what was asked to what is started: pure functions over the API's documents and the image's configuration.

`merged_config` and `merged_host_config` complete the documents as Docker shows them; `command` gives the words that are run;
`runtime_arguments` turns a container into the arguments of `runtime.bundle.default_spec`.
"""

from __future__ import annotations

import posixpath
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lamina.container.devices import asked_devices, device_number, device_rules
from lamina.container.document import Document, flag, mapping, number, objects, text, texts
from lamina.container.logdrivers import JSON_FILES, LogDefault
from lamina.container.model import Container
from lamina.errors import InvalidArgument
from lamina.network.mode import NetworkMode
from lamina.runtime.bundle import MASKED, READ_ONLY
from lamina.runtime.launch import Limits, Mount
from lamina.runtime.runtimes import EMBEDDED
from lamina.spec.config import ContainerConfig, Healthcheck
from lamina.spec.signals import InvalidSignal, signal_number

DEFAULT_SHM = 64 << 20
_HOST_DEFAULTS: Mapping[str, Any] = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "NetworkMode": "default",
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "",
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": DEFAULT_SHM,
    "Runtime": EMBEDDED,
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": False,
    "PidsLimit": None,
    "Ulimits": [],
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": [*MASKED],
    "ReadonlyPaths": [*READ_ONLY],
}


class NoCommand(InvalidArgument):
    """Neither the request nor the image says what to run."""


def image_config_document(image: ContainerConfig) -> dict[str, Any]:
    """An image's configuration in the API's words, without what is empty."""
    return {
        "User": image.user,
        "ExposedPorts": dict(image.exposed_ports),
        "Env": list(image.env),
        "Cmd": list(image.cmd),
        "Entrypoint": list(image.entrypoint),
        "Volumes": dict(image.volumes),
        "WorkingDir": image.working_dir,
        "Labels": dict(image.labels),
        "StopSignal": image.stop_signal,
        "Shell": list(image.shell),
        "Healthcheck": _health_document(image.healthcheck),
    }


def _health_document(health: Healthcheck | None) -> dict[str, Any]:
    if health is None:
        return {}
    found = {
        "Test": list(health.test),
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
        "Retries": health.retries,
    }
    return {key: value for key, value in found.items() if value}


def _merged_health(own: Document, image: Document) -> dict[str, Any] | None:
    """A check of one's own with the image's values where it says nothing."""
    return {**image, **{key: value for key, value in own.items() if value}} or None


def merged_config(config: Document, image: ContainerConfig, *, image_name: str, hostname: str) -> dict[str, Any]:
    """The container's configuration: the request completed from the image, as Docker's inspect shows it.

    Raises:
        NoCommand: nothing says what to run.
        InvalidDocument: a field has the wrong type.
    """
    given = image_config_document(image)
    entrypoint, cmd = command_parts(config, given)
    if not entrypoint and not cmd:
        raise NoCommand("no command specified")
    exposed = {**given["ExposedPorts"], **mapping(config, "ExposedPorts")}
    return {
        "Hostname": text(config, "Hostname") or hostname,
        "Domainname": text(config, "Domainname"),
        "User": text(config, "User") or given["User"],
        **{key: flag(config, key) for key in ("AttachStdin", "AttachStdout", "AttachStderr")},
        **({"ExposedPorts": exposed} if exposed else {}),
        **{key: flag(config, key) for key in ("Tty", "OpenStdin", "StdinOnce")},
        "Env": merged_env(texts(config, "Env"), given["Env"]),
        "Cmd": cmd or None,
        "Image": image_name,
        "Volumes": {**given["Volumes"], **mapping(config, "Volumes")} or None,
        "WorkingDir": _cleaned(text(config, "WorkingDir") or given["WorkingDir"]),
        "Entrypoint": entrypoint or None,
        "OnBuild": None,
        "Labels": {**given["Labels"], **mapping(config, "Labels")},
        **_optional(config, given),
    }


def _cleaned(directory: str) -> str:
    """A path as Docker cleans it: what `..` leaves again need not be there. POSIX lets a second slash in front mean something else."""
    return directory and "/" * directory.startswith("/") + posixpath.normpath(directory).lstrip("/")


def _optional(config: Document, given: Document) -> dict[str, Any]:
    found = {
        "StopSignal": text(config, "StopSignal") or given["StopSignal"],
        "StopTimeout": config.get("StopTimeout"),
        "Healthcheck": _merged_health(mapping(config, "Healthcheck"), given["Healthcheck"]),
        "Shell": texts(config, "Shell") or given["Shell"],
        "MacAddress": text(config, "MacAddress"),
        "NetworkDisabled": flag(config, "NetworkDisabled") or None,
    }
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def command_parts(config: Document, image: Document) -> tuple[list[str], list[str]]:
    """Entrypoint and command. An entrypoint of its own drops the image's command; `[""]` means none at all."""
    entrypoint, cmd = texts(config, "Entrypoint"), texts(config, "Cmd")
    if entrypoint:
        return ([] if entrypoint == [""] else entrypoint), cmd
    return list(image["Entrypoint"]), cmd or list(image["Cmd"])


def merged_env(own: Sequence[str], image: Sequence[str]) -> list[str]:
    """The request's variables, then those of the image that it does not name. A name without `=` takes a variable away: it is
    shown, as with Docker, and the process gets no such variable."""
    names = {entry.partition("=")[0] for entry in own}
    return [*own, *(entry for entry in image if entry.partition("=")[0] not in names)]


def merged_host_config(
    host_config: Document, network: NetworkMode, *, unified: bool = False, runtime: str = EMBEDDED, logging: LogDefault = JSON_FILES
) -> dict[str, Any]:
    """The host configuration with every default, as inspect shows it. `unified` says that all control groups are version 2's; `runtime` and
    `logging` are the engine's defaults."""
    merged = {**_HOST_DEFAULTS, **{key: value for key, value in host_config.items() if value is not None}}
    merged["NetworkMode"] = network.shown
    merged["Runtime"] = text(host_config, "Runtime") or runtime
    merged["ShmSize"] = number(host_config, "ShmSize") or DEFAULT_SHM
    merged["IpcMode"] = text(merged, "IpcMode") or "private"
    # No limit is asked for in three ways, and shown in one.
    merged["PidsLimit"] = merged["PidsLimit"] if number(merged, "PidsLimit") > 0 else None
    merged["LogConfig"] = logging.completed(mapping(host_config, "LogConfig"))
    if flag(merged, "Privileged"):
        merged["MaskedPaths"], merged["ReadonlyPaths"] = None, None
    restart = mapping(merged, "RestartPolicy")
    merged["RestartPolicy"] = {"Name": text(restart, "Name") or "no", "MaximumRetryCount": number(restart, "MaximumRetryCount")}
    if not text(merged, "CgroupnsMode"):
        # A privileged container is to manage the host's groups: on version 2 they are seen through its own namespace too.
        merged["CgroupnsMode"] = "host" if flag(merged, "Privileged") and not unified else "private"
    return merged


def stop_signal(container: Container) -> int:
    """The signal that asks it to end; SIGKILL where its image names one that there is not: as Docker, which waits two seconds first."""
    try:
        return signal_number(text(container.config, "StopSignal") or "SIGTERM")
    except InvalidSignal:
        return signal.SIGKILL


def stop_timeout(container: Container) -> int:
    """Seconds that it is given for ending."""
    return number(container.config, "StopTimeout", 10)


def runtime_arguments(container: Container, network: NetworkMode, mounts: Sequence[Mount], *, netns: str = "") -> dict[str, Any]:
    """The keyword arguments of default_spec, but for the files of /etc and the cgroup's path."""
    config, host = container.config, container.host_config
    return {
        "args": [container.path, *container.args],
        "env": texts(config, "Env"),
        "cwd": text(config, "WorkingDir") or "/",
        "hostname": text(config, "Hostname"),
        "tty": flag(config, "Tty"),
        "readonly": flag(host, "ReadonlyRootfs"),
        "privileged": flag(host, "Privileged"),
        "cap_add": texts(host, "CapAdd"),
        "cap_drop": texts(host, "CapDrop"),
        "network": network.kind,
        "netns": netns,
        "mounts": mounts,
        "limits": limits(host, device_number),
        "devices": asked_devices(host, privileged=flag(host, "Privileged")),
        "device_rules": device_rules(texts(host, "DeviceCgroupRules")),
        "security": texts(host, "SecurityOpt"),
        "sysctls": mapping(host, "Sysctls"),
        "shm_size": number(host, "ShmSize") or DEFAULT_SHM,
        "oom_score_adj": number(host, "OomScoreAdj"),
    }


_THROTTLES = {
    "BlkioDeviceReadBps": "throttleReadBpsDevice",
    "BlkioDeviceWriteBps": "throttleWriteBpsDevice",
    "BlkioDeviceReadIOps": "throttleReadIOPSDevice",
    "BlkioDeviceWriteIOps": "throttleWriteIOPSDevice",
}


def limits(host: Document, number_of: Callable[[str], tuple[int, int]]) -> Limits:
    """Resource limits of a host configuration. `number_of` gives major and minor of a device's path."""
    rlimits = {text(limit, "Name"): (number(limit, "Soft"), number(limit, "Hard")) for limit in objects(host, "Ulimits")}
    pids = host.get("PidsLimit")

    def devices(key: str, value: str) -> tuple[tuple[int, int, int], ...]:
        return tuple((*number_of(text(device, "Path")), number(device, value)) for device in objects(host, key))

    return Limits(
        memory=number(host, "Memory"),
        memory_swap=number(host, "MemorySwap"),
        memory_reservation=number(host, "MemoryReservation"),
        cpu_shares=number(host, "CpuShares"),
        cpu_quota=number(host, "CpuQuota"),
        cpu_period=number(host, "CpuPeriod"),
        nano_cpus=number(host, "NanoCpus"),
        cpuset_cpus=text(host, "CpusetCpus"),
        cpuset_mems=text(host, "CpusetMems"),
        # 0 and less take a limit away.
        pids=0 if pids is None else number(host, "PidsLimit") if number(host, "PidsLimit") > 0 else -1,
        blkio_weight=number(host, "BlkioWeight"),
        swappiness=None if host.get("MemorySwappiness") is None else number(host, "MemorySwappiness"),
        oom_kill_disable=flag(host, "OomKillDisable"),
        realtime_period=number(host, "CpuRealtimePeriod"),
        realtime_runtime=number(host, "CpuRealtimeRuntime"),
        weights=devices("BlkioWeightDevice", "Weight"),
        throttles={kind: entries for key, kind in _THROTTLES.items() if (entries := devices(key, "Rate"))},
        rlimits=rlimits,
    )


USER = "user"
_DOMAIN_NAME = 64
"""Bytes that the kernel holds of a domain name. Docker sets it by the sysctl, which drops the rest."""
_SHARED = {"PidMode": "pid", "IpcMode": "ipc", "UTSMode": "uts", "CgroupnsMode": "cgroup"}


_DEV_SHM = "/dev/shm"
_WRITABLE = frozenset({"/proc", "/dev", "/dev/pts", _DEV_SHM, "/dev/mqueue"})
"""What a read-only root leaves writable of the mounts that every container has."""


def adjusted(spec: dict[str, Any], container: Container, namespace_of: Mapping[str, str], *, shm: str = "") -> dict[str, Any]:
    """`spec` with the namespaces that are the host's, or another container's, and what else the host configuration says.

    `namespace_of` gives the path of the namespace to join by the mode's key, for modes like `container:ID`; `shm` is a host directory that
    is shared as /dev/shm.
    """
    host = container.host_config
    for key, kind in _SHARED.items():
        mode = text(host, key)
        if mode == "host":
            _set_namespace(spec, kind, None)
        elif key in namespace_of:
            _set_namespace(spec, kind, namespace_of[key])
    if USER in namespace_of:
        _set_namespace(spec, USER, namespace_of[USER])
    asked = {mount.target for mount in container.mounts}
    _set_shm(spec, "none" if text(host, "IpcMode") == "none" else shm, asked)
    if flag(host, "ReadonlyRootfs"):
        for entry in spec["mounts"]:
            if entry["destination"] not in _WRITABLE | asked and not {"ro", "rro"} & set(entry["options"]):
                entry["options"].append("ro")
    if container.tty and (size := console_size(host)) is not None:
        spec["process"]["consoleSize"] = box(size)
    if domain := text(container.config, "Domainname"):
        spec["domainname"] = domain.encode()[:_DOMAIN_NAME].decode(errors="ignore")
    if annotations := mapping(host, "Annotations"):
        spec["annotations"] = annotations
    for key, name in (("MaskedPaths", "maskedPaths"), ("ReadonlyPaths", "readonlyPaths")):
        if host.get(key) is not None:
            spec["linux"][name] = texts(host, key)
    return spec


def console_size(document: Document) -> tuple[int, int] | None:
    """The (height, width) that a terminal begins with, where that is said."""
    size = document.get("ConsoleSize")
    return (size[0], size[1]) if isinstance(size, list) and len(size) == 2 and any(size) else None


def box(size: tuple[int, int]) -> dict[str, int]:
    """A terminal's (height, width) as OCI's `consoleSize`."""
    return {"height": size[0], "width": size[1]}


def _set_shm(spec: dict[str, Any], source: str, asked: Collection[str]) -> None:
    """No /dev/shm and no message queues at all ("none"), or one of the host's directories in place of a file system of its own."""
    if not source or {"/dev", _DEV_SHM} & set(asked):
        return
    gone = {_DEV_SHM, "/dev/mqueue"} if source == "none" else {_DEV_SHM}
    others = [entry for entry in spec["mounts"] if entry["destination"] not in gone]
    if source != "none":
        # rprivate: what is mounted there later stays where it was mounted
        entry = {"destination": _DEV_SHM, "type": "bind", "source": source, "options": ["rbind", "rprivate"]}
        others.append(entry)
    spec["mounts"] = others


def _set_namespace(spec: dict[str, Any], kind: str, path: str | None) -> None:
    linux = spec["linux"]
    linux["namespaces"] = [namespace for namespace in linux["namespaces"] if namespace["type"] != kind]
    if path is not None:
        linux["namespaces"].append({"type": kind, "path": path})
    if kind == "uts":
        spec.pop("hostname", None)
