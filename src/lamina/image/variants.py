"""What a name stands for, platform by platform: the images behind an index, and what else it lists.

A name points to one image, that of one platform; the others of the same index are here as images without names, which
the index holds: they are not dangling images, and go with the last name that stands for the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lamina.content.store import DOCUMENT_LIMIT
from lamina.errors import LaminaError
from lamina.image.model import Image, Variant
from lamina.spec import manifest, mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest

_NESTING = 4
_TYPE, _FOR = "vnd.docker.reference.type", "vnd.docker.reference.digest"


class Documents(Protocol):
    """See `content.store.ContentStore`."""

    def read(self, digest: Digest, limit: int = DOCUMENT_LIMIT) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What a manifest says for ever: its configuration, whether that is an image's, and all its blobs."""

    config: Digest
    image: bool
    blobs: tuple[Descriptor, ...]


class Variants:
    """Answers from indexes and manifests, which are read once: what has a digest does not change. Thread-safe.

    `find` gives the image of an ID, None where it is not here.
    """

    def __init__(self, content: Documents, find: Callable[[Digest], Image | None]) -> None:
        self._content, self._find = content, find
        self._indexes: dict[Digest, tuple[Descriptor, ...]] = {}
        self._manifests: dict[Digest, _Known] = {}

    def of(self, resolved: Descriptor) -> tuple[Variant, ...]:
        """What a name that was resolved to `resolved` stands for, in the index's order; of a manifest, the one image."""
        return tuple(self._walk(resolved, _NESTING, set()))

    def images(self, resolved: Descriptor) -> list[Image]:
        """The images of it that are here."""
        return [variant.image for variant in self.of(resolved) if variant.image is not None]

    def documents(self, resolved: Descriptor) -> set[Digest]:
        """What it needs beside its images' own documents, here or not: indexes, manifests, and all blobs of what is not an image."""
        needed: set[Digest] = set()
        pending, seen = [(resolved, _NESTING)], set[tuple[Digest, int]]()
        while pending:
            entry, nesting = pending.pop()
            needed.add(entry.digest)
            if entry.media_type in mediatype.INDEXES:
                if (entry.digest, nesting) in seen:
                    continue
                seen.add((entry.digest, nesting))
                pending += [(child, nesting - 1) for child in self.children(entry) if nesting]
            elif (known := self._known(entry)) is not None and not known.image:
                needed.update(blob.digest for blob in known.blobs)
        return needed

    def children(self, index: Descriptor) -> tuple[Descriptor, ...]:
        """What an index lists; nothing where its document is not here or no index."""
        if index.digest not in self._indexes:
            document = self._parsed(index)
            if not isinstance(document, Index):
                return ()
            self._indexes[index.digest] = document.manifests
        return self._indexes[index.digest]

    def forget(self, gone: Iterable[Digest]) -> None:
        """These documents are not here any more."""
        for digest in gone:
            self._indexes.pop(digest, None)
            self._manifests.pop(digest, None)

    def manifest(self, entry: Descriptor) -> Manifest | None:
        """The manifest behind a descriptor, if its document is here."""
        document = self._parsed(entry)
        return document if isinstance(document, Manifest) else None

    def _walk(self, entry: Descriptor, nesting: int, seen: set[Digest]) -> Iterator[Variant]:
        """Each index once: of indexes that list the same one again and again nobody would see the end."""
        if entry.media_type in mediatype.INDEXES:
            if entry.digest not in seen:
                seen.add(entry.digest)
                for child in self.children(entry) if nesting else ():
                    yield from self._walk(child, nesting - 1, seen)
            return
        known, notes = self._known(entry), dict(entry.annotations)
        content = entry.size + sum(blob.size for blob in known.blobs) if known is not None else 0
        if notes.get(_TYPE) == "attestation-manifest" or (known is not None and not known.image):
            kind = "attestation" if _TYPE in notes else "unknown"
            yield Variant(entry, kind, None, attests=notes.get(_FOR, ""), available=known is not None, content=content)
            return
        image = self._find(known.config) if known is not None else None
        yield Variant(entry, "image", image, available=image is not None, content=content)

    def _known(self, entry: Descriptor) -> _Known | None:
        if entry.digest not in self._manifests:
            document = self._parsed(entry)
            if not isinstance(document, Manifest):
                return None
            self._manifests[entry.digest] = _Known(document.config.digest, document.of_image, (document.config, *document.layers))
        return self._manifests[entry.digest]

    def _parsed(self, entry: Descriptor) -> Manifest | Index | None:
        try:
            return manifest.parse(self._content.read(entry.digest), entry.media_type)
        except LaminaError:
            return None
