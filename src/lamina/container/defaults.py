"""What the daemon's settings give to containers that do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lamina.container.capping import parsed_bytes
from lamina.container.document import Document, number, objects, text, texts
from lamina.container.resources import check_ulimit
from lamina.errors import InvalidArgument
from lamina.network.pools import parse_address
from lamina.spec.resolver import ResolverSettings


class InvalidDefault(InvalidArgument):
    """A setting that no container could have."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What /etc/resolv.conf holds instead of the host's; limits, soft and hard (-1: none), by Docker's names; the size of /dev/shm in bytes,
    0 for the usual one; whether there is an init as the first process, whether set-user-ID programs gain nothing, and below which control
    group they are."""

    resolver: ResolverSettings = field(default_factory=ResolverSettings)
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    shm_size: int = 0
    init: bool = False
    no_new_privileges: bool = False
    cgroup_parent: str = ""

    def check(self) -> None:
        """Raises InvalidDefault."""
        for server in self.resolver.servers:
            if parse_address(server) is None:
                raise InvalidDefault(f"dns: IP address is not correctly formatted: {server[:100]}")
        for name, (soft, hard) in self.ulimits.items():
            check_ulimit(name, soft, hard)

    def added(self, host: Document) -> dict[str, Any]:
        """A container's host configuration with what it leaves open. Who shares another's network has that one's servers."""
        found = dict(host)
        if not text(host, "NetworkMode").startswith("container"):
            names = self.resolver
            for key, words in (("Dns", names.servers), ("DnsSearch", names.search), ("DnsOptions", names.options)):
                if words and not texts(host, key):
                    found[key] = list(words)
        asked = objects(host, "Ulimits")
        named = {limit.get("Name") for limit in asked}
        if more := [_limit(name, *values) for name, values in self.ulimits.items() if name not in named]:
            found["Ulimits"] = [*asked, *more]
        if self.shm_size and not number(host, "ShmSize"):
            found["ShmSize"] = self.shm_size
        if self.init and host.get("Init") is None:
            found["Init"] = True
        options = texts(host, "SecurityOpt")
        if self.no_new_privileges and not any(word.startswith("no-new-privileges") for word in options):
            found["SecurityOpt"] = [*options, "no-new-privileges"]
        if self.cgroup_parent and not text(host, "CgroupParent"):
            found["CgroupParent"] = self.cgroup_parent
        return found


def _limit(name: str, soft: int, hard: int) -> dict[str, Any]:
    return {"Name": name, "Soft": soft, "Hard": hard}


def ulimit(word: str) -> tuple[str, tuple[int, int]]:
    """`nofile=1024:2048` or `nofile=1024`: the name, and the soft and the hard limit.

    Raises:
        InvalidDefault: it is no such word.
    """
    name, _, values = word.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return name, (int(soft), int(hard or soft))
    except ValueError:
        raise InvalidDefault(f"default-ulimits takes NAME=SOFT[:HARD], not {word[:100]}") from None


def ulimits(value: object) -> dict[str, tuple[int, int]]:
    """`default-ulimits` of daemon.json: {name: {"Name": name, "Soft": …, "Hard": …}}. Raises InvalidDefault."""
    if isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
        try:
            return {name: (number(each, "Soft"), number(each, "Hard")) for name, each in value.items()}
        except InvalidArgument:
            pass
    raise InvalidDefault('default-ulimits takes {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}}')


def shm_size(value: object) -> int:
    """`default-shm-size`: a number of bytes, or `64M`. Raises InvalidDefault."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    size = parsed_bytes(value) if isinstance(value, str) else None
    if not size:
        raise InvalidDefault(f"default-shm-size takes a size as 64M, not {str(value)[:100]}")
    return size
