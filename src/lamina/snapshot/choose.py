"""Choosing a driver for a data root, and making it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lamina.layer.tree import Limits
from lamina.snapshot.erofs import BlobPath, ErofsSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.probe import ProbeResult, probe
from lamina.snapshot.protocol import FdStore, Snapshotter
from lamina.spec.digest import Digest
from lamina.worker.workers import Workers


class Blobs(Protocol):
    """What a driver needs of a content store: layers' tars lie there."""

    def path(self, digest: Digest) -> str:
        """The host path of a blob; may raise NotFound where there is none."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A driver and why it is this one; `details` are what each attempt gave."""

    snapshotter: Snapshotter
    reason: str
    details: tuple[tuple[str, str], ...] = ()


def choose(root: str, content: Blobs, workers: Workers, fds: FdStore, *, driver: str = "") -> Chosen:
    """The best driver that works on the data root, or the one called `driver`.

    Raises:
        DriverUnavailable: none works, or not that one; says why.
    """
    probed = probe(root, driver)

    def blob_path(encoded: str) -> str:
        return content.path(Digest("sha256", encoded))

    return Chosen(open_driver(probed, root, blob_path=blob_path, workers=workers, fds=fds), probed.reason, probed.details)


def open_driver(
    probed: ProbeResult, root: str, *, blob_path: BlobPath, workers: Workers, fds: FdStore, limits: Limits | None = None
) -> Snapshotter:
    """The driver that was probed, on the data root `root`. `blob_path` gives the path of a blob by its SHA-256 in hex."""
    if probed.driver == "erofs":
        return ErofsSnapshotter(root, blob_path, workers, fds, probed.ways, limits)
    return OverlaySnapshotter(root, workers, limits)
