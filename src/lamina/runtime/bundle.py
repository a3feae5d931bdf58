"""Docker's default confinement as an OCI runtime specification: pure functions from what was asked to a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lamina.linux.capability import NAMES
from lamina.runtime import apparmor
from lamina.runtime.initlayer import EtcFiles
from lamina.runtime.launch import Limits, Mount
from lamina.runtime.profiles import InvalidOption, filter_of
from lamina.runtime.syscalls import default_filter

CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)
MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_DEVICE_RULES: tuple[tuple[str, int | None, int | None, str], ...] = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),  # making nodes is allowed, opening them is not
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),  # null zero full random urandom
    ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, None, "rwm"),  # tty console ptmx pts
)
_INIT = "/sbin/docker-init"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


_USER = {"uid": 0, "gid": 0, "additionalGids": [0]}


def default_spec(
    *,
    args: Sequence[str],
    env: Sequence[str] = (),
    cwd: str = "/",
    hostname: str = "",
    tty: bool = False,
    readonly: bool = False,
    privileged: bool = False,
    cap_add: Sequence[str] = (),
    cap_drop: Sequence[str] = (),
    network: str = "none",
    netns: str = "",
    mounts: Sequence[Mount] = (),
    etc: EtcFiles | None = None,
    limits: Limits | None = None,
    devices: Sequence[Mapping[str, Any]] = (),
    device_rules: Sequence[Mapping[str, Any]] = (),
    security: Sequence[str] = (),
    sysctls: Mapping[str, str] | None = None,
    cgroup_path: str = "",
    shm_size: int = 64 << 20,
    oom_score_adj: int = 0,
    init: str = "",
    machine: str = "x86_64",
    release: str = "6.0",
    ids: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The specification of one container.

    `env` are `NAME=value`; PATH, HOSTNAME and (with a terminal) TERM are put in front where absent, HOME is set at start. `network` is none
    or host; `netns` is the path of a network namespace to join, and wins. `security` are Docker's --security-opt (no-new-privileges,
    seccomp=unconfined|<JSON>, systempaths=unconfined). `init` is the host path of a static init (tini) bound at /sbin/docker-init and run
    as PID 1. `devices` are OCI `linux.devices` with an optional `access` (rwm), `device_rules` further OCI `linux.resources.devices`;
    `machine` and `release` are uname's words, for the filter. `ids` are the first id on the host and how many the container's user
    namespace has; None: the host's own.

    Raises:
        InvalidOption: an unknown capability, security option or rlimit.
    """
    held = capability_set(cap_add, cap_drop, privileged=privileged)
    chosen = _security(security, held, machine, release, privileged=privileged)
    argv, limits = [_INIT, "--", *args] if init else list(args), limits or Limits()
    seen = _environment(env, hostname, tty=tty)
    process = {"terminal": tty, "user": dict(_USER), "args": argv, "env": seen, "cwd": cwd or "/", "oomScoreAdj": oom_score_adj}
    linux = {
        "namespaces": [*_namespace_list(network, netns), *([{"type": "user"}] if ids else [])],
        **_mappings(ids),
        "sysctl": {**_default_sysctls(network, netns, ids), **(sysctls or {})},
        "devices": [{key: value for key, value in device.items() if key != "access"} for device in devices],
        "resources": {**resources(limits), "devices": [*_device_rules(devices, privileged=privileged), *device_rules]},
    }
    return {
        "ociVersion": "1.1.0",
        "hostname": hostname,
        "root": {"path": "rootfs", "readonly": readonly},
        "process": {**process, **_privileges(held, chosen), "rlimits": _rlimits(limits)},
        "mounts": _mount_list(mounts, etc, init, shm_size, privileged=privileged, cgroups=chosen["writable_cgroups"]),
        "linux": {"cgroupsPath": cgroup_path, **linux, **_hidden(chosen)},
    }


def _privileges(held: Sequence[str], chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "capabilities": _capability_document(held),
        "noNewPrivileges": chosen["no_new_privileges"],
        "apparmorProfile": chosen["apparmor"],
    }


def _hidden(chosen: Mapping[str, Any]) -> dict[str, Any]:
    covered = chosen["system_paths"]
    return {
        "seccomp": chosen["seccomp"],
        "maskedPaths": list(MASKED) if covered else [],
        "readonlyPaths": list(READ_ONLY) if covered else [],
    }


def _rlimits(limits: Limits) -> list[dict[str, Any]]:
    return [{"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard} for name, (soft, hard) in limits.rlimits.items()]


def capability_set(add: Iterable[str], drop: Iterable[str], *, privileged: bool = False) -> list[str]:
    """Docker's --cap-add and --cap-drop over the default set, ALL included, without CAP_, in the order of their numbers."""
    wanted = {_capability(name) for name in add}
    unwanted = {_capability(name) for name in drop}
    if privileged:
        return list(NAMES)
    held = set(NAMES) if "ALL" in wanted else set() if "ALL" in unwanted else set(CAPABILITIES)
    held |= wanted - {"ALL"}
    held -= unwanted - {"ALL"}
    return [name for name in NAMES if name in held]


def _capability(name: str) -> str:
    plain = name.upper().removeprefix("CAP_")
    if plain != "ALL" and plain not in NAMES:
        raise InvalidOption(f"invalid capability: {name[:100]!r}")
    return plain


def _capability_document(held: Sequence[str]) -> dict[str, list[str]]:
    names = [f"CAP_{name}" for name in held]
    return {"bounding": names, "effective": names, "permitted": names, "inheritable": [], "ambient": []}


def _environment(env: Sequence[str], hostname: str, *, tty: bool) -> list[str]:
    default = {"PATH": PATH, "HOSTNAME": hostname, **({"TERM": "xterm"} if tty else {})}
    given = {entry.partition("=")[0] for entry in env}
    return [f"{name}={value}" for name, value in default.items() if name not in given] + [entry for entry in env if "=" in entry]


def _security(words: Sequence[str], held: Sequence[str], machine: str, release: str, *, privileged: bool) -> dict[str, Any]:
    """Docker's --security-opt, on top of what is the default for these capabilities."""
    chosen: dict[str, Any] = {
        "no_new_privileges": False,
        "apparmor": "" if privileged else apparmor.DEFAULT,
        "seccomp": None if privileged else default_filter(held, machine),
        "system_paths": not privileged,
        "writable_cgroups": privileged,
    }
    for word in words:
        key, separator, value = word.partition("=") if "=" in word else word.partition(":")
        match key, value:
            case "no-new-privileges", ("" | "true" | "false" | "1" | "0"):
                chosen["no_new_privileges"] = value not in ("false", "0")
            case "writable-cgroups", ("" | "true" | "false" | "1" | "0"):
                chosen["writable_cgroups"] = value not in ("false", "0")
            case "disable", "":
                continue  # label=disable, as older clients say it
            case "seccomp", "unconfined":
                chosen["seccomp"] = None
            case "seccomp", "builtin":
                chosen["seccomp"] = default_filter(held, machine)
            case "seccomp", _ if value.lstrip().startswith("{"):
                chosen["seccomp"] = filter_of(value, held, machine, release)
            case "systempaths", "unconfined":
                chosen["system_paths"] = False
            case "apparmor", _ if separator:
                chosen["apparmor"] = "" if value == "unconfined" else value
            case "label", _:
                continue  # SELinux: this engine sets no labels
            case _:
                raise InvalidOption(f'invalid --security-opt 2: "{word[:100]}"')
    return chosen


def check_security(words: Sequence[str]) -> None:
    """Refuse what `default_spec` would refuse of these.

    Raises:
        InvalidOption: one is unknown or malformed.
    """
    _security(words, (), "x86_64", "6.0", privileged=True)


def _mount_list(
    mounts: Sequence[Mount], etc: EtcFiles | None, init: str, shm_size: int, *, privileged: bool, cgroups: bool
) -> list[dict[str, Any]]:
    """The defaults, then what was asked for, parents before children; asked-for mounts replace defaults at the same place, and a /dev that
    is asked for has all that is below it, too."""
    ro = [] if privileged else ["ro"]
    found = [
        _entry("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _entry("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _entry("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _entry("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", *ro),
        _entry("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", *([] if cgroups else ["ro"])),
        _entry("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _entry("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"),
    ]
    if etc:
        pairs = (("/etc/resolv.conf", etc.resolv_conf), ("/etc/hostname", etc.hostname), ("/etc/hosts", etc.hosts))
        found += [_entry(target, "bind", source, "rbind", "rprivate") for target, source in pairs if source]
    if init:
        found.append(_entry(_INIT, "bind", init, "bind", "ro"))
    asked = [_asked(mount) for mount in mounts]
    targets = {entry["destination"] for entry in asked}
    own = ("/dev/",) if "/dev" in targets else ()
    kept = [entry for entry in found if entry["destination"] not in targets and not entry["destination"].startswith(own)]
    return sorted([*kept, *asked], key=lambda entry: len([part for part in entry["destination"].split("/") if part]))


def _entry(target: str, kind: str, source: str, *words: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(words)}


def _asked(mount: Mount) -> dict[str, Any]:
    target = "/" + mount.target.strip("/")
    words = list(mount.options)
    if mount.kind == "tmpfs":
        words += ["ro"] if mount.readonly else []
        # What was asked for comes last: it takes these defaults of Docker's back where it says the opposite.
        return _entry(target, "tmpfs", "tmpfs", "noexec", "nosuid", "nodev", *words)
    propagation = [] if {word.removeprefix("r") for word in words} & {"private", "slave", "shared"} else ["rprivate"]
    # Read-only is meant for what is mounted below the source as well, as in Docker since 25, unless a word says how.
    fixed = ["rro"] if mount.readonly and not {"ro", "rro"} & set(words) else []
    return _entry(target, "bind", mount.source, *([] if "bind" in words else ["rbind"]), *propagation, *words, *fixed)


def _namespace_list(network: str, netns: str) -> list[dict[str, str]]:
    kinds = [{"type": kind} for kind in ("mount", "uts", "pid", "ipc", "cgroup")]
    if netns:
        return [*kinds, {"type": "network", "path": netns}]
    return kinds if network == "host" else [*kinds, {"type": "network"}]


def _mappings(ids: tuple[int, int] | None) -> dict[str, Any]:
    if ids is None:
        return {}
    return {key: [{"containerID": 0, "hostID": ids[0], "size": ids[1]}] for key in ("uidMappings", "gidMappings")}


def _default_sysctls(network: str, netns: str, ids: tuple[int, int] | None) -> dict[str, str]:
    """As Docker since 20.10.0: in a network of its own anybody may use low ports and ping."""
    if network == "host" and not netns:
        return {}
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"0 {ids[1] - 1 if ids else 2147483647}"}


def _device_rules(devices: Sequence[Mapping[str, Any]], *, privileged: bool) -> list[dict[str, Any]]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}, *default_device_rules()]
    for device in devices:
        rules.append(
            {
                "allow": True,
                "type": device["type"],
                "major": device["major"],
                "minor": device["minor"],
                "access": device.get("access", "rwm"),
            }
        )
    return rules


def default_device_rules() -> list[dict[str, Any]]:
    """What every container may do: make nodes, and open those it has by default (runtime-spec config-linux.md "Default Devices")."""
    rules = []
    for kind, major, minor, access in _DEVICE_RULES:
        numbers = {key: value for key, value in (("major", major), ("minor", minor)) if value is not None}
        rules.append({"allow": True, "type": kind, **numbers, "access": access})
    return rules


def resources(limits: Limits) -> dict[str, Any]:
    """Docker's limits as OCI `linux.resources`, devices left out."""
    memory = {"limit": limits.memory, "swap": limits.memory_swap, "reservation": limits.memory_reservation}
    cpu: dict[str, Any] = {"shares": limits.cpu_shares, "quota": limits.cpu_quota, "period": limits.cpu_period}
    if limits.nano_cpus:
        cpu |= {"period": 100_000, "quota": limits.nano_cpus // 10_000}
    cpu |= {"realtimePeriod": limits.realtime_period, "realtimeRuntime": limits.realtime_runtime}
    cpu |= {"cpus": limits.cpuset_cpus, "mems": limits.cpuset_mems}
    found: dict[str, Any] = {
        "memory": {
            **{key: value for key, value in memory.items() if value},
            **({} if limits.swappiness is None else {"swappiness": limits.swappiness}),
            **({"disableOOMKiller": True} if limits.oom_kill_disable else {}),
        },
        "cpu": {key: value for key, value in cpu.items() if value},
        "pids": {"limit": limits.pids} if limits.pids else {},
        "blockIO": _block_io(limits),
    }
    return {key: value for key, value in found.items() if value}


def _block_io(limits: Limits) -> dict[str, Any]:
    def devices(entries: Sequence[tuple[int, int, int]], key: str) -> list[dict[str, int]]:
        return [{"major": major, "minor": minor, key: value} for major, minor, value in entries]

    throttles = {key: devices(entries, "rate") for key, entries in limits.throttles.items() if entries}
    weight: dict[str, Any] = {"weight": limits.blkio_weight} if limits.blkio_weight else {}
    return {**weight, **({"weightDevice": devices(limits.weights, "weight")} if limits.weights else {}), **throttles}


def exec_process(
    spec: Mapping[str, Any],
    *,
    args: Sequence[str],
    env: Sequence[str] = (),
    cwd: str = "",
    tty: bool = False,
    privileged: bool = False,
) -> dict[str, Any]:
    """The OCI process of one more command in the container of `spec`; `env` is added to the container's (a name without `=` takes one
    away), `cwd` defaults to its."""
    own = spec["process"]
    given = {entry.partition("=")[0] for entry in env}
    kept = [entry for entry in own["env"] if entry.partition("=")[0] not in given]
    if tty and "TERM" not in given and not any(entry.startswith("TERM=") for entry in kept):
        kept.append("TERM=xterm")
    return {
        **own,
        "terminal": tty,
        "args": list(args),
        "env": [*kept, *(entry for entry in env if "=" in entry)],
        "cwd": cwd or own["cwd"],
        "capabilities": _capability_document(NAMES) if privileged else own["capabilities"],
        "apparmorProfile": "" if privileged else own.get("apparmorProfile", ""),
    }
