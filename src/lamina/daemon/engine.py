"""The engine in one object: `lamina.Engine.open(root)`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from lamina.builder.build import Builder
from lamina.container.containers import Containers
from lamina.container.defaults import Defaults
from lamina.container.logdrivers import JSON_FILES, LogDefault
from lamina.container.ranges import UserNamespaces
from lamina.daemon.events import EventBus
from lamina.daemon.system import System
from lamina.daemon.wire import Options, Rooms, assemble
from lamina.distribution.proxies import Proxies
from lamina.errors import Conflict, InvalidArgument
from lamina.explore.explorer import Explorer
from lamina.image.eviction import PRESSURE
from lamina.image.remote import RegistryService
from lamina.image.store import Images
from lamina.linux.openfiles import allow_many
from lamina.network.networks import Networks
from lamina.network.pools import POOLS
from lamina.runtime.runtimes import Runtimes
from lamina.volume.store import Volumes


class EngineClosed(Conflict):
    """The engine let go of its root: others may hold it now."""


class Engine:
    """Images, layers, containers and builds on one data root, in this process.

    One process holds a root at a time. A context manager; closing it leaves containers running.
    """

    def __init__(self, rooms: Rooms, closing: ExitStack) -> None:
        self._opened: Rooms | None = rooms
        self._closing = closing

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        *,
        storage_driver: str = "",
        insecure_registries: Sequence[str] = (),
        registry_mirrors: Sequence[str] = (),
        labels: Sequence[str] = (),
        what: str = "library",
        verify: bool = False,
        runtimes: Runtimes | None = None,
        user_namespaces: UserNamespaces | None = None,
        experimental: bool = False,
        storage_options: Sequence[str] = (),
        originals: str = PRESSURE,
        logging: LogDefault = JSON_FILES,
        proxies: Proxies | None = None,
        defaults: Defaults | None = None,
        address_pools: Sequence[tuple[str, int]] = POOLS,
    ) -> Self:
        """Open the data root, which is made where it is not there. `storage_driver` is erofs, overlay or native; empty: what this kernel
        does best. `runtimes` are other OCI runtimes that containers may name, and which one is the default, `user_namespaces` what they get
        that name none. `storage_options` are size=10G, which caps what each container writes, and pool=100G, for all of them together.
        `originals` says when compressed originals of pulled layers are kept: always, until the disk gets full (pressure), or never.
        `logging` is the log driver of containers that name none, with its options. `proxies` lead to registries and other addresses; None:
        those that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name. `defaults` are what containers get that do not say, `address_pools` what
        automatic subnets are cut from, each with the length of their prefix. This process may have more files open afterwards.

        Raises:
            RootHeld: another process holds it; the message says which.
            Unsupported: a newer Lamina wrote it, or the kernel lacks what it needs.
            InvalidArgument: `root` is empty, not UTF-8, or not a directory one can write to.
        """
        if not root:  # abspath would make it the current directory, which would be filled and closed to others
            raise InvalidArgument("the data root is an empty text: name a directory")
        root = os.path.abspath(root)
        if not root.isprintable():  # clients get paths below it as JSON
            raise InvalidArgument(f"the data root is {root!r}: name a directory of printable characters")
        options = Options(
            storage_driver,
            tuple(insecure_registries),
            tuple(registry_mirrors),
            tuple(labels),
            what,
            verify,
            runtimes or Runtimes(),
            user_namespaces or UserNamespaces(),
            experimental,
            tuple(storage_options),
            originals,
            logging,
            Proxies.from_environment(os.environ) if proxies is None else proxies,
            defaults or Defaults(),
            tuple(address_pools),
        )
        allow_many()
        with ExitStack() as closing:
            rooms = assemble(root, options, closing)
            return cls(rooms, closing.pop_all())

    @property
    def _rooms(self) -> Rooms:
        if self._opened is None:
            raise EngineClosed("the engine is closed")
        return self._opened

    @property
    def images(self) -> Images:
        """Images and the layers and files in them."""
        return self._rooms.images

    @property
    def containers(self) -> Containers:
        """Containers."""
        return self._rooms.containers

    @property
    def builder(self) -> Builder:
        """Builds from Dockerfiles."""
        return self._rooms.builder

    @property
    def explorer(self) -> Explorer:
        """Questions about the layers of images and containers."""
        return self._rooms.explorer

    @property
    def registry(self) -> RegistryService:
        """Pull, push, login, search."""
        return self._rooms.registry

    @property
    def volumes(self) -> Volumes:
        """Volumes."""
        return self._rooms.volumes

    @property
    def networks(self) -> Networks:
        """Networks."""
        return self._rooms.networks

    @property
    def events(self) -> EventBus:
        """What happens."""
        return self._rooms.events

    @property
    def system(self) -> System:
        """The engine as a whole."""
        return self._rooms.system

    def close(self) -> None:
        """Let go of the root; containers go on. Idempotent. What is asked of the engine afterwards, also by objects that it gave, raises
        EngineClosed."""
        self._opened = None
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
