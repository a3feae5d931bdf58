"""system check: everything the store holds is looked at, bytes too; what can be made anew is, if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lamina.content.store import BlobNotFound, ContentStore
from lamina.errors import LaminaError
from lamina.image.catalog import Catalog
from lamina.image.layers import Layers
from lamina.image.model import Image, LayerFacts
from lamina.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be: `what` names it, `repaired` says whether it is put right now."""

    what: str
    repaired: bool = False


def check(catalog: Catalog, layers: Layers, content: ContentStore, *, repair: bool = False) -> Iterator[Problem]:
    """Look at every layer, image and blob; hashes everything, so it takes as long as reading the disk.

    With `repair`, the files that a driver makes of a layer are made anew from its tar. What has lost its bytes is only
    named: it comes back by pull or load.
    """
    for facts in layers.all():
        yield from _layer(facts, layers, content, repair=repair)
    for image in catalog.all():
        yield from _image(image, layers, content)
    known = {facts.diff_id for facts in layers.all()} | {source.digest for facts in layers.all() for source in facts.sources}
    for blob in list(content.walk()):
        if blob.digest not in known:
            yield from _failure(lambda digest=blob.digest: content.verify(digest))  # type: ignore[misc]


def _layer(facts: LayerFacts, layers: Layers, content: ContentStore, *, repair: bool) -> Iterator[Problem]:
    sound = True
    for digest in (facts.diff_id, *(source.digest for source in facts.sources)):
        with suppress(BlobNotFound):
            content.stat(digest)
            for problem in _failure(lambda digest=digest: content.verify(digest)):  # type: ignore[misc]
                sound = False
                yield Problem(f"layer {facts.id}: {problem.what}")
    try:
        layers.driver.check(facts.name, deep=True)
    except LaminaError as error:
        repaired = sound and repair and not [*_failure(lambda: layers.remake(facts.id))]
        yield Problem(f"layer {facts.id}: {error.message}", repaired)


def _image(image: Image, layers: Layers, content: ContentStore) -> Iterator[Problem]:
    wanted: tuple[tuple[str, Callable[[], object]], ...] = (
        ("its configuration", lambda: content.read(image.id)),
        ("its manifest", lambda: content.read(image.manifest.digest)),
        ("its layers", lambda: layers.chain(_top(image))),
    )
    for what, look in wanted:
        for problem in _failure(look):
            yield Problem(f"image {image.id}, {what}: {problem.what}")


def _top(image: Image) -> Digest | None:
    return image.layers[-1] if image.layers else None


def _failure(look: Callable[[], object]) -> Iterator[Problem]:
    """The problem that looking at something brings up, if any."""
    try:
        look()
    except LaminaError as error:
        yield Problem(error.message)
