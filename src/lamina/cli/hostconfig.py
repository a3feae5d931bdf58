"""What `run` and `create` send: the flags of a container as the documents of the Engine API."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError, absolute, read_value
from lamina.cli.units import parse_duration, parse_size

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Document = dict[str, object]


_STREAMS = frozenset(("stdin", "stdout", "stderr"))


def container_config(arguments: Arguments, environment: Mapping[str, str]) -> Document:
    """The body of POST /containers/create.

    Raises:
        UsageError: a value that cannot be read.
    """
    image, *command = arguments.words
    interactive, detached = arguments.on("interactive"), arguments.on("detach")
    attached = [word.lower() for word in arguments.many("attach")]
    if not _STREAMS.issuperset(attached):
        raise UsageError("valid streams are STDIN, STDOUT and STDERR")
    every = not attached and not detached
    stdin = (interactive or "stdin" in attached) and not detached
    config: Document = {
        "Image": image,
        "Cmd": command or None,
        "Tty": arguments.on("tty"),
        "OpenStdin": interactive,
        "StdinOnce": stdin,
        "AttachStdin": stdin,
        "AttachStdout": every or "stdout" in attached,
        "AttachStderr": every or "stderr" in attached,
        "Hostname": arguments.text("hostname"),
        "Domainname": arguments.text("domainname"),
        "User": arguments.text("user"),
        "WorkingDir": arguments.text("workdir"),
        "Env": read_environment(arguments, environment),
        "Labels": labels(arguments),
    }
    _add_networks(config, host := host_config(arguments), arguments)
    _add_ports(config, host, arguments)
    config["HostConfig"] = host
    if arguments.given("entrypoint"):
        config["Entrypoint"] = [arguments.text("entrypoint")]
    if arguments.given("stop-signal"):
        config["StopSignal"] = arguments.text("stop-signal")
    if arguments.given("stop-timeout"):
        config["StopTimeout"] = arguments.number("stop-timeout")
    if health := _health(arguments):
        config["Healthcheck"] = health
    volumes: Document = {value: {} for value in arguments.many("volume") if ":" not in value}
    if "" in volumes:
        raise UsageError("invalid empty volume spec")
    if volumes:
        config["Volumes"] = volumes
    return config


def _add_networks(config: Document, host: Document, arguments: Arguments) -> None:
    """Endpoints; the first one's name, and an address that --mac-address gives it, stand where they stood when there was only one, too."""
    host["NetworkMode"], config["NetworkingConfig"] = "default", {"EndpointsConfig": {}}
    if not any(map(arguments.given, _ENDPOINT)):
        return
    from lamina.cli.networkflags import endpoints

    found = endpoints(arguments)
    host["NetworkMode"], first = next(iter(found.items()))
    if arguments.given("mac-address"):
        config["MacAddress"] = arguments.text("mac-address")
    if len(found) > 1 or first:
        config["NetworkingConfig"] = {"EndpointsConfig": found}


def _add_ports(config: Document, host: Document, arguments: Arguments) -> None:
    if not arguments.given("publish") and not arguments.given("expose"):
        return
    from lamina.cli.portflags import exposed, published

    if bindings := published(arguments):
        host["PortBindings"] = bindings
    config["ExposedPorts"] = exposed(arguments, bindings)


class UnreadableFile(UsageError):
    """A file of --env-file or --label-file is not there, or not one."""


def read_environment(arguments: Arguments, environment: Mapping[str, str]) -> list[str]:
    """--env-file, then --env, as `NAME=value`; a name alone takes the caller's value. Where the caller has none either, --env sends the
    name alone, which takes the variable away, and a line of a file says nothing."""
    lines = [_variable(line, environment) for path in arguments.many("env-file") for line in _lines(path)]
    return [line for line in lines if "=" in line] + [_variable(word, environment) for word in arguments.many("env")]


def _variable(word: str, environment: Mapping[str, str]) -> str:
    name, equals, _ = word.partition("=")
    if not name:
        raise UsageError(f"invalid environment variable: {word}")
    return f"{name}={environment[name]}" if not equals and name in environment else word


def labels(arguments: Arguments) -> dict[str, str]:
    """--label-file, then --label."""
    words = [line for path in arguments.many("label-file") for line in _lines(path)] + arguments.many("label")
    if any(not _pair(word)[0] for word in words):
        raise UsageError("invalid label: its name is empty")
    return dict(_pair(word) for word in words)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line for raw in file if (line := raw.strip("\r\n").lstrip()) and not line.startswith("#")]
    except OSError as error:
        raise UnreadableFile(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UnreadableFile(f"{path} is not UTF-8") from None
    for name, line in ((_pair(line)[0], line) for line in lines):
        if not name:
            raise UnreadableFile(f"invalid env file ({path}): no variable name on line '{line}'")
        if " " in name or "\t" in name:
            raise UnreadableFile(f"invalid env file ({path}): variable '{name}' contains whitespaces")
    return lines


def _pair(word: str, separator: str = "=") -> tuple[str, str]:
    name, _, value = word.partition(separator)
    return name, value


# Engine API field, flag, and how its text is read
_NUMBERS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("Memory", "memory", parse_size),
    ("MemoryReservation", "memory-reservation", parse_size),
    ("MemorySwap", "memory-swap", lambda text: -1 if text == "-1" else parse_size(text)),
    ("MemorySwappiness", "memory-swappiness", int),
    ("ShmSize", "shm-size", parse_size),
    ("CpuShares", "cpu-shares", int),
    ("CpuPeriod", "cpu-period", int),
    ("CpuQuota", "cpu-quota", int),
    ("CpuRealtimePeriod", "cpu-rt-period", int),
    ("CpuRealtimeRuntime", "cpu-rt-runtime", int),
    ("NanoCpus", "cpus", lambda text: round(float(text) * 1e9)),
    ("BlkioWeight", "blkio-weight", int),
    ("PidsLimit", "pids-limit", int),
    ("OomScoreAdj", "oom-score-adj", int),
)
_TEXTS = (
    ("IpcMode", "ipc"),
    ("PidMode", "pid"),
    ("UTSMode", "uts"),
    ("UsernsMode", "userns"),
    ("CgroupnsMode", "cgroupns"),
    ("CgroupParent", "cgroup-parent"),
    ("CpusetCpus", "cpuset-cpus"),
    ("CpusetMems", "cpuset-mems"),
    ("Runtime", "runtime"),
    ("VolumeDriver", "volume-driver"),
    ("ContainerIDFile", "cidfile"),
    ("Isolation", "isolation"),
)
_LISTS = (
    ("Dns", "dns"),
    ("DnsOptions", "dns-option"),
    ("DnsSearch", "dns-search"),
    ("ExtraHosts", "add-host"),
    ("GroupAdd", "group-add"),
    ("Links", "link"),
    ("VolumesFrom", "volumes-from"),
    ("DeviceCgroupRules", "device-cgroup-rule"),
)
_SWITCHES = (
    ("Privileged", "privileged"),
    ("ReadonlyRootfs", "read-only"),
    ("AutoRemove", "rm"),
    ("PublishAllPorts", "publish-all"),
    ("OomKillDisable", "oom-kill-disable"),
    ("Init", "init"),
)
_MAPS = (("Sysctls", "sysctl"), ("StorageOpt", "storage-opt"), ("Annotations", "annotation"))

# what is read by modules of its own
_ENDPOINT = ("network", "network-alias", "ip", "ip6", "link-local-ip", "mac-address", "link")
_ON_DEVICES = (
    "device",
    "gpus",
    "blkio-weight-device",
    "device-read-bps",
    "device-write-bps",
    "device-read-iops",
    "device-write-iops",
)


def host_config(arguments: Arguments) -> Document:
    """The `HostConfig` of the flags given, without networks and ports; what was not given is left to the engine."""
    config: Document = {}
    for field, name in _SWITCHES:
        if arguments.given(name):
            config[field] = arguments.on(name)
    for field, name in _TEXTS:
        if arguments.given(name):
            config[field] = arguments.text(name)
    for field, name in _LISTS:
        if arguments.given(name):
            config[field] = arguments.many(name)
    for field, name in (("CapAdd", "cap-add"), ("CapDrop", "cap-drop")):
        if arguments.given(name):
            config[field] = [_capability(word) for word in arguments.many(name)]
    for field, name in _MAPS:
        if arguments.given(name):
            config[field] = dict(_pair(word) for word in arguments.many(name))
    for field, name, read in _NUMBERS:
        if arguments.given(name):
            config[field] = read_value(name, arguments.text(name), read)
    for field, build in _BUILT:
        if (value := build(arguments)) is not None:
            config[field] = value
    config.update(_security(arguments))
    # modules that most containers have no use for, and whose loading a start would pay
    if arguments.given("mount"):
        from lamina.cli.mountflag import mounts

        config["Mounts"] = mounts(arguments)
    if any(map(arguments.given, _ON_DEVICES)):
        from lamina.cli.deviceflags import devices

        config.update(devices(arguments))
    return config


def limits(arguments: Arguments) -> Document:
    """The limits and the restart policy among the flags: what `update` sends."""
    config: Document = {field: arguments.text(name) for field, name in _TEXTS if arguments.given(name)}
    config.update({field: read_value(name, arguments.text(name), read) for field, name, read in _NUMBERS if arguments.given(name)})
    policy = _restart(arguments)
    return config | ({"RestartPolicy": policy} if policy is not None else {})


def _security(arguments: Arguments) -> Document:
    """--security-opt: profiles are files here, and `systempaths` is about two lists of the API's."""
    if not arguments.given("security-opt"):
        return {}
    words: list[str] = []
    found: Document = {}
    for word in arguments.many("security-opt"):
        name, _, value = word.partition("=")
        if word == "systempaths=unconfined":
            found = {"MaskedPaths": [], "ReadonlyPaths": []}
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            words.append(f"seccomp={_profile(value)}")
        else:
            words.append(word)
    return {"SecurityOpt": words, **found}


def _profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"opening seccomp profile ({path}) failed: {(error.strerror or str(error)).lower()}") from None
    import json  # only profiles of one's own need it

    try:
        return json.dumps(json.loads(text), separators=(",", ":"))
    except ValueError as error:
        raise UsageError(f"compacting json for seccomp profile ({path}) failed: {error}") from None


def _capability(word: str) -> str:
    name = word.upper()
    return name if name == "ALL" else f"CAP_{name.removeprefix('CAP_')}"


def _binds(arguments: Arguments) -> object:
    # As docker's, which keeps them in a map: what a script says twice is meant once.
    pairs = (_pair(word, ":") for word in dict.fromkeys(arguments.many("volume")) if ":" in word)
    return [f"{absolute(source)}:{rest}" for source, rest in pairs] or None


def _tmpfs(arguments: Arguments) -> object:
    return dict(_pair(word, ":") for word in arguments.many("tmpfs")) or None


def _restart(arguments: Arguments) -> object:
    if not arguments.given("restart"):
        return None
    name, _, count = arguments.text("restart").partition(":")
    if count and not count.isdecimal():
        raise UsageError("invalid restart policy format: maximum retry count must be an integer")
    if name not in ("", "no") and arguments.given("rm") and arguments.on("rm"):
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _log(arguments: Arguments) -> object:
    if not arguments.given("log-driver") and not arguments.given("log-opt"):
        return None
    if arguments.text("log-driver") == "none" and arguments.given("log-opt"):
        raise UsageError("invalid logging opts for driver none")
    return {"Type": arguments.text("log-driver"), "Config": dict(_pair(word) for word in arguments.many("log-opt"))}


def ulimits(arguments: Arguments) -> list[dict[str, object]]:
    """--ulimit as the API has it.

    Raises:
        UsageError: one is malformed.
    """
    found: list[dict[str, object]] = []
    for word in arguments.many("ulimit"):
        name, _, limits = word.partition("=")
        soft, _, hard = limits.partition(":")
        try:
            found.append({"Name": name, "Soft": int(soft), "Hard": int(hard or soft)})
        except ValueError:
            raise UsageError(f"invalid ulimit argument: {word}") from None
    return found


_BUILT: tuple[tuple[str, Callable[[Arguments], object]], ...] = (
    ("Binds", _binds),
    ("Tmpfs", _tmpfs),
    ("RestartPolicy", _restart),
    ("LogConfig", _log),
    ("Ulimits", lambda arguments: ulimits(arguments) or None),
)
_HEALTH_TIMES = (
    ("Interval", "health-interval"),
    ("Timeout", "health-timeout"),
    ("StartPeriod", "health-start-period"),
    ("StartInterval", "health-start-interval"),
)


def _health(arguments: Arguments) -> Document:
    if arguments.on("no-healthcheck"):
        if any(map(arguments.given, ("health-cmd", "health-retries", *(name for _, name in _HEALTH_TIMES)))):
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    found: Document = {}
    if arguments.given("health-cmd"):
        found["Test"] = ["CMD-SHELL", arguments.text("health-cmd")]
    for key, name in _HEALTH_TIMES:
        if arguments.given(name):
            found[key] = read_value(name, arguments.text(name), parse_duration)
    if arguments.given("health-retries"):
        found["Retries"] = arguments.number("health-retries")
    return found
