"""What the routes are served from: the engine's facades."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lamina.apitypes.events import Event
from lamina.apitypes.finding import Finding

if TYPE_CHECKING:
    from lamina.builder.build import Builder
    from lamina.container.containers import Containers
    from lamina.explore.explorer import Explorer
    from lamina.image.remote import RegistryService
    from lamina.image.store import Images
    from lamina.network.networks import Networks
    from lamina.spec.platform import Platform
    from lamina.volume.store import Volumes

Document = dict[str, Any]
"""A JSON object as the API spells it."""


class Events(Protocol):
    """What one listener has yet to read."""

    @property
    def closed(self) -> bool:
        """Whether no more will come."""

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None after `timeout` seconds without one, or at the end."""

    def close(self) -> None:
        """Stop listening."""


class EventSource(Protocol):
    """Where events come from."""

    def subscribe(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, since_ns: int | None = None, until_ns: int | None = None
    ) -> Events:
        """Listen, from `since_ns` on (None: from the oldest remembered where there is `until_ns`, else from now); ends at `until_ns` if that is past."""


class System(Protocol):
    """What is said of the engine as a whole."""

    def info(self) -> Document:
        """The API's SystemInfo."""

    def version(self) -> Document:
        """The API's SystemVersion."""

    def disk_usage(self, kinds: Sequence[str] = ()) -> Document:
        """The API's SystemDataUsageResponse; `kinds` (image, container, volume, build-cache) narrows it."""

    def details(self) -> Document:
        """The answer to GET /lamina/info."""

    def prune_images(self, filters: Mapping[str, Sequence[str]]) -> Document:
        """Remove unused images: the API's ImagePruneResponse."""

    def prune_build_cache(
        self, filters: Mapping[str, Sequence[str]], *, all: bool = False, keep: int = 0, most: int = 0, free: int = 0
    ) -> Document:
        """Remove build cache but `keep` bytes of it, or `most`, or what leaves `free` bytes of the disk: the API's BuildPruneResponse."""

    def plan_prune(self, kinds: Sequence[str], filters: Mapping[str, Sequence[str]], *, all: bool, keep: int = 0) -> Document:
        """What prunes of these kinds (containers, networks, volumes, images, build), one after the other, would remove and free."""

    def check(self, *, repair: bool = False) -> Iterator[Finding]:
        """What is wrong with the data root, bytes too, as it is found; with `repair`, what can be made anew is."""

    def remove_image(self, name: str, *, force: bool, prune: bool, platforms: Sequence[Platform] = ()) -> list[Document]:
        """Remove an image, or of it only those platforms, unless a container needs it: the API's ImageDeleteResponseItems."""


class Backend(Protocol):
    """The engine as the routes see it."""

    @property
    def images(self) -> Images: ...
    @property
    def containers(self) -> Containers: ...
    @property
    def builder(self) -> Builder: ...
    @property
    def explorer(self) -> Explorer: ...
    @property
    def registry(self) -> RegistryService: ...
    @property
    def volumes(self) -> Volumes: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def events(self) -> EventSource: ...
    @property
    def system(self) -> System: ...
