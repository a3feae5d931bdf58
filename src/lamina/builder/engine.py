"""What builds share: the parts of the engine that a Builder is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lamina.builder.cache import Cache
from lamina.builder.cachemounts import CacheMounts
from lamina.builder.execute import Executor
from lamina.distribution.auth import Auth
from lamina.distribution.proxies import Proxies
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.model import Image, LayerFacts, Variant
from lamina.spec.config import ImageConfig
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink
from lamina.spec.reference import Reference
from lamina.worker.workers import Workers


class ImageStore(Protocol):
    """What builds need of image.store.Images."""

    def resolve(self, text: str, platform: Platform | None = None) -> Image: ...

    def variants(self, image: Image) -> Sequence[Variant]: ...

    def create(
        self,
        config: ImageConfig | bytes,
        layers: Sequence[LayerFacts],
        *,
        names: Sequence[Reference] = (),
        parent: Digest | None = None,
        intermediate: bool = False,
    ) -> Image: ...

    def tag(self, source: str, target: Reference) -> object: ...


class Pulls(Protocol):
    """What builds need of image.pull.Puller."""

    def pull(
        self, reference: Reference, *, platform: Platform | None = None, all_tags: bool = False, auth: Auth | None = None, sink: Sink = ...
    ) -> Sequence[Image]: ...


Keep = Callable[[str, Mapping[str, Any], Mapping[str, Any], str, int], bool]
"""Makes a container of a step that has run: its ID, the API's ContainerConfig and HostConfig, its upper directory, which is taken, and its
exit code."""


def keep_none(container: str, config: Mapping[str, Any], host: Mapping[str, Any], upper: str, code: int) -> bool:  # noqa: ARG001
    """Where nobody keeps containers of steps."""
    return False


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts. `now` gives nanoseconds since 1970; `scratch` is a directory on the data root's file system.

    `caches` are the folders of RUN --mount=type=cache. `network` is what a RUN gets where nothing is asked for. `keep` is for
    builds that leave the containers of their steps.
    """

    images: ImageStore
    layers: Layers
    leases: Leases
    cache: Cache
    executor: Executor
    workers: Workers
    puller: Pulls
    scratch: str
    host: Platform
    now: Callable[[], int]
    caches: CacheMounts
    network: str = "none"
    keep: Keep = keep_none
    proxies: Proxies = field(default_factory=Proxies)
