"""The build cache: what a vertex came to last time. Keys are digests of vertices; values name layers and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lamina.errors import NotFound
from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.spec.digest import Digest
from lamina.spec.strict import readable


class Records(Protocol):
    """Where records lie (image.metadata.Metadata). A record goes when an image it keeps goes."""

    def cache_get(self, key: str) -> dict[str, Any] | None: ...

    def cache_put(self, key: str, value: dict[str, Any], keeps: Sequence[Digest] = ()) -> None: ...


class ImageSource(Protocol):
    """Finds images (image.store.Images)."""

    def resolve(self, text: str) -> Image: ...


class LayerSource(Protocol):
    """Finds layers (image.layers.Layers)."""

    def find(self, parent: Digest | None, diff_id: Digest) -> LayerFacts | None: ...

    def reuse(self, parent: Digest | None, diff_id: Digest, note: LayerNote) -> LayerFacts | None: ...


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an exec or copy vertex came to; `layer` None means that it changed no file."""

    layer: LayerFacts | None


class Cache:
    """Thread-safe as far as its parts are. What a record names and is not here any more counts as never remembered."""

    def __init__(self, records: Records, images: ImageSource, layers: LayerSource) -> None:
        self._records, self._images, self._layers = records, images, layers

    def image(self, step: Digest) -> Image | None:
        """The image that this step made."""
        record = self._records.cache_get(f"step:{step}")
        if record is None:
            return None
        try:
            return self._images.resolve(str(record["image"]))
        except NotFound:
            return None

    def put_image(self, step: Digest, image: Image) -> None:
        """Remember what a step made."""
        self._records.cache_put(f"step:{step}", {"image": str(image.id)}, [image.id])

    def layer(self, work: Digest, parent: Digest | None, note: LayerNote | None = None) -> Remembered | None:
        """What this work came to on the stack `parent`; None if it was never done, or its layer is gone.

        With a `note` its layer may lie on another stack: it is put on this one.
        """
        record = self._records.cache_get(f"work:{work}")
        if record is None:
            return None
        if record["diff_id"] is None:
            return Remembered(None)
        diff_id = Digest.parse(record["diff_id"])
        facts = self._layers.find(parent, diff_id) or (self._layers.reuse(parent, diff_id, note) if note else None)
        return Remembered(facts) if facts else None

    def put_layer(self, work: Digest, layer: LayerFacts | None, image: Image) -> None:
        """Remember what work came to; `image` is one that keeps the layer alive."""
        self._records.cache_put(f"work:{work}", {"diff_id": str(layer.diff_id) if layer else None}, [image.id])

    def selection(self, key: Digest) -> dict[str, Any] | None:
        """What paths of a stack of layers came to (`copying.digest_job`)."""
        return self._records.cache_get(f"selection:{key}")

    def put_selection(self, key: Digest, facts: dict[str, Any], image: Digest) -> None:
        """Remember what paths came to, as long as an image that stands on the stack is here."""
        self._records.cache_put(f"selection:{key}", facts, [image])

    def remote(self, address: str) -> dict[str, Any] | None:
        """What a server said of an address last time (`fetching.Fetcher`)."""
        return self._records.cache_get(f"remote:{address}")

    def put_remote(self, address: str, facts: dict[str, Any]) -> None:
        """Remember what a server says of an address."""
        self._records.cache_put(f"remote:{address}", facts)

    def account(self, key: str) -> dict[str, Any] | None:
        """What a step of that place or text depended on last time (`explain`)."""
        return self._records.cache_get(f"account:{key}")

    def put_account(self, key: str, facts: dict[str, Any], image: Image) -> None:
        """Remember what a step depended on, as long as what it made is here."""
        self._records.cache_put(f"account:{key}", readable(facts), [image.id])

    def manifest(self, files: str) -> str:
        """What each path of files of that digest came to (`manifest.packed`); "" where that is not known."""
        record = self._records.cache_get(f"files:{files}")
        return str(record["manifest"]) if record else ""

    def put_manifest(self, files: str, manifest: str, image: Image) -> None:
        """Remember what each path came to."""
        self._records.cache_put(f"files:{files}", {"manifest": manifest}, [image.id])
