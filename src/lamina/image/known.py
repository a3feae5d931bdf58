"""What images there are and what they are called, in memory: the questions, and the changes without their files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lamina.content.files import disk_bytes
from lamina.image.model import Image, ImageNotFound
from lamina.image.twins import document_path
from lamina.image.variants import Documents, Variants
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference


class Known:
    """All images and names. Thread-safe; `lock` makes several calls one step. `directory` is where their records lie."""

    def __init__(self, directory: str, content: Documents) -> None:
        self.directory = directory
        self.lock = threading.RLock()
        self._images: dict[Digest, Image] = {}
        self.variants = Variants(content, self._images.get)
        self._names: dict[Reference, tuple[Digest, Descriptor]] = {}

    def all(self) -> list[Image]:
        """All images, intermediate ones too, in no order."""
        with self.lock:
            return list(self._images.values())

    def get(self, image: Digest) -> Image:
        """Raises ImageNotFound."""
        try:
            return self._images[image]
        except KeyError:
            raise ImageNotFound(f"No such image: {image}") from None

    def has(self, image: Digest) -> bool:
        """Whether the image is known here."""
        return image in self._images

    def named(self, name: Reference) -> tuple[Image, Descriptor] | None:
        """The image of that full name (a tag or a digest, not both), and the descriptor it was resolved to."""
        with self.lock:
            found = self._names.get(name)
            return (self._images[found[0]], found[1]) if found else None

    def names(self) -> list[tuple[Reference, Digest, Descriptor]]:
        """All names."""
        with self.lock:
            return [(name, image, descriptor) for name, (image, descriptor) in self._names.items()]

    def starting_with(self, encoded: str) -> list[Image]:
        """The images whose ID's hex part begins so."""
        with self.lock:
            return [image for image in self._images.values() if image.id.encoded.startswith(encoded)]

    def children(self, image: Digest) -> list[Digest]:
        """The images that were built from this one."""
        with self.lock:
            return [other.id for other in self._images.values() if other.parent == image]

    def parents(self) -> set[Digest]:
        """The images from which others were built."""
        with self.lock:
            return {image.parent for image in self._images.values() if image.parent is not None}

    def held(self) -> set[Digest]:
        """The images that names of others stand for too: those of other platforms in the same index."""
        with self.lock:
            indexes = {(image, resolved) for image, resolved in self._names.values() if resolved.media_type in mediatype.INDEXES}
            return set().union(*({each.id for each in self.variants.images(index)} - {image} for image, index in indexes))

    def blobs(self) -> set[Digest]:
        """The documents that images and names need: configurations, manifests, indexes and what else these list."""
        with self.lock:
            documents = {image.id for image in self._images.values()} | {image.manifest.digest for image in self._images.values()}
            resolved = {descriptor for _, descriptor in self._names.values()}
            return documents.union(*(self.variants.documents(descriptor) for descriptor in resolved))

    def record_usage(self, image: Digest) -> int:
        """Bytes on disk of what is known of an image."""
        return disk_bytes(document_path(self.directory, str(image)))

    def record_time(self, image: Digest) -> float:
        """When what is known of an image was written or noted as used, seconds since 1970."""
        try:
            return os.stat(document_path(self.directory, str(image))).st_mtime
        except FileNotFoundError:
            return 0.0

    def settle(self) -> None:
        """Return when all files take on disk what they will take: until it is written, a file takes less."""

    def name(self, image: Digest, names: Sequence[tuple[Reference, Descriptor]], tagged: float) -> Image:
        """Give an image more names; they leave the images that had them. Raises ImageNotFound."""
        with self.lock:
            self._images[image] = replace(self.get(image), tagged=tagged)
            self._take_names(image, names)
            return self._images[image]

    def unname(self, names: Iterable[Reference]) -> None:
        """Forget names; unknown ones are passed over."""
        with self.lock:
            self._refresh({self._names.pop(name)[0] for name in names if name in self._names})

    def remove(self, image: Digest) -> None:
        """Forget an image and all its names; its blobs and layers are the collector's."""
        with self.lock:
            del self._images[image]
            for name in [name for name, (owner, _) in self._names.items() if owner == image]:
                del self._names[name]

    def _take_names(self, image: Digest, names: Sequence[tuple[Reference, Descriptor]]) -> None:
        touched = {image}
        for name, descriptor in names:
            if name in self._names:
                touched.add(self._names[name][0])
            self._names[name] = (image, descriptor)
        if names:
            self._refresh(touched)

    def _refresh(self, images: Iterable[Digest]) -> None:
        """Make the names in the images what `_names` says."""
        wanted = set(images)
        tags: dict[Digest, list[Reference]] = {image: [] for image in wanted}
        digests: dict[Digest, list[Reference]] = {image: [] for image in wanted}
        for name, (owner, _) in self._names.items():
            if owner in wanted:
                (digests if name.digest else tags)[owner].append(name)
        for image in wanted:
            if image in self._images:
                changed = replace(
                    self._images[image], names=tuple(sorted(tags[image], key=str)), digests=tuple(sorted(digests[image], key=str))
                )
                self._images[image] = changed
