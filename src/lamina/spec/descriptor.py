"""Content descriptors (image-spec descriptor.md)."""

from __future__ import annotations

from dataclasses import dataclass

from lamina.spec.digest import Digest
from lamina.spec.platform import Platform


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a blob exactly. `size` is in bytes, of the bytes that `digest` is of."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    urls: tuple[str, ...] = ()
