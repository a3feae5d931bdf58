"""What the containers need of other rooms, as small protocols: tests put fakes behind them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from lamina.apitypes.events import Emit
from lamina.container.defaults import Defaults
from lamina.container.logdrivers import JSON_FILES, LogDefault
from lamina.container.ranges import UserNamespaces
from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.layer.union import Union
from lamina.network.model import Connector, Network, Sandbox
from lamina.network.wiring import Member, Wiring
from lamina.runtime.abilities import Abilities
from lamina.runtime.launch import Attach, Exec, Exit, Launch
from lamina.runtime.runtimes import Runtimes
from lamina.snapshot.protocol import Lower, Own, RootMount, Snapshotter
from lamina.spec.config import ImageConfig
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.volume.store import Volumes
from lamina.worker import Workers


class Process(Protocol):
    """A running process; see `runtime.client.Process`."""

    @property
    def pid(self) -> int: ...

    def attach(self, attach: Attach) -> None: ...

    def resize(self, height: int, width: int) -> None: ...

    def signal(self, number: int) -> None: ...

    @property
    def ended(self) -> bool: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    @property
    def frozen(self) -> bool: ...

    def pids(self) -> list[int]: ...

    def wait(self, timeout: float | None = None) -> Exit | None: ...

    def on_exit(self, callback: Callable[[Exit], None]) -> None: ...

    def on_oom(self, callback: Callable[[], None]) -> None: ...

    def on_detach(self, callback: Callable[[], None]) -> None: ...

    def usage(self, machine_memory: int) -> dict[str, Any]: ...

    def limit(self, resources: dict[str, Any]) -> None: ...


class Runtime(Protocol):
    """See `runtime.client.Runtime`."""

    def start(self, launch: Launch, attaches: Sequence[Attach] = ()) -> Process: ...

    def exec(self, request: Exec, attaches: Sequence[Attach] = ()) -> Process: ...

    def adopt(self, directory: str) -> Process | Exit | None: ...


class Images(Protocol):
    """See `image.store.Images`."""

    def resolve(self, text: str, platform: Platform | None = None) -> Image: ...

    def expect(self, image: Digest) -> None: ...

    def list(self, *, all: bool = False) -> Sequence[Image]: ...

    def create(
        self, config: ImageConfig, layers: Sequence[LayerFacts], *, names: Sequence[Reference] = (), parent: Digest | None = None
    ) -> Image: ...


class Layers(Protocol):
    """See `image.layers.Layers`."""

    @property
    def driver(self) -> Snapshotter: ...

    def all(self) -> Sequence[LayerFacts]: ...

    def chain(self, layer: Digest | None) -> Sequence[LayerFacts]: ...

    def lowers(self, layer: Digest | None) -> tuple[Lower, ...]: ...

    def prepare(self, layer: Digest | None, own: Own) -> None: ...

    def root(self, layer: Digest | None, own: Own, *, writable: bool = True) -> RootMount: ...

    def verify_stack(self, layer: Digest | None) -> None: ...

    def changes(self, layer: Digest | None, upper: str, over: Sequence[str] = ()) -> Sequence[tuple[str, str]]: ...

    def written(self, layer: Digest | None, upper: str) -> int: ...

    def union(self, layer: Digest | None) -> Union: ...

    def commit_upper(
        self, upper: str, parent: Digest | None, note: LayerNote, *, over: Sequence[str] = (), cached: bool = True
    ) -> LayerFacts: ...


class Leases(Protocol):
    """See `image.leases.Leases`."""

    def hold(self, *digests: Digest) -> AbstractContextManager[None]: ...

    def pin(self, owner: str, digests: Iterable[Digest]) -> None: ...

    def unpin(self, owner: str) -> None: ...


class Networks(Protocol):
    """See `network.networks.Networks`."""

    def join(self, member: Member) -> tuple[Sandbox, Wiring]: ...

    def leave(self, container: str, kind: str = "bridge", *, shared: bool = False) -> None: ...

    def restore(self, box: Sandbox, begun: str, pid: int) -> Sandbox: ...

    def ended(self, box: Sandbox, *, shared: bool) -> None: ...

    def started(self, container: str, pid: int) -> None: ...

    def renamed(self, container: str, name: str) -> None: ...

    def sandbox(self, container: str) -> Sandbox | None: ...

    def ids(self) -> dict[str, str]: ...

    def get(self, ref: str) -> Network: ...

    def plug(self, network: Network, member: Member, settings: Mapping[str, Any], pid: int, note: Callable[[Sandbox], None]) -> Sandbox: ...

    def unplug(self, network: Network, container: str, pid: int) -> Sandbox | None: ...

    def canonical(self, ref: str) -> str: ...

    @property
    def connector(self) -> Connector | None: ...

    @connector.setter
    def connector(self, connector: Connector) -> None: ...

    def recover(self) -> None: ...

    def host_gateway(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the containers stand on. `root` is ROOT/containers; `clock` gives nanoseconds since 1970, `monotonic` seconds of a clock
    that nobody sets; `new_id` 64 hex digits; `driver` is the storage driver's name, shown by inspect; `platform` this machine's; `abilities`
    what can be limited here; `runtimes` are what --runtime may name; `container_size` caps what each container writes, in bytes, unless it
    asks for another size (0: nothing does); `user_namespaces` are what --userns means where it is not given, `logging` what --log-driver and
    --log-opt do, `defaults` other things that a container may leave open."""

    root: str
    runtime: Runtime
    images: Images
    layers: Layers
    leases: Leases
    volumes: Volumes
    networks: Networks
    workers: Workers
    emit: Emit
    clock: Callable[[], int]
    new_id: Callable[[], str]
    choose: Callable[[Sequence[str]], str]
    driver: str = "erofs"
    platform: Platform = field(default_factory=Platform)
    abilities: Abilities = field(default_factory=Abilities)
    runtimes: Runtimes = field(default_factory=Runtimes)
    container_size: int = 0
    user_namespaces: UserNamespaces = field(default_factory=UserNamespaces)
    logging: LogDefault = JSON_FILES
    defaults: Defaults = field(default_factory=Defaults)
    monotonic: Callable[[], float] = time.monotonic
