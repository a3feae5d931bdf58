"""The one place that builds the object graph: from a data root and options to an engine's parts."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from lamina.apitypes.events import Emit
from lamina.builder.build import Builder
from lamina.builder.cache import Cache
from lamina.builder.cachemounts import CacheMounts
from lamina.builder.engine import Engine as BuildEngine
from lamina.builder.engine import Keep
from lamina.builder.execute import Executor
from lamina.container.capping import storage_options
from lamina.container.containers import Containers
from lamina.container.parts import Parts as ContainerParts
from lamina.container.ranges import UserNamespaces
from lamina.content.durability import Durability, boot_id
from lamina.content.local import LocalContent
from lamina.content.store import ContentStore
from lamina.daemon.collect import Collection
from lamina.daemon.events import EventBus
from lamina.daemon.host import read_host
from lamina.daemon.pool import open_pool
from lamina.daemon.root import claim
from lamina.daemon.system import Facts, System
from lamina.distribution.client import Registries
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
from lamina.network.networks import Networks, tag_of
from lamina.network.networks import Parts as NetworkParts
from lamina.runtime.abilities import abilities
from lamina.runtime.client import Runtime
from lamina.runtime.keeping import KeptFds
from lamina.runtime.runtimes import Runtimes
from lamina.snapshot.choose import choose
from lamina.spec.platform import Platform
from lamina.volume.store import Volumes
from lamina.worker import WorkerPool, Workers
from lamina.worker.pool import pool_size

_log = logging.getLogger("lamina.daemon")


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may choose. An empty `storage_driver` is probed for; `verify` looks at layers' bytes before each start; `what` is "daemon" or "library"."""

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


def assemble(root: str, options: Options, closing: ExitStack) -> Rooms:
    """Claim `root` and build everything on it; what must be ended is pushed on `closing`, in order.

    Raises:
        RootHeld, Unsupported, …: `closing` undoes what was begun.
    """
    closing.callback(claim(root, options.what).close)
    for name in ("run", "volumes", "containers"):
        os.makedirs(f"{root}/{name}", mode=0o711, exist_ok=True)
    events = EventBus()
    closing.callback(events.close)
    workers = WorkerPool(pool_size(), path=tuple(sys.path))
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
    leases = Leases()
    layers = Layers(f"{root}/layers", content, chosen.snapshotter, metadata, leases, durability, _log.warning, verify=options.verify)
    catalog = Catalog(f"{root}/images", content, layers, metadata, leases, durability, _log.warning)
    images = Images(
        catalog, layers, content, leases, workers, host=host_platform(), clock=time.time, emit=events.emit, originals=options.originals
    )
    images.open()
    closing.callback(images.close)
    runtime = Runtime(f"{root}/run")
    closing.callback(runtime.close)
    volumes = Volumes(f"{root}/volumes", clock=time.time_ns, emit=events.emit)
    networks = Networks(
        NetworkParts(
            f"{root}/networks", f"{root}/run", tag_of(root), events.emit, time.time_ns, lambda: secrets.token_hex(32), _log.warning
        )
    )
    closing.callback(networks.close)
    stores = _Stores(
        root,
        images,
        layers,
        leases,
        metadata,
        content,
        volumes,
        networks,
        runtime,
        workers,
        chosen.snapshotter.name,
        options.runtimes,
        options.user_namespaces,
        sizes.get("size", 0),
    )
    containers = _containers(stores, events.emit)
    closing.callback(containers.close)
    closing.callback(_release, layers, containers)
    registry = _registry(stores, options)
    closing.callback(registry.registries.close)
    builder = _builder(stores, registry.puller, containers.adopt_step)
    facts = Facts(
        root,
        chosen.snapshotter.name,
        chosen.reason,
        read_host(root),
        options.labels,
        options.insecure_registries,
        options.registry_mirrors,
        options.runtimes,
        options.user_namespaces,
        options.experimental,
        pool,
        sizes.get("size", 0),
    )
    explorer = Explorer(images, layers, containers, workers, root)
    explorer.mounts.recover()
    containers.recover()
    builder.sweep()
    images.collect()
    closing.callback(Collection(images.tend).close)
    if options.what == "daemon":
        # Containers are to come: nobody who asks for the first one waits for these 50 ms, and neither does who waits for the daemon.
        threading.Thread(target=_warm, args=(runtime,), name="warm", daemon=True).start()
    return Rooms(
        images,
        containers,
        builder,
        explorer,
        registry,
        volumes,
        networks,
        events,
        System(facts, images, containers, volumes, networks, builder, events),
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


@dataclass(frozen=True, slots=True)
class _Stores:
    """What the upper rooms stand on."""

    root: str
    images: Images
    layers: Layers
    leases: Leases
    metadata: Metadata
    content: ContentStore
    volumes: Volumes
    networks: Networks
    runtime: Runtime
    workers: Workers
    driver: str
    runtimes: Runtimes
    user_namespaces: UserNamespaces
    container_size: int


def _containers(stores: _Stores, emit: Emit) -> Containers:
    return Containers(
        ContainerParts(
            root=f"{stores.root}/containers",
            runtime=stores.runtime,
            images=stores.images,
            layers=stores.layers,
            leases=stores.leases,
            volumes=stores.volumes,
            networks=stores.networks,
            workers=stores.workers,
            emit=emit,
            clock=time.time_ns,
            new_id=lambda: secrets.token_hex(32),
            choose=secrets.choice,
            driver=stores.driver,
            platform=host_platform(),
            abilities=abilities(),
            runtimes=stores.runtimes,
            user_namespaces=stores.user_namespaces,
            container_size=stores.container_size,
        )
    )


def _registry(stores: _Stores, options: Options) -> RegistryService:
    registries = Registries(RegistryOptions(insecure=options.insecure_registries, mirrors=options.registry_mirrors))
    puller = Puller(registries, stores.content, stores.layers, stores.images, host=host_platform())
    pusher = Pusher(registries, stores.content, stores.layers, stores.images, stores.workers)
    return RegistryService(registries, puller, pusher)


def _builder(stores: _Stores, puller: Puller, keep: Keep) -> Builder:
    return Builder(
        BuildEngine(
            images=stores.images,
            layers=stores.layers,
            leases=stores.leases,
            cache=Cache(stores.metadata, stores.images, stores.layers),
            executor=Executor(stores.runtime, f"{stores.root}/run/build", stores.workers, stores.networks),
            workers=stores.workers,
            puller=puller,
            scratch=f"{stores.root}/run",
            host=host_platform(),
            now=time.time_ns,
            caches=CacheMounts(f"{stores.root}/caches"),
            network="bridge",
            keep=keep,
        )
    )


def host_platform() -> Platform:
    """The platform of this machine."""
    return Platform.parse(f"linux/{os.uname().machine}")
