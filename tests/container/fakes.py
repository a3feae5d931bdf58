"""A runtime, images and layers in memory, and containers on them: life cycles without a process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lamina.apitypes.events import Event
from lamina.container.containers import Containers
from lamina.container.parts import Parts
from lamina.errors import LaminaError
from lamina.image.leases import Leases
from lamina.image.lookup import PlatformNotHere
from lamina.image.model import Image, ImageNotFound, LayerFacts, LayerNote
from lamina.layer.union import Union
from lamina.network.model import Network, NetworkNotFound, Sandbox
from lamina.network.wiring import Member, Wiring
from lamina.runtime.launch import Attach, Exec, Exit, Launch
from lamina.snapshot.protocol import Lower, Own, RootMount, Snapshotter
from lamina.spec.config import ContainerConfig, ImageConfig, RootFS
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.volume.store import Volumes, usage
from lamina.worker import InlineWorkers


class FakeProcess:
    """A process that ends when told to, or by a signal it does not ignore."""

    def __init__(self, pid: int, ignored: Sequence[int] = ()) -> None:
        self.pid, self.ignored = pid, tuple(ignored)
        self.signals: list[int] = []
        self.limits: list[dict[str, object]] = []
        self.out_of_memory: Callable[[], None] = lambda: None
        self.detached: Callable[[], None] = lambda: None
        self.attached: list[Attach] = []
        self.sizes: list[tuple[int, int]] = []
        self.frozen = False
        self._over = threading.Event()
        self._exit: Exit | None = None
        self._callbacks: list[Callable[[Exit], None]] = []

    def end(self, code: int = 0, *, number: int = 0) -> None:
        """Let it end."""
        self._exit = Exit(code, number, 1.0)
        self._over.set()
        for callback in self._callbacks:
            callback(self._exit)

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    def attach(self, attach: Attach) -> None:
        self.attached.append(attach)

    def resize(self, height: int, width: int) -> None:
        self.sizes.append((height, width))

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if number not in self.ignored and not self._over.is_set():
            self.end(128 + number, number=number)

    def pause(self) -> None:
        self.frozen = True

    def resume(self) -> None:
        self.frozen = False

    def pids(self) -> list[int]:
        return [self.pid]

    def wait(self, timeout: float | None = None) -> Exit | None:
        self._over.wait(timeout)
        return self._exit

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        if self._exit is not None:
            callback(self._exit)
        else:
            self._callbacks.append(callback)

    def on_oom(self, callback: Callable[[], None]) -> None:
        self.out_of_memory = callback

    def on_detach(self, callback: Callable[[], None]) -> None:
        self.detached = callback

    def usage(self, machine_memory: int) -> dict[str, Any]:
        return {"cpu_stats": {"cpu_usage": {"total_usage": 5}}, "memory_stats": {"usage": 7, "limit": machine_memory}}

    def limit(self, resources: dict[str, object]) -> None:
        self.limits.append(resources)


@dataclass
class FakeRuntime:
    """Starts FakeProcesses. `failure` is raised by the next start; `found` is what adopt answers by directory."""

    ignored: tuple[int, ...] = ()
    failure: LaminaError | OSError | None = None
    launches: list[Launch] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1000))
    found: dict[str, FakeProcess | Exit] = field(default_factory=dict)
    handed: list[Sequence[Attach]] = field(default_factory=list)

    def start(self, launch: Launch, attaches: Sequence[Attach] = ()) -> FakeProcess:
        if self.failure is not None:
            raise self.failure
        self.launches.append(launch)
        self.handed.append(list(attaches))
        return self._process()

    def exec(self, request: Exec, attaches: Sequence[Attach] = ()) -> FakeProcess:
        if self.failure is not None:
            raise self.failure
        self.handed.append(list(attaches))
        return self._process()

    def adopt(self, directory: str) -> FakeProcess | Exit | None:
        return self.found.get(directory)

    def _process(self) -> FakeProcess:
        process = FakeProcess(next(self.numbers), self.ignored)
        self.processes.append(process)
        return process


class FakeImages:
    """One image, `base`, whose configuration tests may change; `others` are those of the name for other platforms."""

    def __init__(self) -> None:
        config = ContainerConfig(cmd=("sh",), env=("PATH=/bin", "A=image"), labels={"from": "image"}, working_dir="/w")
        self.others: list[Image] = []
        self.image = self._made(ImageConfig("amd64", "linux", RootFS(), config))

    def resolve(self, text: str, platform: Platform | None = None) -> Image:
        known = {str(each.id): each for each in self.others}
        if text not in ("base", "base:latest", str(self.image.id), *known):
            raise ImageNotFound(f"No such image: {text}")
        found = [
            each
            for each in (known.get(text, self.image), self.image, *self.others)
            if platform is None or each.config.platform.matches(platform)
        ]
        if not found:
            raise PlatformNotHere(f"not for {platform}")
        return found[0]

    def expect(self, image: Digest) -> None:
        self.resolve(str(image))

    def list(self, *, all: bool = False) -> Sequence[Image]:
        return [self.image]

    def create(
        self, config: ImageConfig, layers: Sequence[LayerFacts], *, names: Sequence[Reference] = (), parent: Digest | None = None
    ) -> Image:
        return replace(self._made(config), names=tuple(names), parent=parent, layers=tuple(layer.id for layer in layers))

    def configure(self, **changes: object) -> None:
        """Change the image's configuration."""
        config = msgspec.structs.replace(self.image.config.config, **changes)
        self.image = replace(self.image, config=msgspec.structs.replace(self.image.config, config=config))

    @staticmethod
    def _made(config: ImageConfig) -> Image:
        digest = Digest.of(repr(config).encode())
        return Image(digest, Descriptor("x", digest, 1), config, b"{}", ())


class FakeLayers:
    """No layers at all; a commit answers a layer that says which directory it was made of."""

    @property
    def driver(self) -> Snapshotter:
        raise AssertionError("there are no layers")

    def chain(self, layer: Digest | None) -> Sequence[LayerFacts]:
        return ()

    def all(self) -> list[LayerFacts]:
        return []

    def prepare(self, layer: Digest | None, own: Own) -> None: ...

    def root(self, layer: Digest | None, own: Own, *, writable: bool = True) -> RootMount:
        if not writable:
            return RootMount((Lower(path=own.upper), Lower(path=own.init)))
        return RootMount((Lower(path=own.init),), own.upper, own.work, own.volatile)

    def verify_stack(self, layer: Digest | None) -> None: ...

    def changes(self, layer: Digest | None, upper: str, over: Sequence[str] = ()) -> Sequence[tuple[str, str]]:
        return ()

    def written(self, layer: Digest | None, upper: str) -> int:
        return usage(upper)

    def union(self, layer: Digest | None) -> Union:
        return Union([])

    def commit_upper(
        self, upper: str, parent: Digest | None, note: LayerNote, *, over: Sequence[str] = (), cached: bool = True
    ) -> LayerFacts:
        diff = Digest.of(upper.encode())
        return LayerFacts(diff, diff, parent, diff.encoded, 1024)


class FakeNetworks:
    """Containers are on no network."""

    connector: object = None

    def __init__(self) -> None:
        self.members: list[Member] = []

    def join(self, member: Member) -> tuple[Sandbox, Wiring]:
        self.members.append(member)
        return Sandbox(member.id, member.name), Wiring()

    def leave(self, container: str, kind: str = "bridge", *, shared: bool = False) -> None:
        self.members = [member for member in self.members if member.id != container]

    def restore(self, box: Sandbox, begun: str, pid: int) -> Sandbox:
        return box

    def ended(self, box: Sandbox, *, shared: bool) -> None: ...

    def started(self, container: str, pid: int) -> None: ...

    def renamed(self, container: str, name: str) -> None: ...

    def sandbox(self, container: str) -> Sandbox | None:
        return None

    def ids(self) -> dict[str, str]:
        return {}

    def get(self, ref: str) -> Network:
        raise NetworkNotFound(f"network {ref} not found")

    def canonical(self, ref: str) -> str:
        return ref

    def recover(self) -> None: ...

    def host_gateway(self) -> str:
        return "172.17.0.1"


@dataclass
class World:
    """Containers on fakes. `events` are what they emitted; `again()` is another engine on the same root after a crash."""

    root: Path
    runtime: FakeRuntime = field(default_factory=FakeRuntime)
    images: FakeImages = field(default_factory=FakeImages)
    events: list[Event] = field(default_factory=list)
    clock: Callable[[], int] = field(default_factory=lambda: itertools.count(10**18).__next__)
    first: int = 0xABC0 << 236

    def __post_init__(self) -> None:
        ids = (f"{number:064x}" for number in itertools.count(self.first))
        self.leases = Leases()
        self.volumes = Volumes(str(self.root / "volumes"), clock=self.clock)
        self.parts = Parts(
            root=str(self.root / "containers"),
            runtime=self.runtime,
            images=self.images,
            layers=FakeLayers(),
            leases=self.leases,
            volumes=self.volumes,
            networks=FakeNetworks(),
            workers=InlineWorkers(),
            emit=self.events.append,
            clock=self.clock,
            new_id=lambda: next(ids),
            choose=lambda words: words[0],
        )
        self.containers = Containers(self.parts)

    def again(self) -> World:
        """The engine of the next process; nothing was closed."""
        world = World(self.root, images=self.images, first=self.first + 1000)
        world.runtime.found = self.runtime.found
        return world

    def run(self, name: str = "it", *, host: dict[str, object] | None = None, **config: object) -> FakeProcess:
        """Create and start; the process."""
        created = self.containers.create({"Image": "base", **config}, host, name=name)
        self.containers.start(created.id)
        return self.runtime.processes[-1]

    def actions(self, *, without: Sequence[str] = ()) -> list[str]:
        """The actions of the events so far."""
        return [event.action for event in self.events if event.action not in without]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Containers on fakes; a test module imports it."""
    return World(tmp_path)
