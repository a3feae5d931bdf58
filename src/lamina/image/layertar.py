"""The exact tar of a layer, for workers: from its blob, put together again by the storage driver, or out of a compressed form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from isal import isal_zlib

from lamina.image.tarbytes import decompressed
from lamina.layer.errors import LayerDamaged
from lamina.layer.skeleton import rebuilt
from lamina.layer.stream import Behind, even
from lamina.linux.channel import write_all
from lamina.linux.uncached import Chunk, read_once
from lamina.snapshot.protocol import Rebuilt
from lamina.worker.workers import Report

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TarPlace:
    """Where a layer's tar is to be had: a file, compressed or not, or what it is put together from. `crc32` is what the tar had when it
    came, if that is known and enough."""

    diff_id: str
    path: str = ""
    compression: str = ""
    skeleton: str = ""
    tree: str = ""
    crc32: int | None = None

    @classmethod
    def of(cls, diff_id: str, parts: Rebuilt, crc32: int | None = None) -> TarPlace:
        return cls(diff_id, skeleton=parts.skeleton, tree=parts.tree, crc32=crc32)

    @property
    def plain(self) -> bool:
        """Whether `path` is the tar itself."""
        return bool(self.path) and not self.compression

    def params(self) -> dict[str, Any]:
        """For a worker, which makes it anew of them."""
        return asdict(self)

    def chunks(self) -> Iterator[Chunk]:
        """The tar in pieces of a megabyte, the last one shorter. Whether it is what it was is for the caller to see, by a `Seal`.

        Raises:
            LayerDamaged, Corrupt: it cannot be had.
        """
        if self.skeleton:
            yield from rebuilt(self.skeleton, self.tree)
        elif self.compression:
            with decompressed(open(self.path, "rb", buffering=0), self.compression) as file:
                yield from even(iter(lambda: file.read(_CHUNK), b""))
        else:
            with open(self.path, "rb", buffering=0) as plain:
                yield from even(read_once(plain.fileno()))


class Seal:
    """Looks at a tar that goes by, and says in the end whether it is still the layer's: by its CRC-32 where the place has one, at a
    tenth of what the digest costs, else by that."""

    def __init__(self, place: TarPlace) -> None:
        self._place = place
        self._digest = hashlib.sha256() if place.crc32 is None else None
        self._crc32 = 0

    @property
    def by_digest(self) -> bool:
        """Whether the tar is to be hashed."""
        return self._digest is not None

    def update(self, chunk: Chunk | memoryview) -> None:
        """The next bytes."""
        if self._digest is not None:
            self._digest.update(chunk)
        else:
            self._crc32 = isal_zlib.crc32(chunk, self._crc32)

    def counted(self, crc32: int) -> None:
        """All bytes have that CRC-32: for callers that compute it anyway, instead of `update`."""
        self._crc32 = crc32

    def check(self) -> None:
        """Raises LayerDamaged: it is another tar."""
        place, found = self._place, self._digest
        if self._crc32 == place.crc32 if found is None else f"sha256:{found.hexdigest()}" == place.diff_id:
            return
        raise LayerDamaged(f"damaged layer: {place.diff_id}", hint="pull or load the images again that use it")


def send(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Job: write the tar of the place `params` to the descriptor.

    Raises:
        LayerDamaged: it is not the layer's any more; all but the last bytes of it were written.
    """
    place = TarPlace(**params)
    seal = Seal(place)
    last: Chunk = b""
    with Behind(seal.update) as looking:
        for chunk in place.chunks():
            looking.put(chunk)
            write_all(fds[0], last)
            last = chunk
    seal.check()
    write_all(fds[0], last)
    return {}
