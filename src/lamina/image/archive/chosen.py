"""What is to be saved."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lamina.image.model import Image
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference


@dataclass(frozen=True, slots=True)
class Chosen:
    """Images to be saved under the same names, one a platform; the first is the one that layouts of one platform get.

    `resolved` is what the names stand for: the first image's manifest, or the index that lists all of them.
    """

    images: tuple[Image, ...]
    names: tuple[Reference, ...]
    resolved: Descriptor

    @property
    def key(self) -> tuple[Digest, ...]:
        """What is the same for the same images behind the same index."""
        return (self.resolved.digest, *(image.id for image in self.images)) if len(self.images) > 1 else (self.images[0].id,)

    def with_names(self, names: tuple[Reference, ...]) -> Chosen:
        """With these names too."""
        return replace(self, names=tuple(dict.fromkeys((*self.names, *names))))
