"""The engine as a whole: info, version, disk usage, and removals that ask several rooms."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import lamina
from lamina.api.render import cache_folder, cache_record, image_summary
from lamina.apitypes.finding import Finding
from lamina.builder.build import Builder
from lamina.container.containers import Containers
from lamina.container.ranges import HOST, UserNamespaces
from lamina.daemon.events import EventBus
from lamina.daemon.host import Host, file_system_of
from lamina.daemon.pool import Pool
from lamina.distribution.proxies import Proxies
from lamina.image.model import Removed, Usage
from lamina.image.pruning import PrunePlan
from lamina.image.store import Images
from lamina.network.networks import Networks
from lamina.network.pools import POOLS
from lamina.runtime import apparmor
from lamina.runtime.runtimes import Runtimes
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.volume.store import Volumes, on_disk

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
# Docker's clients compare the engine's version with versions of Docker; this is the one whose API is served.
DOCKER_VERSION = "28.3.0"
Document = dict[str, Any]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was decided when the engine was opened."""

    root: str
    driver: str
    driver_reason: str
    host: Host
    labels: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    runtimes: Runtimes = field(default_factory=Runtimes)
    user_namespaces: UserNamespaces = field(default_factory=UserNamespaces)
    experimental: bool = False
    pool: Pool | None = None
    container_size: int = 0
    log_driver: str = ""
    proxies: Proxies = field(default_factory=Proxies)
    address_pools: tuple[tuple[str, int], ...] = POOLS


class System:
    """See api.backend.System."""

    def __init__(
        self,
        facts: Facts,
        images: Images,
        containers: Containers,
        volumes: Volumes,
        networks: Networks,
        builder: Builder,
        events: EventBus,
    ) -> None:
        self._facts, self._images, self._containers, self._volumes = facts, images, containers, volumes
        self._networks, self._builder, self._events = networks, builder, events

    def version(self) -> Document:
        """See api.backend.System.version."""
        host = self._facts.host
        common: Document = {
            "Version": DOCKER_VERSION,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": _ARCHITECTURES.get(host.architecture, host.architecture),
            "KernelVersion": host.kernel,
            "BuildTime": "",
        }
        details = {name: value for name, value in common.items() if name not in ("Version", "BuildTime")}
        details |= {
            "Experimental": "true" if self._facts.experimental else "false",
            "BuildTime": "",
            "Lamina": lamina.__version__,
            "Python": platform.python_version(),
        }
        return (
            common
            | ({"Experimental": True} if self._facts.experimental else {})
            | {
                "Platform": {"Name": f"Lamina {lamina.__version__}"},
                "Components": [
                    {"Name": "Engine", "Version": DOCKER_VERSION, "Details": details},
                    {"Name": "lamina", "Version": lamina.__version__, "Details": {"Python": platform.python_version()}},
                ],
            }
        )

    def info(self) -> Document:
        """See api.backend.System.info."""
        facts, counts = self._facts, self._containers.counts()
        total = sum(counts.values())
        running, paused = counts.get("running", 0), counts.get("paused", 0)
        return {
            "ID": facts.host.id,
            "Containers": total,
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": total - running - paused,
            "Images": len(self._images.list(all=True)),
            "Driver": facts.driver,
            "DriverStatus": [["Backing Filesystem", file_system_of(facts.root)], ["Reason", facts.driver_reason], *self._caps()],
            "NEventsListener": self._events.listeners,
            "SystemTime": datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z"),
            "ServerVersion": DOCKER_VERSION,
            "ProductLicense": "Apache-2.0",
            "DockerRootDir": facts.root,
            "Name": facts.host.name,
            "Labels": list(facts.labels),
            **_machine(facts.host),
            **_registries(facts),
            "Runtimes": facts.runtimes.document(),
            "DefaultRuntime": facts.runtimes.default,
            **_FIXED,
            **facts.proxies.shown(),
            **_address_pools(facts),
            "LoggingDriver": facts.log_driver,
            "ExperimentalBuild": facts.experimental,
            "SecurityOptions": [*security_options(user_namespaces=facts.user_namespaces.default != HOST)],
        }

    def _caps(self) -> list[list[str]]:
        """What caps the writing of containers, in bytes."""
        size = self._facts.container_size
        return [*([["Container Size", str(size)]] if size else []), *(self._facts.pool.rows() if self._facts.pool else [])]

    def details(self) -> Document:
        """See api.backend.System.details."""
        facts = self._facts
        return {
            "version": lamina.__version__,
            "root": facts.root,
            "driver": facts.driver,
            "driver_reason": facts.driver_reason,
            "backing_file_system": file_system_of(facts.root),
            "kernel": facts.host.kernel,
            "cgroup_version": facts.host.cgroup_version,
            "python": platform.python_version(),
        }

    def disk_usage(self, kinds: Sequence[str] = ()) -> Document:
        """See api.backend.System.disk_usage."""
        wanted = set(kinds) or {"image", "container", "volume", "build-cache"}
        document: Document = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None, "BuilderSize": 0}
        self._images.settle()
        if "image" in wanted:
            document["LayersSize"], usages = self._images.usage(self.in_use)
            document["Images"] = [self._image_usage(entry) for entry in usages]
        if "container" in wanted:
            document["Containers"] = self._containers.usage()
        if "volume" in wanted:
            document["Volumes"] = [
                {**volume.document(), "UsageData": {"Size": on_disk(volume), "RefCount": len(self._volumes.users(volume.name))}}
                for volume in self._volumes.list()
            ]
        if "build-cache" in wanted:
            records = self._images.cache(self.in_use)
            folders = self._builder.caches.list()
            document["BuildCache"] = [*map(cache_record, records), *map(cache_folder, folders)]
            document["BuilderSize"] = sum(record.size for record in records) + sum(folder.size for folder in folders)
        return document

    def _image_usage(self, entry: Usage) -> Document:
        """Bytes on disk, where a plain listing counts the bytes in files."""
        users = len(self._containers.users_of(entry.image.id))
        return image_summary(entry.image, containers=users, shared=entry.shared) | {"Size": entry.shared + entry.unique}

    def plan_prune(self, kinds: Sequence[str], filters: Mapping[str, Sequence[str]], *, all: bool, keep: int = 0) -> Document:
        """See api.backend.System.plan_prune."""
        document: Document = {"SpaceReclaimed": 0}
        leaving: Sequence[str] = ()
        if "containers" in kinds:
            gone = self._containers.prune(filters, dry_run=True)
            leaving = gone.removed
            _planned(document, "ContainersDeleted", gone.removed, gone.space)
        if "networks" in kinds:
            _planned(document, "NetworksDeleted", self._networks.prune(filters, dry_run=True), 0)
        if "volumes" in kinds:
            _planned(document, "VolumesDeleted", *self._volumes.prune(filters, dry_run=True, leaving=leaving))
        going = {identity[:12] for identity in leaving}

        def in_use(image: Digest) -> list[tuple[str, bool]]:
            return [user for user in self.in_use(image) if user[0] not in going]

        wanted = PrunePlan(
            {"dangling": ["false" if all else "true"], **filters} if "images" in kinds else None,
            filters if "build" in kinds else None,
            all,
            keep,
            leaving,
        )
        images, cache = self._images.plan_prune(wanted, in_use)
        if "images" in kinds:
            _planned(document, "ImagesDeleted", [_removed(item) for item in images.removed], images.reclaimed)
        if "build" in kinds:
            left = sum(record.size for record in self._images.cache(self.in_use)) - cache.reclaimed
            folders = self._builder.caches.prunable(filters, time.time(), _spare(keep, left))
            names = [*(item.name for item in cache.removed if item.kind == "Deleted"), *(folder.name for folder in folders)]
            _planned(document, "CachesDeleted", names, cache.reclaimed + sum(folder.size for folder in folders))
        return document

    def check(self, *, repair: bool = False) -> Iterator[Finding]:
        """See api.backend.System.check. Images come first: containers stand on their layers."""
        yield from self._images.check(repair=repair)
        yield from self._volumes.check(repair=repair)
        yield from self._containers.check(repair=repair)

    def remove_image(self, name: str, *, force: bool, prune: bool, platforms: Sequence[Platform] = ()) -> list[Document]:
        """See api.backend.System.remove_image."""
        removed = self._images.remove(name, force=force, prune=prune, platforms=platforms, in_use=self.in_use)
        return [_removed(item) for item in removed]

    def prune_images(self, filters: Mapping[str, Sequence[str]]) -> Document:
        """See api.backend.System.prune_images."""
        pruned = self._images.prune(filters, in_use=self.in_use)
        return {"ImagesDeleted": [_removed(item) for item in pruned.removed], "SpaceReclaimed": pruned.reclaimed}

    def prune_build_cache(
        self, filters: Mapping[str, Sequence[str]], *, all: bool = False, keep: int = 0, most: int = 0, free: int = 0
    ) -> Document:
        """See api.backend.System.prune_build_cache."""
        if most or free:
            total = sum(record.size for record in self._images.cache(self.in_use)) + sum(row.size for row in self._builder.caches.list())
            keep = kept(total, shutil.disk_usage(self._facts.root).free, reserved=keep, most=most, free=free)
        pruned = self._images.prune_cache(filters, all=all, keep=keep, in_use=self.in_use)
        left = sum(record.size for record in self._images.cache(self.in_use))
        folders = self._builder.caches.prunable(filters, time.time(), _spare(keep, left))
        freed = pruned.reclaimed + self._builder.caches.prune(folders)
        names = [*(item.name for item in pruned.removed if item.kind == "Deleted"), *(folder.name for folder in folders)]
        return {"CachesDeleted": names, "SpaceReclaimed": freed}

    def in_use(self, image: Digest) -> list[tuple[str, bool]]:
        """The containers made from `image`: short ID, and whether it runs. What image.store.InUse asks."""
        return [(user[:12], self._containers.get(user).running) for user in self._containers.users_of(image)]


def kept(total: int, unused: int, *, reserved: int, most: int, free: int) -> int:
    """How many bytes of a build cache of `total` stay, by BuildKit's rules: `most` where that is said, as few as needed for `free` bytes of
    the disk, of which `unused` are, and never fewer than `reserved`. 1 stands for none, since 0 means no such limit."""
    least = total - max(free - unused, 0) if free else total
    return max(min(most or least, least), reserved, 1)


def _spare(keep: int, left: int) -> int:
    """How many of the bytes that may stay are not taken by `left`; 1 where there are none, since 0 means no such limit."""
    return max(keep - left, 1) if keep else 0


def _planned(document: Document, key: str, names: Sequence[Any], space: int) -> None:
    document[key] = list(names)
    document["SpaceReclaimed"] += space


def _removed(item: Removed) -> Document:
    return {item.kind: item.name}


def _machine(host: Host) -> Document:
    return {
        "KernelVersion": host.kernel,
        "OperatingSystem": host.operating_system,
        "OSVersion": host.os_version,
        "OSType": "linux",
        "Architecture": host.architecture,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": host.cgroup_version,
    }


def _address_pools(facts: Facts) -> Document:
    """Those that were chosen."""
    return (
        {}
        if facts.address_pools == POOLS
        else {"DefaultAddressPools": [{"Base": base, "Size": size} for base, size in facts.address_pools]}
    )


def _registries(facts: Facts) -> Document:
    insecure = {name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False} for name in facts.insecure_registries}
    hub = {"docker.io": {"Name": "docker.io", "Mirrors": list(facts.mirrors), "Secure": True, "Official": True}}
    return {
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {**hub, **insecure},
            "Mirrors": list(facts.mirrors) or None,
        },
    }


def security_options(*, user_namespaces: bool) -> Iterator[str]:
    """What confines containers by default here, in Docker's words and order."""
    if apparmor.is_loaded(apparmor.DEFAULT):
        yield "name=apparmor"
    yield "name=seccomp,profile=builtin"
    if user_namespaces:
        yield "name=userns"
    yield "name=cgroupns"


_FIXED: Document = {
    "Plugins": {
        "Volume": ["local"],
        "Network": ["bridge", "host", "null"],
        "Authorization": None,
        "Log": ["fluentd", "journald", "json-file", "local", "syslog"],
    },
    **dict.fromkeys(
        ("MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit", "OomKillDisable"), True
    ),
    "IPv4Forwarding": True,
    "BridgeNfIptables": True,
    "BridgeNfIp6tables": True,
    "Debug": False,
    "NFd": 0,
    "NGoroutines": 0,
    "GenericResources": None,
    "Swarm": {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    },
    "LiveRestoreEnabled": True,
    "Isolation": "",
    "InitBinary": "",
    "ContainerdCommit": {"ID": ""},
    "RuncCommit": {"ID": ""},
    "InitCommit": {"ID": ""},
    "CDISpecDirs": [],
    "Warnings": None,
}
