"""The exact tar of a layer, for workers: from its blob, put together again by the storage driver, or out of a compressed form."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lamina.image.tarbytes import decompressed
from lamina.layer.errors import LayerDamaged
from lamina.layer.skeleton import rebuilt
from lamina.layer.stream import Behind, even
from lamina.snapshot.protocol import Rebuilt
from lamina.worker.workers import Report

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TarPlace:
    """Where a layer's tar is to be had: a file, compressed or not, or what it is put together from."""

    diff_id: str
    path: str = ""
    compression: str = ""
    skeleton: str = ""
    tree: str = ""

    @classmethod
    def of(cls, diff_id: str, parts: Rebuilt) -> TarPlace:
        return cls(diff_id, skeleton=parts.skeleton, tree=parts.tree)

    @property
    def plain(self) -> bool:
        """Whether `path` is the tar itself."""
        return bool(self.path) and not self.compression

    def params(self) -> dict[str, str]:
        """For `chunks`, in a worker."""
        return asdict(self)


def chunks(params: Mapping[str, str]) -> Iterator[bytes]:
    """The tar that `TarPlace.params` describe, in pieces of a megabyte, the last one shorter. Its digest is for the caller to compare.

    Raises:
        LayerDamaged, Corrupt: it cannot be had.
    """
    place = TarPlace(**params)
    if place.skeleton:
        yield from even(rebuilt(place.skeleton, place.tree))
        return
    with decompressed(open(place.path, "rb", buffering=0), place.compression) as file:
        yield from even(iter(lambda: file.read(_CHUNK), b""))


def send(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Job: write the tar to the descriptor.

    Raises:
        LayerDamaged: it does not have its digest any more; all but the last bytes of it were written.
    """
    digest, last = hashlib.sha256(), b""
    with Behind(digest.update) as hashing:
        for chunk in chunks(params):
            hashing.put(chunk)
            _write(fds[0], last)
            last = chunk
    check(params["diff_id"], f"sha256:{digest.hexdigest()}")
    _write(fds[0], last)
    return {}


def check(diff_id: str, found: str) -> None:
    """Raises LayerDamaged: a layer's tar has the digest `found` instead of `diff_id`."""
    if found != diff_id:
        raise LayerDamaged(f"damaged layer: {diff_id}", hint="remove the images that use it and pull or load them again")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
