"""save: an archive of images in one of three layouts, the same bytes for the same images.

docker  blobs/sha256/…  index.json  oci-layout  manifest.json  repositories   an OCI layout that is a docker-archive too,
        as Docker writes it since version 25: every version from 1.10 loads it, podman, skopeo and umoci as well
oci     the OCI layout alone
v1      the layout before 1.10: one folder per layer with VERSION, json and layer.tar, and `repositories`
"""

from __future__ import annotations

from collections.abc import Iterable

from lamina.errors import InvalidArgument
from lamina.image.archive.chosen import Chosen
from lamina.image.archive.layout import LayoutWriter
from lamina.image.archive.oldwriter import OldWriter
from lamina.image.archive.pieces import SavePlan, Sources, unique
from lamina.image.variants import Variants
from lamina.spec.digest import Digest

FORMATS = ("docker", "oci", "v1")


def planned(chosen: Iterable[Chosen], sources: Sources, variants: Variants, form: str = "docker") -> SavePlan:
    """The archive of these images, in this order; an image that comes twice is there once, with all its names.

    Raises:
        InvalidArgument: there is no such format.
    """
    if form not in FORMATS:
        raise InvalidArgument(f"unknown archive format: {form[:50]!r}", hint=f"there are {', '.join(FORMATS)}")
    images: dict[tuple[Digest, ...], Chosen] = {}
    for each in chosen:
        before = images.get(each.key)
        images[each.key] = each if before is None else before.with_names(each.names)
    writer = OldWriter(sources.layers) if form == "v1" else LayoutWriter(sources, variants, docker=form == "docker")
    for each in images.values():
        writer.add(each)
    keeps = unique(
        digest for each in images.values() for image in each.images for digest in (image.id, image.manifest.digest, *image.layers)
    )
    return SavePlan(writer.finished(), sources, keeps)


__all__ = ["FORMATS", "Chosen", "SavePlan", "planned"]
