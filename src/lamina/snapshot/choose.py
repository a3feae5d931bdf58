"""Choosing a driver for a data root, and making it."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, replace
from typing import Protocol

from lamina.content.files import write_file
from lamina.errors import Conflict
from lamina.layer.tree import Limits
from lamina.snapshot.erofs import BlobPath, ErofsSnapshotter
from lamina.snapshot.layers import IMAGE_SUFFIX
from lamina.snapshot.native import COPIED, NativeSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.probe import ProbeResult, probe
from lamina.snapshot.protocol import FdStore, Snapshotter
from lamina.spec.digest import Digest
from lamina.worker.workers import Workers

NOTE = "driver"
"""The file in a data root that names its driver."""
_KEPT = "the layers of this data root were made with it"


class DriverMismatch(Conflict):
    """The data root has layers of another storage driver."""


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
    """The driver that the data root's layers were made with; of an empty one the best that works, or the one called `driver`.

    Raises:
        DriverMismatch: the root has layers of another driver than `driver`.
        DriverUnavailable: none works, or not that one; says why.
    """
    kept = made_with(root)
    if driver and kept and driver != kept:
        raise DriverMismatch(
            f"data root {root} has layers of the {kept} storage driver, not of {driver}",
            hint="use another --root, or remove its images first",
        )
    probed = probe(root, driver or kept)
    if kept and not driver:
        probed = replace(probed, reason=f"{_KEPT}; {probed.reason}" if kept == "erofs" else _KEPT)

    if _noted(root) != probed.driver:
        write_file(os.path.join(root, NOTE), probed.driver.encode() + b"\n")

    def blob_path(encoded: str) -> str:
        return content.path(Digest("sha256", encoded))

    return Chosen(open_driver(probed, root, blob_path=blob_path, workers=workers, fds=fds), probed.reason, probed.details)


def made_with(root: str) -> str:
    """The driver whose layers the data root has, "" where it has none: the one that is noted, if it keeps layers as these are."""
    try:
        entries = set(os.listdir(os.path.join(root, "layers")))
    except FileNotFoundError:
        return ""
    names = {entry.removesuffix(IMAGE_SUFFIX) for entry in entries if entry.endswith(IMAGE_SUFFIX)}
    if not names:
        return ""
    if not names & entries:
        return "erofs"
    noted = _noted(root)
    if noted in ("overlay", "native"):
        return noted
    return "native" if any(glob.iglob(os.path.join(glob.escape(root), "containers", "*", COPIED))) else "overlay"


def _noted(root: str) -> str:
    """What the root's file says; anything where it is damaged, "" where it is missing."""
    try:
        with open(os.path.join(root, NOTE), encoding="utf-8", errors="replace") as file:
            return file.read(100).strip()
    except OSError:
        return ""


def open_driver(
    probed: ProbeResult, root: str, *, blob_path: BlobPath, workers: Workers, fds: FdStore, limits: Limits | None = None
) -> Snapshotter:
    """The driver that was probed, on the data root `root`. `blob_path` gives the path of a blob by its SHA-256 in hex."""
    if probed.driver == "erofs":
        return ErofsSnapshotter(root, blob_path, workers, fds, probed.ways, limits)
    made = OverlaySnapshotter if probed.driver == "overlay" else NativeSnapshotter
    return made(root, workers, limits)
