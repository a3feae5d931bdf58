"""Documents that clients send. A field that is null counts as absent; unknown fields are passed over."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

Strings = list[str] | None
Words = dict[str, str] | None
Labels = dict[str, str | None] | None
Object = dict[str, Any] | None
Side = Annotated[int, Meta(ge=0, le=65535)]
"""Of a terminal, in characters."""


class AuthConfig(Struct, frozen=True):
    """Credentials for a registry (the API's AuthConfig)."""

    username: str = ""
    password: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class BindOptions(Struct, frozen=True, rename="pascal"):
    """What only a bind mount has."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Struct, frozen=True, rename="pascal"):
    """A driver of volumes, and its options."""

    name: str = ""
    options: Words = None


class VolumeOptions(Struct, frozen=True, rename="pascal"):
    """What only the mount of a volume has."""

    no_copy: bool = False
    labels: Words = None
    driver_config: DriverConfig | None = None
    subpath: str = ""


class TmpfsOptions(Struct, frozen=True, rename="pascal"):
    """What only a tmpfs has; an option is a name, or a name and a value."""

    size_bytes: int = 0
    mode: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] = 0
    options: list[list[str]] | None = None


class ImageOptions(Struct, frozen=True, rename="pascal"):
    """What only the mount of an image has."""

    subpath: str = ""


class Mount(Struct, frozen=True, rename="pascal"):
    """One entry of HostConfig.Mounts."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None


class RestartPolicy(Struct, frozen=True, rename="pascal"):
    """When an exited container is started again."""

    name: str = ""
    maximum_retry_count: int = 0


class Ulimit(Struct, frozen=True, rename="pascal"):
    """One resource limit."""

    name: str = ""
    soft: int = 0
    hard: int = 0


class PortBinding(Struct, frozen=True, rename="pascal"):
    """Where on the host a port is published."""

    host_ip: str = ""
    host_port: str = ""


class Device(Struct, frozen=True, rename="pascal"):
    """A device of the host's."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Struct, frozen=True, rename="pascal"):
    """Devices that a driver chooses (GPUs)."""

    driver: str = ""
    count: int = 0
    device_ids: Strings = field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: Words = None


class Weight(Struct, frozen=True, rename="pascal"):
    """A device's share."""

    path: str = ""
    weight: int = 0


class Rate(Struct, frozen=True, rename="pascal"):
    """The most that is read from a device, or written to it, in a second."""

    path: str = ""
    rate: int = 0


Rates = list[Rate] | None


class LogConfig(Struct, frozen=True, rename="pascal"):
    """Where a container's log goes."""

    type: str = ""
    config: Words = None


class HostConfig(Struct, frozen=True, rename="pascal"):
    """The types of the API's HostConfig, which is checked for them before it goes on."""

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
    tmpfs: Words = None
    sysctls: Words = None
    port_bindings: dict[str, list[PortBinding] | None] | None = None
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
    log_config: LogConfig | None = None
    volumes_from: Strings = None
    volume_driver: str = ""
    links: Strings = None
    dns_options: Strings = None
    dns_search: Strings = None
    annotations: Words = None
    storage_opt: Words = None
    masked_paths: Strings = None
    readonly_paths: Strings = None
    console_size: list[Annotated[int, Meta(ge=0)]] | None = None
    cgroup: str = ""
    cgroup_parent: str = ""
    cgroupns_mode: str = ""
    ipc_mode: str = ""
    pid_mode: str = ""
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    isolation: str = ""
    runtime: str = ""
    container_id_file: str = field(default="", name="ContainerIDFile")
    devices: list[Device] | None = None
    device_cgroup_rules: Strings = None
    device_requests: list[DeviceRequest] | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpu_count: int = 0
    cpu_percent: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    kernel_memory: int = 0
    kernel_memory_tcp: int = field(default=0, name="KernelMemoryTCP")
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")
    blkio_weight: Annotated[int, Meta(ge=0, le=65535)] = 0
    blkio_weight_device: list[Weight] | None = None
    blkio_device_read_bps: Rates = None
    blkio_device_write_bps: Rates = None
    blkio_device_read_iops: Rates = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: Rates = field(default=None, name="BlkioDeviceWriteIOps")


class HealthConfig(Struct, frozen=True, rename="pascal"):
    """How a container's health is looked after; times in nanoseconds."""

    test: Strings = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


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
    healthcheck: HealthConfig | None = None
    mac_address: str = ""
    network_disabled: bool = False
    on_build: Strings = None
    args_escaped: bool = False


class EndpointIPAMConfig(Struct, frozen=True):
    """The addresses that a container asks for."""

    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: Strings = field(default=None, name="LinkLocalIPs")


class EndpointSettings(Struct, frozen=True, rename="pascal"):
    """A container on a network: what is asked for, and what `inspect` shows besides, which clients send back."""

    ipam_config: EndpointIPAMConfig | None = field(default=None, name="IPAMConfig")
    links: Strings = None
    aliases: Strings = None
    mac_address: str = ""
    driver_opts: Words = None
    gw_priority: int = 0
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: Strings = field(default=None, name="DNSNames")


class NetworkingConfig(Struct, frozen=True, rename="pascal"):
    """The networks of a new container, by name or ID."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateContainer(ContainerConfig, frozen=True, rename="pascal"):
    """The body of POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


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
    console_size: list[Side] | None = None


class ExecStart(Struct, frozen=True, rename="pascal"):
    """The body of POST /exec/{id}/start. `console_size` is (height, width)."""

    detach: bool = False
    tty: bool = False
    console_size: list[Side] | None = None


class VolumeCreate(Struct, frozen=True, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: Words = None
    labels: Words = None
    cluster_volume_spec: Object = None


def _go_name(name: str) -> str:
    """Go's spelling of a field: `EnableIPv4`, `IPAM`."""
    special = {"ipam": "IPAM", "ipv4": "IPv4", "ipv6": "IPv6"}
    return "".join(special.get(word, word.capitalize()) for word in name.split("_"))


class IpamConfig(Struct, frozen=True, rename="pascal", omit_defaults=True):
    """A subnet of a network."""

    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: Words = None
    aux_address: Words = None


class Ipam(Struct, frozen=True, rename="pascal"):
    """Where a network's addresses come from."""

    driver: str = "default"
    options: Words = None
    config: list[IpamConfig] | None = None


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
    options: Words = None
    labels: Words = None


class OciPlatform(Struct, frozen=True):
    """The parameter `platform`, where it is JSON."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class NetworkConnect(Struct, frozen=True, rename="pascal"):
    """The body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(Struct, frozen=True, rename="pascal"):
    """The body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False


def _ready(kinds: list[type[Struct]]) -> None:
    """Have msgspec look at the documents' types now: where two threads decode the first document of a type at once, it crashes the
    process (seen with 0.22)."""
    for kind in kinds:
        msgspec.json.Decoder(kind)


_ready([kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct])
