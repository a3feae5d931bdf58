"""The one place that builds the object graph: from a data root and options to an engine's parts."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from lamina.builder.build import Builder
from lamina.builder.cache import Cache
from lamina.builder.cachemounts import CacheMounts
from lamina.builder.engine import Engine as BuildEngine
from lamina.builder.execute import Executor
from lamina.container.capping import storage_options
from lamina.container.containers import Containers
from lamina.container.defaults import Defaults
from lamina.container.etcfiles import lent
from lamina.container.logdrivers import JSON_FILES, LogDefault
from lamina.container.parts import Parts as ContainerParts
from lamina.container.ranges import UserNamespaces
from lamina.content.durability import Durability, boot_id
from lamina.content.local import LocalContent
from lamina.daemon.collect import Collection
from lamina.daemon.events import EventBus
from lamina.daemon.host import read_host
from lamina.daemon.pool import Pool, open_pool
from lamina.daemon.root import claim
from lamina.daemon.system import Facts, System
from lamina.distribution.client import Registries
from lamina.distribution.proxies import Proxies
from lamina.distribution.transport import RegistryOptions
from lamina.errors import LaminaError
from lamina.explore.explorer import Explorer
from lamina.image.catalog import Catalog
from lamina.image.eviction import PRESSURE
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.metadata import Metadata
from lamina.image.pull import Puller
from lamina.image.push import Pusher
from lamina.image.remote import RegistryService
from lamina.image.store import Images
from lamina.network.firewall import tag_of
from lamina.network.networks import Networks
from lamina.network.networks import Parts as NetworkParts
from lamina.network.pools import POOLS
from lamina.runtime.abilities import abilities
from lamina.runtime.client import Runtime
from lamina.runtime.keeping import KeptFds
from lamina.runtime.runtimes import Runtimes
from lamina.snapshot.choose import Chosen, choose
from lamina.spec.platform import Platform
from lamina.volume.store import Volumes
from lamina.worker import WorkerPool
from lamina.worker.pool import pool_size

_log = logging.getLogger("lamina.daemon")
CERTIFICATES = ("/etc/lamina/certs.d", "/etc/docker/certs.d")
"""Where registries' authorities and the certificates for them lie."""
_STAY = 60.0
"""Seconds that one worker waits for whoever gives the next command by hand."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may choose. An empty `storage_driver` is probed for; `verify` looks at layers' bytes before each start; `what` is
    "daemon" or "library"."""

    storage_driver: str = ""
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    what: str = "library"
    verify: bool = False
    runtimes: Runtimes = field(default_factory=Runtimes)
    user_namespaces: UserNamespaces = field(default_factory=UserNamespaces)
    experimental: bool = False
    storage_options: tuple[str, ...] = ()
    originals: str = PRESSURE
    logging: LogDefault = JSON_FILES
    proxies: Proxies = field(default_factory=Proxies)
    defaults: Defaults = field(default_factory=Defaults)
    address_pools: tuple[tuple[str, int], ...] = POOLS


@dataclass(frozen=True, slots=True)
class Rooms:
    """An engine's parts, wired and recovered."""

    images: Images
    containers: Containers
    builder: Builder
    explorer: Explorer
    registry: RegistryService
    volumes: Volumes
    networks: Networks
    events: EventBus
    system: System


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every room stands on. `sizes` are the storage options in bytes."""

    root: str
    options: Options
    events: EventBus
    workers: WorkerPool
    durability: Durability
    content: LocalContent
    chosen: Chosen
    metadata: Metadata
    leases: Leases
    sizes: Mapping[str, int]
    pool: Pool


@dataclass(frozen=True, slots=True)
class _Stores:
    """What the upper rooms stand on."""

    images: Images
    layers: Layers
    volumes: Volumes
    networks: Networks
    runtime: Runtime


def assemble(root: str, options: Options, closing: ExitStack) -> Rooms:
    """Claim `root` and build everything on it; what must be ended is pushed on `closing`, in order.

    Raises:
        RootHeld, Unsupported, …: `closing` undoes what was begun.
    """
    ground = _ground(root, options, closing)
    stores = _stores(ground, closing)
    containers = _containers(ground, stores)
    closing.callback(containers.close)
    closing.callback(_release, stores.layers, containers)
    registry = _registry(ground, stores)
    closing.callback(registry.registries.close)
    builder = _builder(ground, stores, registry.puller, containers)
    facts = _facts(ground)
    explorer = Explorer(stores.images, stores.layers, containers, ground.workers, root, boot=boot_id())
    explorer.mounts.recover()
    containers.recover()
    builder.sweep()
    stores.images.collect()
    closing.callback(Collection(partial(_tend, stores.images, explorer)).close)
    if options.what == "daemon":
        # Containers are to come: nobody who asks for the first one waits for these 50 ms, and neither does whoever waits for the daemon.
        threading.Thread(target=_warm, args=(stores.runtime,), name="warm", daemon=True).start()
    system = System(facts, stores.images, containers, stores.volumes, stores.networks, builder, ground.events)
    return Rooms(stores.images, containers, builder, explorer, registry, stores.volumes, stores.networks, ground.events, system)


def _tend(images: Images, explorer: Explorer) -> None:
    """What somebody else unmounted is forgotten first: it keeps its layers no longer."""
    explorer.mounts.list()
    images.tend()


def _ground(root: str, options: Options, closing: ExitStack) -> _Ground:
    closing.callback(claim(root, options.what).close)
    for name in ("run", "volumes", "containers"):
        os.makedirs(f"{root}/{name}", mode=0o711, exist_ok=True)
    events = EventBus()
    closing.callback(events.close)
    workers = WorkerPool(pool_size(), path=tuple(sys.path), stay=_STAY)
    closing.callback(workers.close)
    sizes = storage_options(options.storage_options)
    pool = open_pool(root, sizes.get("pool", 0), workers)
    keeper = KeptFds(f"{root}/run")
    closing.callback(keeper.close)
    durability = Durability(root, boot_id())
    closing.callback(durability.flush)
    content = LocalContent(f"{root}/content", durability)
    chosen = choose(root, content, workers, keeper, driver=options.storage_driver)
    _log.info("storage driver %s: %s", chosen.snapshotter.name, chosen.reason)
    metadata = Metadata(f"{root}/metadata.db", _log.warning)
    closing.callback(metadata.close)
    return _Ground(root, options, events, workers, durability, content, chosen, metadata, Leases(), sizes, pool)


def _stores(ground: _Ground, closing: ExitStack) -> _Stores:
    root, content, metadata, leases = ground.root, ground.content, ground.metadata, ground.leases
    durability, emit, options = ground.durability, ground.events.emit, ground.options
    layers = Layers(f"{root}/layers", content, ground.chosen.snapshotter, metadata, leases, durability, _log.warning, verify=options.verify)
    catalog = Catalog(f"{root}/images", content, layers, metadata, leases, durability, _log.warning)
    images = Images(
        catalog, layers, content, leases, ground.workers, host=host_platform(), clock=time.time, emit=emit, originals=options.originals
    )
    images.open()
    closing.callback(images.close)
    runtime = Runtime(f"{root}/run")
    closing.callback(runtime.close)
    volumes = Volumes(f"{root}/volumes", clock=time.time_ns, emit=emit)
    networks = Networks(
        NetworkParts(
            f"{root}/networks",
            f"{root}/run",
            tag_of(root),
            emit,
            time.time_ns,
            lambda: secrets.token_hex(32),
            _log.warning,
            options.address_pools,
        )
    )
    closing.callback(networks.close)
    return _Stores(images, layers, volumes, networks, runtime)


def _facts(ground: _Ground) -> Facts:
    options = ground.options
    return Facts(
        ground.root,
        ground.chosen.snapshotter.name,
        ground.chosen.reason,
        read_host(ground.root),
        options.labels,
        options.insecure_registries,
        options.registry_mirrors,
        options.runtimes,
        options.user_namespaces,
        options.experimental,
        ground.pool,
        ground.sizes.get("size", 0),
        options.logging.driver,
        options.proxies,
        options.address_pools,
    )


def _warm(runtime: Runtime) -> None:
    try:
        runtime.warm()
    except (LaminaError, OSError) as error:
        _log.warning("containers cannot be started yet: %s", error)


def _release(layers: Layers, containers: Containers) -> None:
    """At a clean stop: no mount stays that nobody uses. What fails only leaves mounts."""
    try:
        layers.release(containers.layers_in_use())
    except (LaminaError, OSError) as error:
        _log.warning("layers stay mounted: %s", error)


def _containers(ground: _Ground, stores: _Stores) -> Containers:
    return Containers(
        ContainerParts(
            root=f"{ground.root}/containers",
            runtime=stores.runtime,
            images=stores.images,
            layers=stores.layers,
            leases=ground.leases,
            volumes=stores.volumes,
            networks=stores.networks,
            workers=ground.workers,
            emit=ground.events.emit,
            clock=time.time_ns,
            new_id=lambda: secrets.token_hex(32),
            choose=secrets.choice,
            driver=ground.chosen.snapshotter.name,
            platform=host_platform(),
            abilities=abilities(),
            runtimes=ground.options.runtimes,
            user_namespaces=ground.options.user_namespaces,
            container_size=ground.sizes.get("size", 0),
            logging=ground.options.logging,
            defaults=ground.options.defaults,
        )
    )


def _registry(ground: _Ground, stores: _Stores) -> RegistryService:
    options = ground.options
    registries = Registries(
        RegistryOptions(
            insecure=options.insecure_registries, mirrors=options.registry_mirrors, certificates=CERTIFICATES, proxies=options.proxies
        )
    )
    puller = Puller(registries, ground.content, stores.layers, stores.images, host=host_platform())
    pusher = Pusher(registries, ground.content, stores.layers, stores.images, ground.workers)
    return RegistryService(registries, puller, pusher)


def _builder(ground: _Ground, stores: _Stores, puller: Puller, containers: Containers) -> Builder:
    return Builder(
        BuildEngine(
            images=stores.images,
            layers=stores.layers,
            leases=ground.leases,
            cache=Cache(ground.metadata, stores.images, stores.layers),
            executor=Executor(
                stores.runtime,
                f"{ground.root}/run/build",
                ground.workers,
                stores.networks,
                containers.discard,
                partial(lent, containers.get),
                ground.options.defaults.resolver,
            ),
            workers=ground.workers,
            puller=puller,
            scratch=f"{ground.root}/run",
            host=host_platform(),
            now=time.time_ns,
            caches=CacheMounts(f"{ground.root}/caches"),
            proxies=ground.options.proxies,
            network="bridge",
            keep=containers.adopt_step,
        )
    )


def host_platform() -> Platform:
    """The platform of this machine."""
    return Platform.parse(f"linux/{os.uname().machine}")
