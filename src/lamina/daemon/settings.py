"""What the daemon is told: flags and daemon.json, both in dockerd's spelling."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from lamina.container.defaults import Defaults, InvalidDefault, shm_size, ulimit, ulimits
from lamina.container.logdrivers import DEFAULT, InvalidLog, LogDefault
from lamina.container.ranges import AUTO, UserNamespaces, remapped
from lamina.container.ranges import HOST as OF_THE_HOST
from lamina.container.resources import InvalidLimit
from lamina.distribution.proxies import InvalidProxy, Proxies, masked
from lamina.errors import InvalidArgument
from lamina.image.eviction import KEEPING, PRESSURE
from lamina.network.model import InvalidNetwork
from lamina.network.pools import POOLS, address_pools
from lamina.runtime.launch import Program
from lamina.runtime.runtimes import EMBEDDED, Runtimes, UnknownRuntime
from lamina.spec.resolver import ResolverSettings

ROOT = "/var/lib/lamina"
HOST = "unix:///run/lamina.sock"
CONFIG = "/etc/lamina/daemon.json"
CERTIFICATES = "/etc/lamina"
DRIVERS = ("erofs", "overlay", "native")
_DOCKERS = {"overlay2": "overlay", "vfs": "native"}
"""What dockerd calls two of them."""
_LEVELS = ("debug", "info", "warn", "error", "fatal")
# Keys of daemon.json as dockerd spells them, to the names of the fields here; several ones take lists.
_KEYS = {
    "data-root": "root",
    "hosts": "hosts",
    "storage-driver": "storage_driver",
    "insecure-registries": "insecure_registries",
    "registry-mirrors": "registry_mirrors",
    "labels": "labels",
    "log-level": "log_level",
    "pidfile": "pidfile",
    "debug": "debug",
    "experimental": "experimental",
    "verify-layers": "verify",
    "compressed-originals": "originals",
    "tls": "tls",
    "tlsverify": "tls_verify",
    "tlscacert": "tls_authority",
    "tlscert": "tls_certificate",
    "tlskey": "tls_key",
    "default-runtime": "default_runtime",
    "runtimes": "added_runtimes",
    "storage-opts": "storage_options",
    "userns": "userns",
    "userns-remap": "userns_remap",
    "log-driver": "log_driver",
    "log-opts": "log_options",
    "proxies": "proxies",
    "dns": "dns",
    "dns-search": "dns_search",
    "dns-opts": "dns_options",
    "default-ulimits": "ulimits",
    "default-shm-size": "shm_size",
    "default-address-pools": "address_pools",
    "init": "init",
    "no-new-privileges": "no_new_privileges",
    "cgroup-parent": "cgroup_parent",
}
_PROXIES = {
    "http-proxy": "proxy for http:// addresses (default: what HTTP_PROXY says)",
    "https-proxy": "proxy for https:// addresses, registries first of all (default: what HTTPS_PROXY says)",
    "no-proxy": "hosts and networks that are asked directly, between commas (default: what NO_PROXY says)",
}
"""Flags, and keys of `proxies` in daemon.json."""
_SWITCHES = frozenset({"debug", "experimental", "verify", "tls", "tls_verify", "init", "no_new_privileges"})
_LISTS = frozenset({"hosts", "insecure_registries", "registry_mirrors", "labels", "storage_options", "dns", "dns_search", "dns_options"})
_DEFAULTS: Mapping[str, Callable[[object], object]] = {"ulimits": ulimits, "shm_size": shm_size, "address_pools": address_pools}
_IGNORED = frozenset(
    "exec-opts live-restore features iptables ip6tables bridge userland-proxy containerd builder shutdown-timeout"
    " max-concurrent-downloads max-concurrent-uploads max-download-attempts".split()
)


class InvalidSettings(InvalidArgument):
    """The configuration file or a flag is wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a daemon runs. An empty `storage_driver` is probed for; the `tls_…` hold for TCP, where `tls_verify` None means that nobody
    said."""

    root: str = ROOT
    hosts: tuple[str, ...] = (HOST,)
    storage_driver: str = ""
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    log_level: str = "info"
    pidfile: str = ""
    debug: bool = False
    experimental: bool = False
    verify: bool = False
    storage_options: tuple[str, ...] = ()
    originals: str = PRESSURE
    tls: bool = False
    tls_verify: bool | None = None
    tls_authority: str = f"{CERTIFICATES}/ca.pem"
    tls_certificate: str = f"{CERTIFICATES}/cert.pem"
    tls_key: str = f"{CERTIFICATES}/key.pem"
    default_runtime: str = EMBEDDED
    added_runtimes: Mapping[str, Program] = field(default_factory=dict)
    userns: str = OF_THE_HOST
    userns_remap: str = ""
    log_driver: str = DEFAULT
    log_options: Mapping[str, str] = field(default_factory=dict)
    proxies: Proxies = field(default_factory=Proxies)
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    shm_size: int = 0
    address_pools: tuple[tuple[str, int], ...] = POOLS
    init: bool = False
    no_new_privileges: bool = False
    cgroup_parent: str = ""

    @property
    def defaults(self) -> Defaults:
        """What containers get that do not say."""
        return Defaults(
            ResolverSettings(self.dns, self.dns_search, self.dns_options),
            self.ulimits,
            self.shm_size,
            self.init,
            self.no_new_privileges,
            self.cgroup_parent,
        )

    @property
    def logging(self) -> LogDefault:
        """What --log-driver and --log-opt mean where a container does not say."""
        return LogDefault(self.log_driver, self.log_options)

    @property
    def user_namespaces(self) -> UserNamespaces:
        """What --userns means where it is not given."""
        return remapped(self.userns_remap) if self.userns_remap else UserNamespaces(self.userns)

    @property
    def runtimes(self) -> Runtimes:
        """What --runtime may name."""
        return Runtimes(self.default_runtime, self.added_runtimes)


def parser() -> argparse.ArgumentParser:
    """The flags of laminad."""
    flags = argparse.ArgumentParser(
        prog="laminad", description="Lamina's daemon: keeps images and containers and serves Docker's Engine API."
    )
    flags.add_argument("--root", "--data-root", "-g", metavar="DIR", help=f"directory of everything that is kept (default {ROOT})")
    flags.add_argument(
        "--host", "-H", action="append", dest="hosts", metavar="ADDRESS", help=f"address to listen on; may be repeated (default {HOST})"
    )
    flags.add_argument(
        "--storage-driver", "-s", type=_driver, choices=DRIVERS, help="how layers are kept (default: what this kernel does best)"
    )
    flags.add_argument(
        "--storage-opt",
        action="append",
        dest="storage_options",
        metavar="NAME=VALUE",
        help="size=10G caps each container's writing, pool=100G that of all together",
    )
    flags.add_argument(
        "--insecure-registry", action="append", dest="insecure_registries", metavar="HOST", help="registry reached without verified TLS"
    )
    flags.add_argument(
        "--registry-mirror", action="append", dest="registry_mirrors", metavar="URL", help="mirror of Docker Hub, asked first"
    )
    for name, what in _PROXIES.items():
        flags.add_argument(f"--{name}", metavar="HOSTS" if name == "no-proxy" else "URL", help=what)
    flags.add_argument("--label", action="append", dest="labels", metavar="KEY=VALUE", help="shown by info; may be repeated")
    _add_switch(flags, "--verify-layers", dest="verify", what="look at layers' bytes before each start of a container")
    flags.add_argument(
        "--compressed-originals",
        choices=KEEPING,
        dest="originals",
        help="when the compressed forms of pulled layers are kept (default pressure: until the disk gets full)",
    )
    _add_containers(flags)
    flags.add_argument("--config-file", metavar="FILE", help=f"daemon.json (default {CONFIG}, if it is there)")
    flags.add_argument("--log-level", "-l", choices=_LEVELS, help="how much is logged (default info)")
    flags.add_argument("--pidfile", "-p", metavar="FILE", help="file to write the process ID to")
    _add_switch(flags, "--debug", "-D", dest="debug", what="same as --log-level debug")
    _add_switch(flags, "--experimental", dest="experimental", what="let the docker CLI offer what it calls experimental: build --squash")
    _add_tls(flags)
    flags.add_argument("--version", "-v", action="store_true", help="print the version and quit")
    return flags


def _add_containers(flags: argparse.ArgumentParser) -> None:
    """What containers get that do not say otherwise."""
    flags.add_argument(
        "--add-runtime",
        action="append",
        dest="added_runtimes",
        metavar="NAME=PATH",
        help="OCI runtime that containers may name; may be repeated",
    )
    flags.add_argument(
        "--default-runtime", metavar="NAME", help=f"runtime of containers that name none (default {EMBEDDED}, the embedded one)"
    )
    flags.add_argument(
        "--userns",
        choices=(OF_THE_HOST, AUTO),
        help=f"user namespace of containers that name none; {AUTO}: one of its own for each (default {OF_THE_HOST})",
    )
    flags.add_argument("--userns-remap", metavar="USER", help="the same ids for all user namespaces: a user of /etc/subuid, or default")
    for name, target, metavar, what in (
        ("dns", "dns", "ADDRESS", "server of names"),
        ("dns-search", "dns_search", "DOMAIN", "domain that names are looked up in"),
        ("dns-opt", "dns_options", "OPTION", "option of resolv.conf"),
        ("default-ulimit", "ulimits", "NAME=SOFT[:HARD]", "limit"),
    ):
        flags.add_argument(
            f"--{name}", action="append", dest=target, metavar=metavar, help=f"{what} for containers that name none; may be repeated"
        )
    _add_switch(flags, "--init", dest="init", what="an init as the first process of containers that do not say")
    _add_switch(
        flags, "--no-new-privileges", dest="no_new_privileges", what="--security-opt no-new-privileges for containers that do not say"
    )
    flags.add_argument("--cgroup-parent", metavar="GROUP", help="control group that containers are below which name none")
    flags.add_argument("--default-shm-size", dest="shm_size", metavar="BYTES", help="size of /dev/shm of containers that name none (64M)")
    flags.add_argument(
        "--default-address-pool",
        action="append",
        dest="address_pools",
        metavar="base=NETWORK,size=PREFIX",
        help="IPv4 network that automatic subnets are cut from, and the length of their prefix; may be repeated",
    )
    flags.add_argument("--log-driver", metavar="NAME", help=f"log driver of containers that name none (default {DEFAULT})")
    flags.add_argument("--log-opt", action="append", dest="log_options", metavar="NAME=VALUE", help="its options; may be repeated")


def _add_tls(flags: argparse.ArgumentParser) -> None:
    _add_switch(flags, "--tls", dest="tls", what="speak TLS on tcp:// addresses; implied by --tlsverify, =false is --tlsverify=false")
    _add_switch(
        flags,
        "--tlsverify",
        dest="tls_verify",
        what="on tcp:// addresses let in only clients with a certificate; =false to open them to whoever reaches them, who is root then",
    )
    for name, target, what in (
        ("tlscacert", "tls_authority", "authority that signs clients' certificates"),
        ("tlscert", "tls_certificate", "this daemon's certificate"),
        ("tlskey", "tls_key", "its key"),
    ):
        flags.add_argument(f"--{name}", dest=target, metavar="FILE", help=f"{what} (default {_default(target)})")


def _add_switch(flags: argparse.ArgumentParser, *names: str, dest: str, what: str) -> None:
    """A flag that takes =true and =false, as all of dockerd's do."""
    flags.add_argument(*names, nargs="?", const=True, type=_boolean, dest=dest, metavar="BOOL", help=what)


def _driver(name: str) -> str:
    return _DOCKERS.get(name, name)


def _default(target: str) -> str:
    return str(next(each.default for each in fields(Settings) if each.name == target))


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError("it is true or false")
    return text.lower() in ("true", "1")


def settings(flags: argparse.Namespace) -> Settings:
    """Settings from flags and the configuration file.

    Raises:
        InvalidSettings: the file is wrong, says what a flag says too, or TCP is to be opened without saying to whom.
    """
    told = {name: value for name, value in vars(flags).items() if name in _KEYS.values() and value is not None}
    written = read_config(flags.config_file or CONFIG, required=bool(flags.config_file))
    if any(getattr(flags, name.replace("-", "_")) is not None for name in _PROXIES):
        told["proxies"] = Proxies(*(getattr(flags, name.replace("-", "_")) or "" for name in _PROXIES))
    both = sorted(key for key, name in _KEYS.items() if name in told and name in written)
    if both:
        raise InvalidSettings(f"said both by a flag and by the configuration file: {', '.join(both)}")
    if "added_runtimes" in told:
        told["added_runtimes"] = dict(_added_runtime(word) for word in told["added_runtimes"])
    told |= _told_defaults(told)
    if "log_options" in told:
        told["log_options"] = dict(_log_option(word) for word in told["log_options"])
    values: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in {**written, **told}.items()}
    values["insecure_registries"] = tuple(map(_insecure, values.get("insecure_registries", ())))
    if values.get("tls") is False:
        values = {"tls_verify": False, **values}
    made = Settings(**values)
    if made.tls_verify is None and any(host.startswith("tcp://") for host in made.hosts):
        raise InvalidSettings(
            "whoever reaches the daemon by TCP is root on this machine: say who may",
            hint="--tlsverify with --tlscacert, --tlscert and --tlskey, or --tlsverify=false to let in everyone",
        )
    _check_labels(made.labels)
    for mirror in made.registry_mirrors:
        _check_mirror(mirror)
    _check_runtimes(made.runtimes)
    if made.userns not in (OF_THE_HOST, AUTO) or (made.userns == AUTO and made.userns_remap):
        raise InvalidSettings(f"userns is {OF_THE_HOST} or {AUTO}, and {AUTO} excludes userns-remap")
    _ = made.user_namespaces
    try:
        made.logging.completed({})
        made.proxies.check()
        made.defaults.check()
    except (InvalidLog, InvalidProxy, InvalidDefault, InvalidLimit) as error:
        raise InvalidSettings(error.message) from None
    return made


def _told_defaults(told: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the flags about what containers get that do not say. Raises InvalidSettings."""
    found: dict[str, Any] = {}
    try:
        if "ulimits" in told:
            found["ulimits"] = dict(map(ulimit, told["ulimits"]))
        if "shm_size" in told:
            found["shm_size"] = shm_size(told["shm_size"])
        if "address_pools" in told:
            found["address_pools"] = address_pools(list(map(_written_pool, told["address_pools"])))
    except (InvalidDefault, InvalidNetwork) as error:
        raise InvalidSettings(error.message, hint=error.hint) from None
    return found


def _written_pool(word: str) -> dict[str, Any]:
    """`base=10.10.0.0/16,size=24` as daemon.json has it."""
    given = dict(each.partition("=")[::2] for each in word.split(","))
    return {"base": given.get("base"), "size": int(size) if (size := given.get("size", "")).isdecimal() else None}


def _log_option(word: str) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    if not name or not separator:
        raise InvalidSettings(f"--log-opt takes NAME=VALUE, not {word}")
    return name, value


def _added_runtime(word: str) -> tuple[str, Program]:
    name, separator, path = word.partition("=")
    if not name or not separator or not path:
        raise InvalidSettings(f"--add-runtime takes NAME=PATH, not {word}")
    return name, Program(path)


def _check_labels(labels: Sequence[str]) -> None:
    found: dict[str, str] = {}
    for label in labels:
        name, separator, _ = label.partition("=")
        if not separator:
            raise InvalidSettings(f"bad attribute format: {label[:200]}", hint="a label is KEY=VALUE")
        if found.setdefault(name, label) != label:
            raise InvalidSettings(f"conflict labels for {label[:200]} and {found[name][:200]}")


def _insecure(entry: str) -> str:
    """An insecure registry as it is compared with hosts: without http:// or https://, as for dockerd."""
    name = re.sub(r"\Ahttps?://", "", entry, flags=re.IGNORECASE)
    try:
        ip_network(name, strict=False)
    except ValueError:
        host, _, port = name.rpartition(":") if re.search(r":\w*\Z", name) else (name, "", "0")
        if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:]+\]", host) or not port.isdecimal() or int(port) > 65535:
            raise InvalidSettings(
                f"insecure registry {entry[:200]} is not valid", hint="write it as HOST, HOST:PORT or 10.0.0.0/8"
            ) from None
    return name


def _check_mirror(address: str) -> None:
    """As dockerd does: scheme and host, and nothing else but a slash."""
    try:
        parts = urlsplit(address)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidSettings(f"invalid mirror: {masked(address)[:200]}", hint="write it as https://HOST or http://HOST:PORT")
    if "@" in parts.netloc:
        raise InvalidSettings(f"invalid mirror: username/password not allowed in {masked(address)[:200]}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidSettings(f"invalid mirror: path, query, or fragment at end of {address[:200]}")


def _check_runtimes(runtimes: Runtimes) -> None:
    if EMBEDDED in runtimes.added:
        raise InvalidSettings(f"runtime name '{EMBEDDED}' is reserved: it is the embedded runtime")
    for name, program in runtimes.added.items():
        if not program.path.startswith("/") and ("/" in program.path or not program.path):
            raise InvalidSettings(f"the path of runtime {name} is not absolute: {program.path}")
    try:
        runtimes.program("")
    except UnknownRuntime:
        raise InvalidSettings(f"specified default runtime '{runtimes.default}' does not exist") from None


def read_config(path: str, *, required: bool) -> dict[str, Any]:
    """daemon.json's values by the names of Settings; keys of dockerd's that mean nothing here are passed over. A file without text has none.

    Raises:
        InvalidSettings: it cannot be read, a key is unknown or a value has the wrong type.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.loads(file.read().strip() or "{}")
    except FileNotFoundError:
        if required:
            raise InvalidSettings(f"no such configuration file: {path}")
        return {}
    except OSError as error:
        raise InvalidSettings(f"configuration file {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidSettings(f"configuration file {path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise InvalidSettings(f"configuration file {path} holds no object")
    unknown = sorted(set(document) - set(_KEYS) - _IGNORED)
    if unknown:
        raise InvalidSettings(f"configuration file {path} has unknown keys: {', '.join(unknown)}")
    return {_KEYS[key]: _checked(path, key, value) for key, value in document.items() if key in _KEYS}


def _checked(path: str, key: str, value: Any) -> Any:
    name = _KEYS[key]
    if name == "storage_driver" and isinstance(value, str):
        value = _driver(value)
    if name == "added_runtimes":
        return _written_runtimes(path, value)
    if name == "proxies":
        return _written_proxies(path, value)
    if name in _DEFAULTS:
        try:
            return _DEFAULTS[name](value)
        except (InvalidDefault, InvalidNetwork) as error:
            raise InvalidSettings(f"configuration file {path}: {error.message}", hint=error.hint) from None
    if name == "log_options":
        fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    elif name in _LISTS:
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    else:
        fits = isinstance(value, bool if name in _SWITCHES else str)
    if (
        not fits
        or (name == "storage_driver" and value not in DRIVERS)
        or (name == "log_level" and value not in _LEVELS)
        or (name == "originals" and value not in KEEPING)
    ):
        raise InvalidSettings(f"configuration file {path} has a wrong value for {key}")
    return value


def _written_runtimes(path: str, value: Any) -> dict[str, Program]:
    """`runtimes` of daemon.json: {name: {"path": …, "runtimeArgs": […]}}."""
    found = {}
    for name, entry in value.items() if isinstance(value, dict) else [("", None)]:
        program, words = (entry.get("path"), entry.get("runtimeArgs") or []) if isinstance(entry, dict) else (None, [])
        if not isinstance(program, str) or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InvalidSettings(f"configuration file {path} has a wrong value for runtimes: each takes a path, and runtimeArgs as a list")
        found[name] = Program(program, tuple(words))
    return found


def _written_proxies(path: str, value: Any) -> Proxies:
    """`proxies` of daemon.json: {"http-proxy": …, "https-proxy": …, "no-proxy": …}."""
    if not isinstance(value, dict) or not set(value) <= set(_PROXIES) or not all(isinstance(each, str) for each in value.values()):
        raise InvalidSettings(f"configuration file {path} has a wrong value for proxies: it takes {', '.join(_PROXIES)}")
    return Proxies(*(value.get(name, "") for name in _PROXIES))


def parse(arguments: Sequence[str]) -> tuple[Settings, bool]:
    """Settings from a command line, and whether only the version was asked for."""
    flags = parser().parse_args(arguments)
    return settings(flags), bool(flags.version)
