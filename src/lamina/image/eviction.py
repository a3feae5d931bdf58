"""Compressed originals of layers: kept as they came by pull, and given up where the disk gets full, or at once where that is asked for.

A layer's tar stays, so nothing is lost of an image but its compressed form: a push compresses anew, and another digest may come of it; a
save writes plain tars; a tar that is damaged is not mended from here but from its registry. Where a storage driver keeps no tar, the
compressed form is what its trees are mended from, and stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lamina.content.store import ContentStore
from lamina.errors import LaminaError
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.spec.digest import Digest

ALWAYS, PRESSURE, NEVER = "always", "pressure", "never"
KEEPING = (ALWAYS, PRESSURE, NEVER)
"""When compressed originals are kept: always, until the disk gets full, never."""
_FREE = 0.1
Space = Callable[[], tuple[int, int]]
"""Bytes that are free on the disk, and all."""


@dataclass(frozen=True, slots=True)
class Original:
    """A compressed form of a layer whose tar is here too. `size` is bytes on disk, `used` when it was read last (seconds since 1970)."""

    digest: Digest
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Evictor:
    """Gives up originals. `keep` is one of KEEPING."""

    layers: Layers
    content: ContentStore
    leases: Leases
    space: Space
    keep: str = PRESSURE

    def originals(self) -> list[Original]:
        """What may go, the least recently used first."""
        found: dict[Digest, Original] = {}
        for facts in self.layers.all():
            for source in facts.sources:
                with suppress(LaminaError, OSError):
                    if self.layers.tar_blob(facts.diff_id) is None:
                        continue
                    status = os.stat(self.content.path(source.digest))
                    found[source.digest] = Original(source.digest, status.st_blocks * 512, max(status.st_atime, status.st_mtime))
        return sorted(found.values(), key=lambda each: (each.used, each.digest))

    def run(self) -> int:
        """Give up what the setting and the disk ask for; bytes freed. Does nothing while an operation is under way, which may be
        reading."""
        wanted = self._wanted()
        if not wanted:
            return 0
        freed = 0
        # Looked for before: after a crash of the machine that hashes them, and nothing begins while the leases' gate is held.
        originals = self.originals()
        with self.leases.quiet() as quiet:
            for each in originals if quiet else ():
                if freed >= wanted:
                    break
                self.layers.forget_source(each.digest)
                freed += each.size
        return freed

    def _wanted(self) -> int:
        """How many bytes are to be freed."""
        if self.keep != PRESSURE:
            return 0 if self.keep == ALWAYS else 1 << 62
        free, whole = self.space()
        return max(int(whole * _FREE) - free, 0)


def space_of(root: str) -> Space:
    """What statvfs(3) says of the file system of `root`."""

    def space() -> tuple[int, int]:
        status = os.statvfs(root)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    return space
