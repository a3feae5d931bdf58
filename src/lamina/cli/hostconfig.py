"""What `run` and `create` send: the flags of a container as the documents of the Engine API."""

from __future__ import annotations

import posix

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.units import parse_duration, parse_size
from lamina.errors import InvalidArgument

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
        "HostConfig": host_config(arguments),
        "NetworkingConfig": _networking(arguments),
    }
    if arguments.given("entrypoint"):
        config["Entrypoint"] = [arguments.text("entrypoint")]
    for key, name in (("StopSignal", "stop-signal"), ("MacAddress", "mac-address")):
        if arguments.given(name):
            config[key] = arguments.text(name)
    if arguments.given("stop-timeout"):
        config["StopTimeout"] = arguments.number("stop-timeout")
    if health := _health(arguments):
        config["Healthcheck"] = health
    volumes: Document = {value: {} for value in arguments.many("volume") if ":" not in value}
    if volumes:
        config["Volumes"] = volumes
    exposed: Document = {_with_protocol(port): {} for port in [*arguments.many("expose"), *_published(arguments)]}
    if exposed:
        config["ExposedPorts"] = exposed
    return config


def read_environment(arguments: Arguments, environment: Mapping[str, str]) -> list[str]:
    """--env-file, then --env; a name alone takes the caller's value, or unsets it in the image's."""
    words = [line for path in arguments.many("env-file") for line in _lines(path)] + arguments.many("env")
    found = []
    for word in words:
        name, equals, _ = word.partition("=")
        if not name:
            raise UsageError(f"invalid environment variable: {word}")
        if equals:
            found.append(word)
        elif name in environment:
            found.append(f"{name}={environment[name]}")
    return found


def labels(arguments: Arguments) -> dict[str, str]:
    """--label-file, then --label."""
    words = [line for path in arguments.many("label-file") for line in _lines(path)] + arguments.many("label")
    if any(not _pair(word)[0] for word in words):
        raise UsageError("invalid label: its name is empty")
    return dict(_pair(word) for word in words)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line for raw in file if (line := raw.strip("\r\n").lstrip()) and not line.startswith("#")]
    except OSError as error:
        raise UsageError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None


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


def host_config(arguments: Arguments) -> Document:
    """The `HostConfig` of the flags given; what was not given is left to the engine."""
    config: Document = {"NetworkMode": _network(arguments)}
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
            config[field] = _read(name, arguments.text(name), read)
    for field, build in _BUILT:
        if (value := build(arguments)) is not None:
            config[field] = value
    config.update(_security(arguments))
    return config


def limits(arguments: Arguments) -> Document:
    """The limits and the restart policy among the flags: what `update` sends."""
    config: Document = {field: arguments.text(name) for field, name in _TEXTS if arguments.given(name)}
    config.update({field: _read(name, arguments.text(name), read) for field, name, read in _NUMBERS if arguments.given(name)})
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


def _read(name: str, text: str, read: Callable[[str], object]) -> object:
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise UsageError(f"invalid argument {text!r} for --{name}: it takes a number") from None
    except InvalidArgument as error:
        raise UsageError(f"invalid argument {text!r} for --{name}: {error.hint or error.message}") from None


def _capability(word: str) -> str:
    name = word.upper()
    return name if name == "ALL" else f"CAP_{name.removeprefix('CAP_')}"


def _binds(arguments: Arguments) -> list[str] | None:
    binds = []
    for word in arguments.many("volume"):
        if ":" in word:
            source, rest = word.split(":", 1)
            # a path that starts with a dot is relative to us, as in docker run
            binds.append(f"{_absolute(source)}:{rest}" if source.startswith(".") else word)
    return binds or None


def _absolute(path: str) -> str:
    parts: list[str] = []
    for part in f"{posix.getcwd()}/{path}".split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


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
    return {"Type": arguments.text("log-driver"), "Config": dict(_pair(word) for word in arguments.many("log-opt"))}


def _devices(arguments: Arguments) -> object:
    found = []
    for word in arguments.many("device"):
        host, *rest = word.split(":")
        access = rest.pop() if rest and rest[-1] and set(rest[-1]) <= set("rwm") else "rwm"
        found.append({"PathOnHost": host, "PathInContainer": rest[0] if rest else host, "CgroupPermissions": access})
    return found or None


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


def _throttle(name: str, read: Callable[[str], int]) -> Callable[[Arguments], object]:
    return lambda arguments: (
        [{"Path": path, "Rate": _read(name, rate, read)} for path, rate in (_pair(word, ":") for word in arguments.many(name))] or None
    )


def _weights(arguments: Arguments) -> object:
    name = "blkio-weight-device"
    pairs = [_pair(word, ":") for word in arguments.many(name)]
    return [{"Path": path, "Weight": _read(name, weight, int)} for path, weight in pairs] or None


def _mounts(arguments: Arguments) -> object:
    return [_mount(word) for word in arguments.many("mount")] or None


def _mount(word: str) -> Document:
    mount: Document = {"Type": "volume"}
    options: dict[str, dict[str, object]] = {"BindOptions": {}, "VolumeOptions": {}, "TmpfsOptions": {}}
    for field in word.split(","):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        truth = not equals or value.lower() in ("1", "true")
        if key == "type":
            mount["Type"] = value.lower()
        elif key in ("source", "src"):
            mount["Source"] = _absolute(value) if value.startswith(".") else value
        elif key in ("target", "dst", "destination"):
            mount["Target"] = value
        elif key in ("readonly", "ro"):
            mount["ReadOnly"] = truth
        elif key == "bind-propagation":
            options["BindOptions"]["Propagation"] = value
        elif key == "bind-nonrecursive":
            options["BindOptions"]["NonRecursive"] = truth
        elif key == "bind-recursive":
            options["BindOptions"].update(_recursive(word, value))
        elif key == "volume-label":
            options["VolumeOptions"].setdefault("Labels", {})[value.partition("=")[0]] = value.partition("=")[2]  # type: ignore[index]
        elif key == "volume-opt":
            driver = options["VolumeOptions"].setdefault("DriverConfig", {})
            driver.setdefault("Options", {})[value.partition("=")[0]] = value.partition("=")[2]  # type: ignore[attr-defined]
        elif key == "volume-subpath":
            options["VolumeOptions"]["Subpath"] = value
        elif key == "image-subpath":
            options.setdefault("ImageOptions", {})["Subpath"] = value
        elif key == "volume-nocopy":
            options["VolumeOptions"]["NoCopy"] = truth
        elif key == "volume-driver":
            options["VolumeOptions"]["DriverConfig"] = {"Name": value}
        elif key == "tmpfs-size":
            options["TmpfsOptions"]["SizeBytes"] = parse_size(value)
        elif key == "tmpfs-mode":
            options["TmpfsOptions"]["Mode"] = int(value, 8)
        else:
            raise UsageError(f"invalid argument {word!r} for --mount: unexpected key {key!r}")
    if not mount.get("Target"):
        raise UsageError(f"invalid argument {word!r} for --mount: target is required")
    return mount | {name: value for name, value in options.items() if value}


_RECURSIVE: dict[str, dict[str, object]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def _recursive(word: str, value: str) -> dict[str, object]:
    if value not in _RECURSIVE:
        raise UsageError(f"invalid argument {word!r} for --mount: bind-recursive is one of {', '.join(_RECURSIVE)}")
    return _RECURSIVE[value]


def _requests(arguments: Arguments) -> object:
    """--gpus: `all`, a number, or `count=…,device=…,driver=…,capabilities=…`."""
    found: list[Document] = []
    for word in arguments.many("gpus"):
        request: Document = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
        for field in word.split(","):
            key, equals, value = field.partition("=")
            if not equals:
                key, value = "count", key
            if key == "count":
                request["Count"] = -1 if value == "all" else _read("gpus", value, int)
            elif key == "device":
                request["DeviceIDs"] = value.split(",")
            elif key == "driver":
                request["Driver"] = value
            elif key == "capabilities":
                request["Capabilities"] = [["gpu", *value.split(",")]]
            else:
                raise UsageError(f"invalid argument {word!r} for --gpus: unexpected key {key!r}")
        found.append(request)
    return found or None


def _ports(arguments: Arguments) -> object:
    published = _published(arguments)
    return published or None


def _published(arguments: Arguments) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for word in arguments.many("publish"):
        for port, binding in _publish(word):
            found.setdefault(port, []).append(binding)
    return found


def _publish(word: str) -> list[tuple[str, dict[str, str]]]:
    """`[[address:]host:]container[/protocol]`, each port a range perhaps."""
    text, _, protocol = word.partition("/")
    rest, _, inside = text.rpartition(":")
    address, _, outside = rest.rpartition(":")
    low, high = _range(inside, word)
    first, last = _range(outside, word) if outside else (0, 0)
    if outside and last - first != high - low and low != high:
        raise UsageError(f"invalid ranges specified for container and host ports: {word}")
    rows = []
    for offset in range(high - low + 1):
        host = "" if not outside else f"{first}-{last}" if low == high and first != last else str(first + offset)
        rows.append((f"{low + offset}/{protocol or 'tcp'}", {"HostIp": address.strip("[]"), "HostPort": host}))
    return rows


def _range(text: str, word: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdecimal() or not (high or low).isdecimal() or not 0 < int(low) <= int(high or low) < 65536:
        raise UsageError(f"invalid port: {word}")
    return int(low), int(high or low)


def _with_protocol(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"


_BUILT: tuple[tuple[str, Callable[[Arguments], object]], ...] = (
    ("Binds", _binds),
    ("Tmpfs", _tmpfs),
    ("RestartPolicy", _restart),
    ("LogConfig", _log),
    ("Devices", _devices),
    ("Ulimits", lambda arguments: ulimits(arguments) or None),
    ("Mounts", _mounts),
    ("DeviceRequests", _requests),
    ("PortBindings", _ports),
    ("BlkioWeightDevice", _weights),
    ("BlkioDeviceReadBps", _throttle("device-read-bps", parse_size)),
    ("BlkioDeviceWriteBps", _throttle("device-write-bps", parse_size)),
    ("BlkioDeviceReadIOps", _throttle("device-read-iops", int)),
    ("BlkioDeviceWriteIOps", _throttle("device-write-iops", int)),
)


def _network(arguments: Arguments) -> str:
    named = [word for word in arguments.many("network") if word]
    return named[0] if named else "default"


def _networking(arguments: Arguments) -> Document:
    addresses: Document = {
        key: arguments.text(name) for key, name in (("IPv4Address", "ip"), ("IPv6Address", "ip6")) if arguments.given(name)
    }
    if arguments.given("link-local-ip"):
        addresses["LinkLocalIPs"] = arguments.many("link-local-ip")
    endpoint: Document = {"IPAMConfig": addresses} if addresses else {}
    if arguments.given("network-alias"):
        endpoint["Aliases"] = arguments.many("network-alias")
    return {"EndpointsConfig": {_network(arguments): endpoint} if endpoint else {}}


def _health(arguments: Arguments) -> Document:
    if arguments.on("no-healthcheck"):
        return {"Test": ["NONE"]}
    found: Document = {}
    if arguments.given("health-cmd"):
        found["Test"] = ["CMD-SHELL", arguments.text("health-cmd")]
    for key, name in (
        ("Interval", "health-interval"),
        ("Timeout", "health-timeout"),
        ("StartPeriod", "health-start-period"),
        ("StartInterval", "health-start-interval"),
    ):
        if arguments.given(name):
            found[key] = parse_duration(arguments.text(name))
    if arguments.given("health-retries"):
        found["Retries"] = arguments.number("health-retries")
    return found
