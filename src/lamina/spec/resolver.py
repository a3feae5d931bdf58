"""resolv.conf(5) and hosts(5) of containers: read, changed, written. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

RESOLVER = "127.0.0.11"
"""Where the names of a user's network are served, inside each container on it: Docker's address."""
_PUBLIC = ("8.8.8.8", "8.8.4.4")
"""What containers ask where the host's own servers listen on its loopback only, which containers cannot reach: Docker's choice."""
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """What resolv.conf(5) holds: addresses of servers, domains to search, options."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


OF_THE_HOST = ResolverSettings()
"""Nothing is asked for."""


def parse_resolver(text: str) -> ResolverSettings:
    """Read a resolv.conf; what is not a setting is passed over, of several `search` lines the last counts."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        key, *words = line.split() or [""]
        if key == "nameserver" and words:
            servers.append(words[0])
        elif key in ("search", "domain"):
            search = tuple(words)
        elif key == "options":
            options += words
    return ResolverSettings(tuple(servers), search, tuple(options))


def overridden(host: ResolverSettings, asked: ResolverSettings) -> ResolverSettings:
    """The host's settings, but for those that were asked for; a search of `.` asks for none."""
    search = () if asked.search == (".",) else asked.search or host.search
    return ResolverSettings(asked.servers or host.servers, search, asked.options or host.options)


def reachable(settings: ResolverSettings) -> ResolverSettings:
    """Without servers on the host's loopback, which a container with a network of its own does not reach."""
    servers = tuple(server for server in settings.servers if not is_loopback(server))
    return ResolverSettings(servers or _PUBLIC, settings.search, settings.options)


def served(settings: ResolverSettings) -> ResolverSettings:
    """For a container whose names are served inside it; other names are asked of the settings' own servers from there."""
    options = settings.options if any(option.startswith("ndots:") for option in settings.options) else (*settings.options, "ndots:0")
    return ResolverSettings((RESOLVER,), settings.search, options)


def is_loopback(server: str) -> bool:
    """Whether an address is one of the host's own loopback."""
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def render_resolver(settings: ResolverSettings) -> str:
    """The text of a resolv.conf."""
    lines = [f"nameserver {server}" for server in settings.servers]
    lines += [f"search {' '.join(settings.search)}"] if settings.search else []
    lines += [f"options {' '.join(settings.options)}"] if settings.options else []
    return "".join(f"{line}\n" for line in lines)


def render_hosts(own: Iterable[tuple[str, str]], extra: Sequence[str] = (), *, base: str = _HOSTS) -> str:
    """The text of a hosts file: `own` are (address, names), `extra` Docker's `name:address`."""
    lines = [f"{address}\t{name}\n" for name, _, address in (entry.partition(":") for entry in extra)]
    return base + "".join(lines) + "".join(f"{address}\t{names}\n" for address, names in own)
