"""Documents that clients send. A field that is null counts as absent; unknown fields are passed over."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

Strings = list[str] | None
Labels = dict[str, str | None] | None
Object = dict[str, Any] | None


class AuthConfig(Struct, frozen=True):
    """Credentials for a registry (the API's AuthConfig)."""

    username: str = ""
    password: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class Mount(Struct, frozen=True, rename="pascal"):
    """One entry of HostConfig.Mounts."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: Object = None
    volume_options: Object = None
    tmpfs_options: Object = None
    image_options: Object = None


class RestartPolicy(Struct, frozen=True, rename="pascal"):
    """When an exited container is started again."""

    name: str = ""
    maximum_retry_count: int = 0


class Ulimit(Struct, frozen=True, rename="pascal"):
    """One resource limit."""

    name: str = ""
    soft: int = 0
    hard: int = 0


class HostConfig(Struct, frozen=True, rename="pascal"):
    """What of the API's HostConfig is checked for its type before it goes on."""

    binds: Strings = None
    mounts: list[Mount] | None = None
    network_mode: str = ""
    auto_remove: bool = False
    privileged: bool = False
    readonly_rootfs: bool = False
    publish_all_ports: bool = False
    init: bool | None = None
    cap_add: Strings = None
    cap_drop: Strings = None
    group_add: Strings = None
    dns: Strings = None
    extra_hosts: Strings = None
    security_opt: Strings = None
    tmpfs: dict[str, str] | None = None
    sysctls: dict[str, str] | None = None
    port_bindings: Object = None
    restart_policy: RestartPolicy | None = None
    ulimits: list[Ulimit] | None = None
    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    pids_limit: int | None = None
    shm_size: int = 0
    oom_score_adj: int = 0
    log_config: Object = None


class ContainerConfig(Struct, frozen=True, rename="pascal"):
    """What of the API's ContainerConfig is checked for its type before it goes on."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: Object = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: Strings = None
    cmd: list[str] | str | None = None
    entrypoint: list[str] | str | None = None
    image: str = ""
    volumes: Object = None
    working_dir: str = ""
    labels: Labels = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: Strings = None
    healthcheck: Object = None


class CreateContainer(ContainerConfig, frozen=True, rename="pascal"):
    """The body of POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: Object = None


class ExecConfig(Struct, frozen=True, rename="pascal"):
    """The body of POST /containers/{id}/exec."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    privileged: bool = False
    cmd: Strings = None
    env: Strings = None
    user: str = ""
    working_dir: str = ""
    detach_keys: str = ""
    console_size: list[int] | None = None


class ExecStart(Struct, frozen=True, rename="pascal"):
    """The body of POST /exec/{id}/start. `console_size` is (height, width)."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class VolumeCreate(Struct, frozen=True, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: Object = None


def _go_name(name: str) -> str:
    """Go's spelling of a field: `EnableIPv4`, `IPAM`."""
    special = {"ipam": "IPAM", "ipv4": "IPv4", "ipv6": "IPv6"}
    return "".join(special.get(word, word.capitalize()) for word in name.split("_"))


class Ipam(Struct, frozen=True, rename="pascal"):
    """Where a network's addresses come from."""

    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[dict[str, Any]] | None = None


class ConfigReference(Struct, frozen=True, rename="pascal"):
    """The configuration network that a network is made like."""

    network: str = ""


class NetworkCreate(Struct, frozen=True, rename=_go_name):
    """The body of POST /networks/create."""

    name: str = ""
    driver: str = "bridge"
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: Ipam | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkConnect(Struct, frozen=True, rename="pascal"):
    """The body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: Object = None


class NetworkDisconnect(Struct, frozen=True, rename="pascal"):
    """The body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False


def _ready(kinds: list[type[Struct]]) -> None:
    """Have msgspec look at the documents' types now: where two threads decode the first document of a type at one time, it crashes the
    process (seen with 0.22)."""
    for kind in kinds:
        msgspec.json.Decoder(kind)


_ready([kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct])
