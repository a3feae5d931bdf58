"""The overlay driver: layers extracted into directories and stacked by overlayfs, for kernels that cannot mount a tar. Works on every
one."""

from __future__ import annotations

from lamina.snapshot.stacked import Stacked
from lamina.snapshot.trees import Trees


class OverlaySnapshotter(Trees, Stacked):
    """See `protocol.Snapshotter`."""

    name = "overlay"
