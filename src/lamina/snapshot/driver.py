"""Making the driver that a probe chose."""

from __future__ import annotations

from lamina.layer.tree import Limits
from lamina.snapshot.erofs import BlobPath, ErofsSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.probe import ProbeResult
from lamina.snapshot.protocol import FdStore, Snapshotter
from lamina.worker.workers import Workers


def open_driver(
    probed: ProbeResult, root: str, *, blob_path: BlobPath, workers: Workers, fds: FdStore, limits: Limits | None = None
) -> Snapshotter:
    """The driver on the data root `root`. `blob_path` gives the path of a blob by its SHA-256 in hex."""
    if probed.driver == "erofs":
        return ErofsSnapshotter(root, blob_path, workers, fds, probed.ways, limits)
    return OverlaySnapshotter(root, workers, limits)
